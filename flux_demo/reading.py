"""Numbers, sizes, JSON and base64 as people and programs write them: one reader for the page, its API, links, the command line, lists and grids.

Only the digits 0 to 9 count, as in ``parse_seed`` and ``Size.parse``; ``int`` and ``float`` alone would read those of every script.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.modes import MATCH, Mode
from flux_demo.request import Size, SizeLimits


def parse_number(text: str) -> int | float:
    """Any number, however large: the request decides whether it can be used. Raises ValueError."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if math.isnan(value):
        raise ValueError(text)
    return value


def as_int(value: Any) -> Any:
    """28.0 as 28, since browsers and JSON know one kind of number; anything else as it is, to be refused in words."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_json(text: str | bytes | bytearray, **options: Any) -> Any:
    """JSON without NaN and Infinity, which are Python's own. ``options`` are those of ``json.loads``. Raises ValueError, RecursionError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse, **options)


def parse_base64(text: str) -> bytes:
    """What the text encodes. Line breaks, which some encoders add, are allowed, and nothing else beside the alphabet. Raises ValueError."""
    return base64.b64decode("".join(text.split()), validate=True)


def parse_size(text: Any, mode: Mode | None = None, limits: SizeLimits | None = None) -> Size | str | None:
    """A size, "match" in either case, or None for an empty text, which is a size that was left out. Raises InvalidRequest.

    With a ``mode``, "match" is refused where that has no photo; with ``limits``, a size that they do not take.
    """
    if isinstance(text, Size):
        return text
    word = "" if text is None else str(text).strip()
    if (matches := word.lower() == MATCH) and mode and mode.control is None:
        raise InvalidRequest(
            f"The {mode.name} mode has no photo whose shape the size could match. Give the size as WIDTHxHEIGHT, or leave it out."
        )
    return MATCH if matches else (limits or Size).parse(word) if word else None
