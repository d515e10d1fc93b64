"""Whether a text gives away a secret, whole or in parts, in any of the forms in which a service may repeat it."""

from __future__ import annotations

import base64
import codecs
import html
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote_plus

WINDOW = 5  # letters and digits in a row that are no coincidence: a key has 64 of them, in no order
SHORT = 3  # as many different pieces of WINDOW - 1 are none either
COMMON = ("nvapi", "hf")  # how keys begin: known to everybody


def gives_away(text: str, secret: str) -> bool:
    """True when ``text`` holds a part of ``secret``: as it is, with anything between its letters, reversed, or encoded."""
    forms = [_plain(form) for form in _forms(secret) if len(form) >= WINDOW]
    for seen in map(_plain, _readings(text)):
        for form in forms:
            pieces = _windows(form, WINDOW)
            if any(piece in seen for piece in pieces) or sum(piece in seen for piece in _windows(form, WINDOW - 1)) >= SHORT:
                return True
            if len(form) >= 4 * WINDOW and _in_order(form, seen):
                return True
    return False


def _forms(secret: str) -> Iterator[str]:
    """The secret's own part, as it is and encoded, forwards and backwards."""
    start, dash, rest = secret.partition("-") if "-" in secret else secret.partition("_")
    own = rest if dash and start.lower() in COMMON and rest else secret
    for text in (own, secret):
        raw = text.encode()
        yield from (own, own[::-1], codecs.encode(own, "rot13"), raw.hex(), raw[::-1].hex())
        for backwards in (raw, raw[::-1]):
            yield base64.b32encode(backwards).decode().rstrip("=")
            for shift in range(3):  # where the secret begins among the three bytes of a group
                encoded = base64.b64encode(b"\0" * shift + backwards).decode().rstrip("=")
                yield encoded[shift + (shift > 0) : -1]  # the characters that hold only bits of the secret
        yield base64.b64encode(base64.b64encode(raw)).decode().rstrip("=")[:-2]


def _readings(text: str) -> Iterator[str]:
    """The text as it is, and with escapes of addresses, HTML and JSON resolved."""
    for _ in range(3):
        text = unicodedata.normalize("NFKC", text)
        yield text
        resolved = html.unescape(unquote_plus(text))
        resolved = re.sub(r"\\u\{?([0-9a-fA-F]{4})\}?|\\x([0-9a-fA-F]{2})", lambda code: chr(int(code[1] or code[2], 16)), resolved)
        if resolved == text:
            return
        text = resolved


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isascii() and letter.isalnum())


def _windows(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(len(text) - size + 1)}


def _in_order(form: str, seen: str) -> bool:
    """Whether all letters of the form occur in this order, whatever stands between them."""
    letters = iter(seen[: 8 * len(form)])  # in a much longer text they always do
    return all(letter in letters for letter in form)
