"""Runs wait for their backend in the order in which they came; each knows its place, and leaving moves the others up."""

import threading
import types

import pytest

from flux_demo.backends.queue import Line, line_of
from flux_demo.errors import Cancelled
from flux_demo.request import GenerationRequest
from flux_demo.ui.run import Step, Waiting, follow


class Slow:
    """A studio with one backend that draws until it is let go."""

    def __init__(self):
        self.go, self.drawing = threading.Event(), []
        self.backend = type("Backend", (), {"name": "slow"})()

    def route(self, mode):
        return types.SimpleNamespace(backend=self.backend)

    def generate(self, request, on_step, on_status):
        self.drawing.append(request.seed)
        while not self.go.wait(0.01):
            on_step(1, 2, None)
        raise Cancelled


def ask(seed: int) -> GenerationRequest:
    return GenerationRequest("text", "a red cube", seed=seed)


def test_who_leaves_moves_the_others_up():
    line = Line()
    with line.stand() as first:
        with line.stand() as second:
            with line.stand() as third:
                assert (first(), second(), third()) == (0, 1, 2)
            last = line.stand()
            assert last.__enter__()() == 2
        with line.stand() as late:
            assert late() == 2
        last.__exit__(None, None, None)
    assert line_of(backend := Slow().backend) is line_of(backend) is not line_of(Slow().backend)


def test_runs_of_one_backend_come_one_after_the_other():
    studio = Slow()
    runs = [follow(studio, ask(seed)) for seed in (1, 2, 3)]
    assert isinstance(next(event for event in runs[0] if event), Step)
    assert next(runs[1]) == Waiting("1 picture is before yours") and next(runs[2]) == Waiting("2 pictures are before yours")
    assert studio.drawing == [1]
    runs[1].close()
    assert next(runs[2]) == Waiting("1 picture is before yours")
    runs[0].close()
    assert isinstance(next(event for event in runs[2] if event), Step)
    assert studio.drawing == [1, 3]
    runs[2].close()


def test_another_backends_runs_do_not_wait():
    first, second = follow(Slow(), ask(1)), follow(Slow(), ask(2))
    assert all(isinstance(next(event for event in run if event), Step) for run in (first, second))
    first.close()
    second.close()


def test_a_failed_run_leaves_the_line():
    studio = Slow()
    studio.go.set()
    for _ in range(2):
        with pytest.raises(Exception, match="stopped before it ended"):
            list(follow(studio, ask(1)))
