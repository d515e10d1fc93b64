"""What a NIM's /openapi.json says of its requests: fields, modes, and the limits of sizes, steps and guidance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.modes import DEFAULT_SIZES
from flux_demo.request import SIDE_STEP, Size, SizeLimits

MAX_DEPTH = 6  # references followed in a schema, which may refer to itself
MAX_SENTENCE = 1000  # characters that a service of one's own may say at once
MAX_VALUES = 10_000  # of one field
SIZE_LIMITS = SizeLimits(range(768, 1345, 64), 1344**2, DEFAULT_SIZES)  # sides: the ten values in the services' own lists


@dataclass(frozen=True)
class Limits:
    """What a service accepts. The defaults are those of NVIDIA's own services."""

    sizes: SizeLimits = SIZE_LIMITS
    steps: range = range(5, 101)
    guidance: tuple[float, float] = (1.0, 9.0)
    guidance_open: bool = True  # the lower end is not itself allowed
    defaults: Mapping[str, tuple[float, int]] = field(default_factory=dict)  # NVIDIA's name of a mode -> guidance and steps
    models: Mapping[str, str] = field(default_factory=dict)  # of this program's own service, by the same names; none for a NIM of NVIDIA's
    refused: Mapping[str, str] = field(default_factory=dict)  # of this program's own service: the modes that it cannot run, and why
    concurrency: int | None = None  # how many requests this program's own service works on at once


def read_schema(document: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of ``/v1/infer`` and the modes it lists, from an OpenAPI document; empty where the document does not say."""
    for schema in _bodies(document):
        fields, modes = _fields_and_modes(schema, document)
        if fields & {"prompt", "text_prompts"}:
            return fields, modes
    return frozenset(), frozenset()


def read_limits(document: Any) -> Limits:
    """The limits of ``/v1/infer``, from the same document; what it does not say is as NVIDIA's own services have it."""
    limits = Limits()
    for schema in _bodies(document):
        if not _fields_and_modes(schema, document)[0] & {"prompt", "text_prompts"}:
            continue
        for part in _parts(schema, document):
            if isinstance(properties := part.get("properties"), dict):
                limits = _with_properties(limits, properties, document)
            if isinstance(extension := part.get("x-flux-demo"), dict):
                limits = _with_extension(limits, extension)
        return limits
    return limits


def _with_properties(limits: Limits, properties: dict[str, Any], document: Any) -> Limits:
    limits = _with_sides(limits, *(_whole_numbers(properties.get(name), document) for name in ("width", "height")))
    if steps := _whole_numbers(properties.get("steps"), document):
        limits = replace(limits, steps=steps)
    for choice in _parts(properties.get("cfg_scale"), document):
        (low, above), (high, below) = _ends(choice)
        if _is_number(low) and _is_number(high):
            high = round(high - 0.1, 6) if below else high  # Dials have no open upper end, and the page's slider goes in tenths
            if low < high or (low == high and not above):
                limits = replace(limits, guidance=(float(low), float(high)), guidance_open=above)
    return limits


def _with_sides(limits: Limits, widths: range | None, heights: range | None) -> Limits:
    if not (widths or heights):
        return limits
    known = limits.sizes
    widths, heights = widths or known.sides, heights or known.heights or known.sides
    offered = tuple(size for size in DEFAULT_SIZES if size.width in widths and size.height in heights)
    if not offered:
        possible = [[side for side in sides if side % SIDE_STEP == 0] for sides in (widths, heights)]
        if not all(possible):
            return limits
        offered = (Size(*(min(sides, key=lambda side: abs(side - 1024)) for sides in possible)),)
    most = widths[-1] * heights[-1]
    return replace(limits, sizes=SizeLimits(widths, most, offered, heights if heights != widths else None))


def _with_extension(limits: Limits, extension: dict[str, Any]) -> Limits:
    """What this program's own service says beyond a NIM: its sizes, its pixels, each mode's defaults and model or why it cannot run, and how many it takes at once."""
    try:
        sizes = tuple(Size.parse(text) for text in extension["sizes"])
        pixels = extension["max_pixels"]
        known = replace(limits.sizes, sizes=sizes, max_pixels=pixels)
        for size in sizes:
            known.check(size)
        defaults = {str(name): (float(row["cfg_scale"]), int(row["steps"])) for name, row in extension["defaults"].items()}
        models = {str(name): printable(model) for name, model in extension["models"].items()}
        concurrency = extension["concurrency"]
        if type(concurrency) is not int or concurrency < 1:
            raise ValueError("not a number of requests")
        refused = {str(name): printable(reason, MAX_SENTENCE) for name, reason in extension.get("refused", {}).items()}
        return replace(limits, sizes=known, defaults=defaults, models=models, refused=refused, concurrency=concurrency)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidRequest):
        return limits


def _whole_numbers(schema: Any, document: Any) -> range | None:
    """The whole numbers that a schema allows, if they are evenly spaced and not too many to be meant."""
    parts = list(_parts(schema, document))
    constants = [part["const"] for part in parts if "const" in part]
    for part in [{"enum": constants}] if constants else parts:
        values = part.get("enum")
        if not isinstance(values, list):
            (least, above), (most, below) = _ends(part)
            step: Any = part.get("multipleOf", 1)
            if not all(type(value) is int for value in (least, most, step)):
                continue
            least, most = least + above, most - below
            if least < 1 or step < 1:
                continue
            values = list(range(-(-least // step) * step, most + 1, step)) if (most - least) // step < MAX_VALUES else []
        if not values or not all(type(value) is int and value > 0 for value in values):
            continue
        values = sorted(set(values))
        found = range(values[0], values[-1] + 1, values[1] - values[0] if len(values) > 1 else 1)
        if list(found) == values:
            return found
    return None


def _ends(schema: dict[str, Any]) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
    """The least and the greatest value of a schema, each with whether it is itself left out, as OpenAPI 3.1 or 3.0 writes it."""

    def end(name: str) -> tuple[Any, bool]:
        value, exclusive = schema.get(name.lower()), schema.get(f"exclusive{name}")
        return (exclusive, True) if _is_number(exclusive) else (value, exclusive is True)

    return end("Minimum"), end("Maximum")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def printable(text: Any, most: int = 200) -> str:
    """A service's own short word, fit to be shown. Raises ValueError for anything else."""
    if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= most:
        raise ValueError("not a short text")
    return text


def _bodies(document: Any) -> Iterator[Any]:
    """Schemas that may be the request's, the likeliest first."""
    body = _at(document, "paths", "/v1/infer", "post", "requestBody")
    yield from (_at(part, "content", "application/json", "schema") for part in _parts(body, document))
    named = _at(document, "components", "schemas")
    yield from named.values() if isinstance(named, dict) else ()


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
