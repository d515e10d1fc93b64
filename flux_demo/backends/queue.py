"""The line in which runs wait for a backend: first come, first served, and everybody knows how many stand before them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from flux_demo.backends import Backend

STANDING = 16  # runs at once that hold a thread of Gradio's forty: for each backend one draws, the others stand in its line


class Line:
    """One run at a time."""

    def __init__(self) -> None:
        self._standing: list[object] = []
        self._lock = threading.Lock()

    @contextmanager
    def stand(self) -> Iterator[Callable[[], int]]:
        """Stand in line, and leave it at the end of the block; what is given says how many are before this one."""
        ticket = object()
        with self._lock:
            self._standing.append(ticket)
        try:
            yield lambda: self._before(ticket)
        finally:
            with self._lock:
                self._standing.remove(ticket)

    def _before(self, ticket: object) -> int:
        with self._lock:
            return self._standing.index(ticket)


_lines: WeakKeyDictionary[Backend, Line] = WeakKeyDictionary()
_lock = threading.Lock()


def line_of(backend: Backend) -> Line:
    """The backend's line: pictures for different backends do not wait for each other."""
    with _lock:
        return _lines.setdefault(backend, Line())
