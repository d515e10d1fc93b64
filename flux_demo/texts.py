"""Texts that are English everywhere but on the page, which says them in the visitor's language: ui/translation.py."""

from collections.abc import Iterable
from typing import Any


class Text(str):
    """An English text with values filled in that remembers what it was made of. A value may be a text of its own."""

    pattern: str
    values: dict[str, Any]

    def __new__(cls, pattern: str, /, **values: Any) -> "Text":
        made = super().__new__(cls, pattern.format(**values) if values else pattern)
        made.pattern, made.values = pattern, values
        return made


class Number(str):
    """A number as English writes it, such as 0.5 or 12.5%. On the page it is written as the visitor's language does."""


def join_sentences(*texts: str) -> str:
    """Several of them one after the other, without the empty ones."""
    return _joined("{before} {after}", [text if isinstance(text, Text) else Text(text) for text in texts])


def join_listed(texts: Iterable[str | None]) -> str:
    """A list of names or values, without the empty ones."""
    return _joined("{before}, {after}", texts)


def distinct_numbers(value: float, limit: float, decimals: int) -> tuple[Number, Number]:
    """Two numbers with that many decimals, or with as many as show that they differ."""
    for enough in range(decimals, 18):
        shown, beside = f"{value:.{enough}f}", f"{limit:.{enough}f}"
        if shown != beside or value == limit:
            break
    return Number(shown), Number(beside)


def _joined(pattern: str, texts: Iterable[str | None]) -> str:
    first, *others = [text for text in texts if text] or [""]
    for text in others:
        first = Text(pattern, before=first, after=text)
    return first
