"""What a self-hosted NIM reports about itself: whether it is ready, which fields its requests have, which modes it serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flux_demo.backends.nvidia import own_service
from flux_demo.backends.nvidia.errors import NIM, failure
from flux_demo.backends.nvidia.pace import RETRY_STATUSES
from flux_demo.backends.nvidia.schema import Limits, read_limits, read_schema
from flux_demo.errors import ConnectionLost, FluxDemoError, NoConnection, Unreachable
from flux_demo.modes import Mode

if TYPE_CHECKING:
    from flux_demo.backends.nvidia.client import Connection

MAX_SCHEMA = 4 * 2**20  # bytes
UNREACHABLE = "Nothing answers at FLUX_DEMO_NIM_URL{}. Start the container, or correct the address."
CUT_OFF = (
    "What listens at FLUX_DEMO_NIM_URL{} closes the connection without an answer. "
    "Wait if the container is still starting; if it expects https://, begin the address with that."
)
NOT_READY = (
    "Your NIM is still starting: the first start downloads the weights and takes 20 minutes or more. "
    'Wait until its log says "Pipeline warmup: done", and try again.'
)
BUSY = "Your NIM was too busy to say whether it accepts ready-made maps. Try again in a few seconds."
NOT_A_NIM = "The server at FLUX_DEMO_NIM_URL is not a NIM. Set it to the container's address, for example http://localhost:8000."


@dataclass(frozen=True)
class Container:
    """What one probe found out about a NIM."""

    problem: str | None = None  # why nothing can run there now
    fields: frozenset[str] = frozenset()  # of a request; empty if the NIM does not say
    modes: frozenset[str] = frozenset()  # by NVIDIA's names; empty if the NIM does not say
    limits: Limits = field(default_factory=Limits)
    has_schema: bool = True  # False if its schema did not arrive, so that it has to be asked again

    def problem_for(self, mode: Mode) -> str | None:
        """Why the mode cannot run there, as a sentence; None if it can."""
        if self.problem:
            return self.problem
        if self.modes and mode.nim not in self.modes:
            return own_service.in_its_words(self.limits.refused[mode.nim]) if mode.nim in self.limits.refused else missing_variant(mode)
        if mode.control is not None and "preprocess_image" not in self.fields:
            if not self.has_schema:
                return BUSY
            return (
                "Your NIM does not say that it accepts ready-made maps (preprocess_image), so it would draw a map of the map. "
                "Use a newer container, 1.2 or later."
            )
        return None


def missing_variant(mode: Mode) -> str:
    return f"Your NIM was started without the {mode.nim} variant. Restart it with NIM_MODEL_VARIANT={mode.nim}."


def probe(connection: Connection, url: str, on_wait: Callable[[], None], known: Container | None) -> Container:
    """Ask the NIM what it is. Takes at most twice ``Pace.probe`` seconds, and calls ``on_wait`` meanwhile.

    ``known``: what an earlier probe found out, which a NIM that is busy now has not taken back.
    """
    try:
        return connection.run(_probe(connection, url, known), on_wait, 2 * connection.pace.probe)
    except FluxDemoError as error:
        if known and not known.problem:
            return replace(known, has_schema=False)
        if isinstance(error, NoConnection):
            return Container(problem=UNREACHABLE.format(connection.through(url)))
        if isinstance(error, ConnectionLost):
            return Container(problem=CUT_OFF.format(connection.through(url)))
        return Container(problem=error.text if isinstance(error, Unreachable) else NOT_A_NIM)  # else: a body that is no NIM's


async def _probe(connection: Connection, url: str, known: Container | None) -> Container:
    ready = await connection.ask("GET", f"{url}/v1/health/ready", limit=MAX_SCHEMA, timeout_s=connection.pace.probe)
    if ready.status in (404, 405) or 300 <= ready.status < 400:
        return Container(problem=NOT_A_NIM)
    if ready.status in (500, 503):  # the status alone decides: the bodies of NIMs differ between releases
        return Container(problem=own_service.refusal(ready, "reason") or NOT_READY)
    if ready.status != 200:
        return Container(problem=str(failure(NIM, ready.status, ready.body)))
    later = replace(known or Container(), problem=None, has_schema=False)
    try:
        schema = await connection.ask("GET", f"{url}/openapi.json", limit=MAX_SCHEMA, timeout_s=connection.pace.probe)
        if schema.status in RETRY_STATUSES:
            return later
        document = json.loads(schema.body) if schema.status == 200 else None
        fields, modes = read_schema(document)
        return Container(fields=fields, modes=modes, limits=read_limits(document))
    except Unreachable:
        return later
    except (FluxDemoError, ValueError, RecursionError):
        return Container()  # a NIM without a readable schema can still run the text mode
