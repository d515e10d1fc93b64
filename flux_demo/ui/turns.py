"""Turns at drawing live maps. They are drawn without Gradio's queue, which costs a slider's map a second request, so they queue here."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flux_demo.errors import InvalidRequest

AT_ONCE = 2  # maps that are drawn at the same time
WAITING = {"address": 8, "all": 16}  # each holds one of Gradio's threads; an honest page has one waiting in each tab


class Turns:
    """Lets a few draw at once and some wait."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()  # by address, those that draw among them

    @contextmanager
    def turn(self, address: str) -> Iterator[None]:
        """Hold while a map is drawn. Raises InvalidRequest while too many wait."""
        with self._lock:
            if self._taken[address] >= WAITING["address"] or self._taken.total() >= WAITING["all"]:
                raise InvalidRequest("Too many maps are being drawn at the moment. Change the setting again in a moment.")
            self._taken[address] += 1
        try:
            with self._free:
                yield
        finally:
            with self._lock:
                self._taken[address] -= 1
                self._taken += Counter()  # drops those that are zero
