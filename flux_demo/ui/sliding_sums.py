"""What each network address did a short while ago."""

import time
from collections import Counter, deque


class SlidingSums:
    """A sum for each address, of what it added within the last seconds."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._added: deque[tuple[float, str, int]] = deque()  # oldest first
        self._sums: Counter[str] = Counter()

    def add(self, address: str, amount: int) -> None:
        self._added.append((time.monotonic(), address, amount))
        self._sums[address] += amount

    def sum(self, address: str) -> int:
        while self._added and self._added[0][0] <= time.monotonic() - self._within_s:
            _, each, amount = self._added.popleft()
            self._sums[each] -= amount
            if not self._sums[each]:
                del self._sums[each]
        return self._sums[address]
