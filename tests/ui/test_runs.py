"""Runs that go on by themselves: followed, left alone, stopped."""

import os
import sys
import threading
import time
from dataclasses import replace

import pytest

from flux_demo.background import NICENESS
from flux_demo.engine.presets import COMPILED, EXACT
from flux_demo.errors import Cancelled, InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.request import GenerationRequest, Size
from flux_demo.seeds import MAX_SEED, with_consecutive_seeds
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui import run as run_module
from flux_demo.ui.html import step_of
from flux_demo.ui.partial import partial_entry
from flux_demo.ui.run import Runs, follow
from flux_demo.ui.visitor_store import new_key

ME, YOU = new_key(), new_key()
REQUEST = GenerationRequest("text", "a cube", seed=5, steps=200, guidance=3.5, size=Size(64, 64))


@pytest.fixture
def slow(recording_backend, tmp_path):
    """A studio whose steps take 10 ms, with two presets."""

    class Slow(recording_backend):
        def generate(self, request, on_step, on_status):
            return super().generate(request, lambda *step: (time.sleep(0.01), on_step(*step)), on_status)

    return Studio(Settings(outputs=str(tmp_path)), [Slow("mini", step_range=range(1, 1001), presets=(EXACT, COMPILED))], Gallery(tmp_path))


def test_a_run_goes_on_while_nobody_looks_and_is_found_again(slow):
    runs, kept = Runs(slow), []
    run = runs.start(ME, with_consecutive_seeds(REQUEST, 2, 4), kept.append)
    looking = run.watch()
    next(looking)
    looking.close()  # the page is gone
    assert runs.find(ME, "text") is run and runs.find(YOU, "text") is None
    for _ in runs.find(ME, "text").watch():
        pass
    assert run.error is None and [made.recipe.seed for made in kept] == [5, 6]
    assert runs.find(ME, "text") is run  # for a page whose stream was closed just before the end
    run.done_at -= run_module.KEPT_S
    assert runs.find(ME, "text") is None


def test_nobody_looking_for_a_minute_ends_the_run(slow, monkeypatch):
    monkeypatch.setattr(run_module, "UNWATCHED_S", 0.05)
    run = Runs(slow).start(ME, [REQUEST], print)
    assert run.done.wait(90) and isinstance(run.error, Cancelled) and not run.images


def test_a_run_is_noted_as_ended_before_anybody_sees_its_end(slow):
    seen = []
    run = Runs(slow, lambda visitor, run: seen.append((visitor, run, run.done.is_set()))).start(ME, [replace(REQUEST, steps=1)], print)
    assert run.done.wait(90) and seen == [(ME, run, False)]


def test_stop_says_at_which_step_and_one_visitor_runs_once_per_mode(slow):
    runs, long = Runs(slow), replace(REQUEST, steps=1000)
    run = runs.start(ME, [long], print)
    with pytest.raises(InvalidRequest, match="not finished yet"):
        runs.start(ME, [REQUEST], print)
    other = None
    for _ in run.watch():
        other = other or (run.last_step and runs.start(YOU, [long], print))  # in the queue behind the first, not by chance before it
        if run.last_step and run.last_step.done >= 3:
            run.stop()
    assert 3 <= run.stopped_at.done < 1000 and run.stopped_at.preview is not None
    assert not other.done.is_set()
    other.stop()
    assert other.done.wait(90)


@pytest.mark.parametrize(("asked", "ran"), [(EXACT, EXACT), (COMPILED, None)])
def test_a_partial_image_says_how_long_it_took_and_no_preset_that_may_not_have_run(asked, ran, slow, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    run = Runs(slow).start(ME, [replace(REQUEST, preset=asked, steps=1000)], print)
    for _ in run.watch():
        if run.last_step:
            run.stop()
    recipe = partial_entry(slow, run, run.stopped_at, None).recipe
    assert (recipe.preset, recipe.preset_asked) == (ran, None if ran else asked)
    assert 0 < run.seconds < 90 and recipe.seconds == round(run.seconds, 2)


def test_without_a_key_nothing_runs(slow):
    for key in ("", None, "short", {}):
        with pytest.raises(InvalidRequest, match="not finished loading"):
            Runs(slow).start(key, [REQUEST], print)
        assert Runs(slow).find(key, "text") is None


def test_the_time_left_comes_from_the_steps_done(slow):
    began = time.monotonic()
    run = Runs(slow).start(ME, [REQUEST], print)
    for _ in run.watch():
        if run.last_step and run.last_step.done >= 20:
            run.stop()
    done, left = run.last_step.done, 200 - run.last_step.done
    assert 0.01 * left <= run.last_step.seconds_left < (time.monotonic() - began) / (done - 1) * left
    assert "Step 9 of 28, about 12 s left" in step_of(9, 28, 12.4)
    assert "Image 2 of 4: step 1 of 28<" in step_of(1, 28, None, 2, 4)
    assert "Image 2 of 4: step 4 of 10, about 26 s left" in step_of(4, 10, 6.0, 2, 4)
    assert "about 2 min 05 s left" in step_of(1, 28, 125.0)
    assert "about 1 min 00 s left" in step_of(1, 28, 59.7)


def test_seeds_are_consecutive_and_never_pass_the_last_one():
    assert [each.seed for each in with_consecutive_seeds(REQUEST, 4, 4)] == [5, 6, 7, 8]
    for count in (0, 5, "two", None, True, 4.0):
        with pytest.raises(InvalidRequest, match="number of images"):
            with_consecutive_seeds(REQUEST, count, 4)
    with pytest.raises(InvalidRequest, match="last seed"):
        with_consecutive_seeds(GenerationRequest("text", "a cube", seed=MAX_SEED), 2, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness belongs to the whole process")
@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_run_on_the_processor_gives_way_to_the_page(recording_backend, tmp_path, on_cpu):
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    class Noting(recording_backend):
        def generate(self, request, on_step, on_status):
            seen.append(niceness())
            return super().generate(request, on_step, on_status)

    seen, own = [], niceness()
    backend = Noting("mini", step_range=range(1, 1001))
    backend.on_cpu = on_cpu
    studio = Studio(Settings(outputs=str(tmp_path)), [backend], Gallery(tmp_path))
    runs = Runs(studio)
    assert runs.start(ME, [REQUEST], print).done.wait(90)
    list(follow(studio, REQUEST))
    assert seen == [max(own, NICENESS) if on_cpu else own] * 2
    assert niceness() == own
