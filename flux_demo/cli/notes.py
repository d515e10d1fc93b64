"""The notes of runs, each said once."""

from __future__ import annotations

from collections.abc import Iterable


class Notes:
    """The notes of many images: most of them say the same."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def new(self, notes: Iterable[str]) -> list[str]:
        """Those that no image before said."""
        new = [note for note in notes if note not in self._said]
        self._said.update(new)
        return new
