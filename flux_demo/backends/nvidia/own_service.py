"""What this program's own service says beyond what a NIM does: values in headers of its own. The service writes them, the client reads them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from urllib.parse import quote, unquote

from flux_demo.backends.nvidia.schema import printable

PREFIX = "X-Flux-Demo-"
UNCHANGED = string.punctuation.replace("%", "") + " "  # besides letters and digits; all else is percent-encoded, for headers are ASCII
MAX_SENTENCE = 1000  # characters


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
