"""Pinned main memory, from which a GPU copies while it computes. Some machines have hardly any: WSL2, containers, those that are full."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Pinning:
    """Pins memory until that fails once, and never tries again. Ordinary memory serves as well, and more slowly."""

    def __init__(self) -> None:
        self.works = True  # as far as is known

    def __call__(self, pin: Callable[[], T]) -> T | None:
        """What ``pin`` returns; None if memory cannot be pinned. Only here is a failed pin told from a full GPU: CUDA calls both "out of memory"."""
        if self.works:
            try:
                return pin()
            except (RuntimeError, MemoryError):
                self.works = False
        return None
