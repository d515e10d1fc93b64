"""Runs wait for their backend in the order in which they came; each knows its place, and when one leaves, the others move up."""

import threading

import pytest

from flux_demo.backends.queue import MAX_PER_ADDRESS, MAX_PER_CLIENT, MAX_TOTAL, Client
from flux_demo.errors import Busy, Cancelled, GenerationFailed
from flux_demo.gallery import Gallery
from flux_demo.progress import Phase, Status, Step
from flux_demo.request import GenerationRequest
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.run import follow
from flux_demo.ui.visitors import Caller, Listeners, current_caller


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


def follow_as(studio, seed, visitor):
    """``follow`` of a run that this visitor asked for."""
    token = current_caller.set(Caller(visitor, (), Listeners()))
    try:
        run = follow(studio, ask(seed))
        first(run)
        return run
    finally:
        current_caller.reset(token)


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


ANNA, BERT, CARL = Client("10.0.0.1", "a"), Client("10.0.0.1", "b"), Client("10.0.0.2", "c")


def finish_one(studio, backend, runs):
    """Close the run that is under way and wait until the next one has begun."""
    seed = backend.requests[-1].seed
    runs.pop(seed).close()
    for _ in range(300):
        if backend.requests[-1].seed != seed or not runs:
            return
        for run in runs.values():
            next(run)


def test_visitors_take_turns(slow):
    studio, backend = slow()
    runs = {seed: follow_as(studio, seed, visitor) for seed, visitor in ((1, ANNA), (2, ANNA), (3, ANNA), (4, BERT), (5, CARL), (6, BERT))}
    while runs:
        finish_one(studio, backend, runs)
    assert [request.seed for request in backend.requests] == [1, 5, 4, 2, 6, 3] or [request.seed for request in backend.requests] == [
        1,
        4,
        5,
        2,
        6,
        3,
    ]


def test_nobody_waits_for_ever_behind_new_visitors(slow):
    studio, backend = slow()
    runs = {1: follow_as(studio, 1, ANNA), 2: follow_as(studio, 2, ANNA)}
    for seed in range(10, 30):
        runs[seed] = follow_as(studio, seed, Client(f"10.0.1.{seed}", "new"))
        runs[seed + 100] = follow_as(studio, seed + 100, Client("10.0.0.9", f"new {seed}"))
        finish_one(studio, backend, runs)
        if backend.requests[-1].seed == 2:
            break
    assert 2 in [request.seed for request in backend.requests]
    for run in runs.values():
        run.close()


def test_a_visitor_has_one_run_under_way_where_several_fit(slow):
    studio, backend = slow(concurrency=2)
    runs = [follow_as(studio, 1, ANNA), follow_as(studio, 2, ANNA), follow_as(studio, 3, BERT)]
    assert [request.seed for request in backend.requests] == [1, 3]
    for run in runs:
        run.close()


def test_a_free_place_is_not_kept_for_a_visitor_who_may_not_take_it(slow):
    studio, backend = slow(concurrency=2)
    runs = [follow_as(studio, 1, ANNA), follow_as(studio, 2, ANNA)]
    for seed in range(10, 30):
        other = follow_as(studio, seed, Client(f"10.0.1.{seed}", "new"))
        for _ in range(30):
            if backend.requests[-1].seed == seed:
                break
            next(other)
        assert backend.requests[-1].seed == seed
        other.close()
    for run in runs:
        run.close()


def test_a_visitor_has_two_runs_waiting_and_no_more(slow):
    studio, _ = slow()
    runs = [follow_as(studio, seed, ANNA) for seed in range(MAX_PER_CLIENT)]
    with pytest.raises(Busy, match="You already have"):
        follow_as(studio, 9, ANNA)
    runs.append(follow_as(studio, 10, BERT))
    runs.pop(0).close()
    next(event for event in runs[-1] if isinstance(event, Step))  # the stopped one has left, and it is the other's turn
    runs.append(follow_as(studio, 11, ANNA))
    for run in runs:
        run.close()


def test_many_sessions_of_one_address_do_not_fill_the_queue(slow):
    studio, backend = slow()
    runs = [follow_as(studio, seed, Client("10.0.0.1", str(seed))) for seed in range(MAX_PER_ADDRESS)]
    with pytest.raises(Busy, match="Too many"):
        follow_as(studio, 99, Client("10.0.0.1", "another"))
    stranger = follow_as(studio, 100, CARL)
    runs[0].close()
    assert next(event for event in stranger if isinstance(event, Step))  # next, before the others of that address
    for run in [*runs, stranger]:
        run.close()


def test_the_queue_is_bounded_for_everybody_together(slow):
    studio, _ = slow()
    runs = [follow_as(studio, seed, Client(f"10.0.0.{seed}", "a")) for seed in range(MAX_TOTAL)]
    with pytest.raises(Busy, match="Too many"):
        follow_as(studio, 99, Client("10.0.1.1", "a"))
    local = follow(studio, ask(7))  # the command line shares the queue, and is not refused
    assert first(local).phase is Phase.QUEUED
    for run in [*runs, local]:
        run.close()


def test_a_run_that_nobody_listens_to_is_stopped(slow, monkeypatch):
    monkeypatch.setattr("flux_demo.ui.visitors.GRACE_S", 0.3)
    studio, _ = slow()
    listeners = Listeners()
    listeners.watched = True
    listeners.opened("heard")
    token = current_caller.set(Caller(ANNA, ("heard",), listeners))
    heard = follow(studio, ask(1))
    next(heard)
    current_caller.reset(token)
    for _ in range(8):
        next(heard)
    listeners.closed("heard")
    with pytest.raises(GenerationFailed, match="no client read"):
        for _ in range(100):
            next(heard)


def test_a_callback_that_asks_for_another_image_does_not_wait_for_itself(recording_backend, tmp_path):
    studio = Studio(Settings(outputs=str(tmp_path)), [recording_backend()], Gallery(tmp_path))
    request = GenerationRequest("text", "a cube", 1)

    def ask(step, *_):
        if step == 1:
            with pytest.raises(Busy, match="in another thread"):
                studio.generate(request)

    assert studio.generate(request, ask).path.exists()
    assert studio.generate(request).path.exists()
