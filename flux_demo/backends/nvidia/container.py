"""What a self-hosted NIM reports about itself: whether it is ready, which fields its requests have, which modes it serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flux_demo.errors import FluxDemoError
from flux_demo.modes import Mode

if TYPE_CHECKING:
    from flux_demo.backends.nvidia.client import Connection

MAX_SCHEMA = 4 * 2**20  # bytes
MAX_DEPTH = 6  # references followed in a schema; they may form a cycle
UNREACHABLE = "Nothing answers at FLUX_DEMO_NIM_URL. Start the container, or correct the address."
NOT_READY = (
    "Your NIM is still starting: the first start downloads the weights and takes 20 minutes or more. "
    'Wait until its log says "Pipeline warmup: done", and try again.'
)
NOT_A_NIM = "The server at FLUX_DEMO_NIM_URL is not a NIM. Set it to the container's address, for example http://localhost:8000."


@dataclass(frozen=True)
class Container:
    """What one probe found out about a NIM."""

    problem: str | None = None  # why nothing can run there now
    fields: frozenset[str] = frozenset()  # of a request; empty if the NIM does not say
    modes: frozenset[str] = frozenset()  # by NVIDIA's names; empty if the NIM does not say

    def problem_for(self, mode: Mode) -> str | None:
        """Why the mode cannot run there, as a sentence; None if it can."""
        if self.problem:
            return self.problem
        if self.modes and mode.nim not in self.modes:
            return missing_variant(mode)
        if mode.control is not None and "preprocess_image" not in self.fields:
            return (
                "Your NIM does not say that it accepts ready-made maps (preprocess_image), so it would draw a map of the map. "
                "Use a newer container, 1.2 or later."
            )
        return None


def missing_variant(mode: Mode) -> str:
    return f"Your NIM was started without the {mode.nim} variant. Restart it with NIM_MODEL_VARIANT={mode.nim}."


def probe(connection: Connection, url: str, on_wait: Callable[[], None]) -> Container:
    """Ask the NIM what it is. Takes at most twice ``Pace.probe`` seconds, and calls ``on_wait`` meanwhile."""
    probe_s = connection.pace.probe
    try:
        return connection.run(_probe(connection, url), on_wait, 2 * probe_s)
    except FluxDemoError:
        return Container(problem=UNREACHABLE)


async def _probe(connection: Connection, url: str) -> Container:
    ready = await connection.ask("GET", f"{url}/v1/health/ready", limit=MAX_SCHEMA, timeout_s=connection.pace.probe)
    if ready.status in (404, 405) or 300 <= ready.status < 400:
        return Container(problem=NOT_A_NIM)
    if ready.status != 200:  # the status alone decides: the bodies differ between releases
        return Container(problem=NOT_READY)
    container = Container()
    try:
        schema = await connection.ask("GET", f"{url}/openapi.json", limit=MAX_SCHEMA, timeout_s=connection.pace.probe)
        if schema.status == 200:
            fields, modes = read_schema(json.loads(schema.body))
            container = replace(container, fields=fields, modes=modes)
    except (FluxDemoError, ValueError, RecursionError):
        pass  # a NIM without a readable schema can still run the text mode
    return container


def read_schema(document: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of ``/v1/infer`` and the modes it lists, from an OpenAPI document; empty where the document does not say."""
    body = _at(document, "paths", "/v1/infer", "post", "requestBody")
    bodies = [_at(part, "content", "application/json", "schema") for part in _parts(body, document)]
    named = _at(document, "components", "schemas")
    for schema in (*bodies, *(named.values() if isinstance(named, dict) else ())):
        fields, modes = _fields_and_modes(schema, document)
        if fields & {"prompt", "text_prompts"}:
            return fields, modes
    return frozenset(), frozenset()


def _fields_and_modes(schema: Any, document: Any) -> tuple[frozenset[str], frozenset[str]]:
    fields: set[str] = set()
    modes: set[str] = set()
    for part in _parts(schema, document):
        properties = part.get("properties")
        if isinstance(properties, dict):
            fields.update(map(str, properties))
            for choice in _parts(properties.get("mode"), document):
                values = choice.get("enum", [choice.get("const")])
                modes.update(value for value in values if isinstance(value, str)) if isinstance(values, list) else None
    return frozenset(fields), frozenset(modes)


def _parts(schema: Any, document: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """A schema, and every schema that it refers to or is composed of."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        yield from _parts(_at(document, *reference[2:].split("/")), document, depth + 1)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema[keyword] if isinstance(schema.get(keyword), list) else ():
            yield from _parts(part, document, depth + 1)


def _at(document: Any, *keys: str) -> Any:
    """The value at a path of nested keys, each unescaped as in a JSON pointer; None if there is none."""
    for key in keys:
        document = document.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(document, dict) else None
    return document
