"""How many images are decoded at a time, and that their memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LARGE = 24_000_000  # pixels; a larger one is decoded alone, and comes out smaller

_two = threading.Semaphore(2)
_alone = threading.Lock()


@contextmanager
def turn(pixels: int) -> Iterator[None]:
    """Wait until the process may decode an image of so many pixels: two at a time, a large one alone."""
    if pixels <= LARGE:
        with _two:
            yield
        return
    with _alone, _two, _two:  # one large one at a time waits for both places
        try:
            yield
        finally:
            give_back()


def give_back() -> None:
    """Give freed memory back now: glibc keeps blocks of a size that it has seen before."""
    trim = _malloc_trim()
    if trim:
        trim(0)


@cache
def _malloc_trim():
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
