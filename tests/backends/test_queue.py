"""Runs wait for their backend in the order in which they came; each knows its place, and when one leaves, the others move up."""

import threading

import pytest

from flux_demo.errors import Cancelled
from flux_demo.gallery import Gallery
from flux_demo.progress import Phase, Status
from flux_demo.request import GenerationRequest
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.run import Step, follow


@pytest.fixture
def slow(recording_backend, tmp_path):
    """``slow(concurrency)``: a studio and its one backend, whose runs take steps until ``backend.go`` is set."""

    class Slow(recording_backend):
        def generate(self, request, on_step, on_status):
            self.requests.append(request)
            while not self.go.wait(0.01):
                on_step(1, 2, None)
            raise Cancelled

    def make(concurrency=1):
        backend = Slow("slow")
        backend.go, backend.concurrency = threading.Event(), concurrency
        return Studio(Settings(outputs=str(tmp_path)), [backend], Gallery(tmp_path)), backend

    return make


def ask(seed: int) -> GenerationRequest:
    return GenerationRequest("text", "a red cube", seed=seed)


def first(run):
    """The first event of a run that is not a heartbeat."""
    return next(event for event in run if event)


def test_runs_of_one_backend_come_one_after_the_other(slow):
    studio, backend = slow()
    runs = [follow(studio, ask(1))]
    assert isinstance(first(runs[0]), Step)
    for seed, text in ((2, "1 image ahead of you"), (3, "2 images ahead of you")):
        runs.append(follow(studio, ask(seed)))
        assert first(runs[-1]) == Status(Phase.QUEUED, text)
    assert [request.seed for request in backend.requests] == [1]
    runs[1].close()  # the others move up
    assert next(event for event in runs[2] if event == Status(Phase.QUEUED, "1 image ahead of you"))
    runs[0].close()
    assert next(event for event in runs[2] if isinstance(event, Step))
    assert [request.seed for request in backend.requests] == [1, 3]
    runs[2].close()


def test_a_backend_runs_as_many_at_once_as_it_takes(slow):
    studio, backend = slow(concurrency=2)
    runs = [follow(studio, ask(seed)) for seed in (1, 2)]
    assert all(isinstance(first(run), Step) for run in runs)
    third = follow(studio, ask(3))
    assert first(third) == Status(Phase.QUEUED, "1 image ahead of you")
    for run in (third, *runs):
        run.close()


def test_the_command_line_and_python_wait_in_the_same_queue(slow):
    studio, backend = slow()
    page = follow(studio, ask(1))
    assert isinstance(first(page), Step)
    heard = []

    def leave(status):
        heard.append(status)
        raise Cancelled

    with pytest.raises(Cancelled):
        studio.generate(ask(2), on_status=leave)
    assert heard == [Status(Phase.QUEUED, "1 image ahead of you")]
    page.close()


def test_another_backends_runs_do_not_wait(slow):
    runs = [follow(slow()[0], ask(seed)) for seed in (1, 2)]
    assert all(isinstance(first(run), Step) for run in runs)
    for run in runs:
        run.close()


def test_a_failed_run_leaves_the_queue(slow):
    studio, backend = slow()
    backend.go.set()
    for _ in range(2):
        with pytest.raises(Exception, match="stopped before it ended"):
            list(follow(studio, ask(1)))
