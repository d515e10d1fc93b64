"""What is said about images: the words that the mini does not know, and the notes of runs, each once."""

from __future__ import annotations

from collections.abc import Iterable

from flux_demo.backends import Route
from flux_demo.modes import Mode


class Notes:
    """The notes of many images: most of them say the same."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def new(self, notes: Iterable[str]) -> list[str]:
        """Those that no image before said."""
        new = [note for note in notes if note not in self._said]
        self._said.update(new)
        return new


def what_is_not_known(prompt: str, mode: Mode, route: Route) -> list[str]:
    """A sentence that names the words which the mini does not know; none where it knows them all, or another model runs."""
    from flux_demo.mini_vocabulary import unknown_words, what_it_knows

    unknown = unknown_words(prompt) if route.runs_mini(mode) else []
    return [f"The mini does not know: {', '.join(unknown[:8])}. {what_it_knows()}"] if unknown else []
