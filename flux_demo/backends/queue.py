"""The queue in which runs wait for a backend: first come, first served, as many at once as the backend takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flux_demo.background import HEARTBEAT_S
from flux_demo.progress import OnStatus, Phase, Status


class RunQueue:
    """The runs of one backend, from the page, the command line and Python alike."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency  # runs at once
        self._runs: list[object] = []  # those under way first, then those that wait
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, on_status: OnStatus) -> Iterator[None]:
        """Wait for a place and hold it until the end of the block; ``on_status`` hears how many runs are ahead, and may raise to leave."""
        run = object()
        with self._lock:
            self._runs.append(run)
        try:
            while ahead := self._ahead(run):
                on_status(Status(Phase.QUEUED, "1 image ahead of you" if ahead == 1 else f"{ahead} images ahead of you"))
                time.sleep(HEARTBEAT_S)
            yield
        finally:
            with self._lock:
                self._runs.remove(run)

    def _ahead(self, run: object) -> int:
        """How many runs must end before this one begins."""
        with self._lock:
            return max(0, self._runs.index(run) + 1 - self.concurrency)
