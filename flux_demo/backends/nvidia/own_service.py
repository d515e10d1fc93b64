"""What this program's own service says beyond what a NIM does. The service writes its headers with this file, and the client reads them."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from flux_demo.backends.nvidia.schema import MAX_SENTENCE, printable

if TYPE_CHECKING:
    from flux_demo.backends.nvidia.client import Response

PREFIX = "X-Flux-Demo-"
UNCHANGED = string.punctuation.replace("%", "") + " "  # besides letters and digits; all else is percent-encoded, for headers are ASCII


def headers(said: Mapping[str, str | None]) -> dict[str, str]:
    """The values as headers, without those that are empty."""
    return {PREFIX + name: quote(value, safe=UNCHANGED, errors="replace") for name, value in said.items() if value}


def said(given: Mapping[str, str], name: str) -> str | None:
    """A value in the headers of an answer, whose names are in lower case; None where there is none that can be shown."""
    return next(iter(said_lines(given, name)), None)


def said_lines(given: Mapping[str, str], name: str) -> tuple[str, ...]:
    """A value's lines."""
    try:
        return tuple(printable(line, MAX_SENTENCE) for line in unquote(given.get(PREFIX.lower() + name, "")).splitlines())
    except ValueError:
        return ()


def refusal(answer: Response, key: str) -> str | None:
    """The service's own reason for an answer without an image, from that key of the body; None if another server answered."""
    if said(answer.headers, "version") is None:
        return None
    try:
        return in_its_words(printable(json.loads(answer.body)[key], MAX_SENTENCE))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def in_its_words(sentence: str) -> str:
    return f"Your service says: {sentence}"
