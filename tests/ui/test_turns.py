"""Turns at drawing live maps: a few at once, some wait, and an address that has many waiting is refused."""

import threading

import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.ui.turns import AT_ONCE, WAITING, Turns
from tests.waiting import wait_until


def test_few_draw_at_once_and_an_address_cannot_take_every_place():
    turns, go_on, lock = Turns(), threading.Event(), threading.Lock()
    drawing, most, drawn = 0, 0, 0
    full = threading.Semaphore(0)

    def draw():
        nonlocal drawing, most, drawn
        with turns.turn("a"):
            with lock:
                drawing += 1
                most = max(most, drawing)
            full.release()
            go_on.wait(90)
            with lock:
                drawing, drawn = drawing - 1, drawn + 1

    threads = [threading.Thread(target=draw) for _ in range(WAITING["address"])]
    for thread in threads:
        thread.start()
    for _ in range(AT_ONCE):
        assert full.acquire(timeout=90)
    wait_until(lambda: turns._taken["a"] == WAITING["address"])
    with pytest.raises(InvalidRequest, match="Too many maps"), turns.turn("a"):
        pass
    go_on.set()
    for thread in threads:
        thread.join(90)
    assert (most, drawn) == (AT_ONCE, WAITING["address"])
    with turns.turn("a"):  # every place was given back
        pass
