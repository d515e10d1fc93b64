"""Memory that runs out, on the stand-in for a GPU: after the GPU's, everything is freed and the next run takes a tighter plan; where none can be
pinned, the run goes on, whatever CUDA calls it.
"""

import gc
from concurrent.futures import Future

import pytest
import torch

from flux_demo.backends.diffusion import Diffusion
from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine import memory
from flux_demo.engine.memory import GIB
from flux_demo.engine.model_cache import ModelCache
from flux_demo.errors import OutOfMemory
from flux_demo.failures import failure_of
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.request import GenerationRequest, Size
from stand_ins.gpu import Gpu
from tests.engine.tiny import build


def machine(card):
    return Machine(Card("NVIDIA Test", card * GIB), cuda_torch=True, memory_bytes=64 * GIB)


ASKED = GenerationRequest("text", "a red cube", 1, 2, 3.5, Size(256, 256))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.bfloat16)


class OnStandIn(Local):
    """A tiny FLUX with the plans of a larger card."""

    def __init__(self, settings, gpu, folder, card=24):
        super().__init__(settings, machine(card))
        self._gpu, self._folder = gpu, folder

    def refusal(self, mode):
        return None

    def files(self, mode, say):
        return mini_files(mode, self._folder)

    def suits(self, cache, files):
        return True

    def model_cache(self, files):
        return ModelCache(self._plan(self._machine, memory.FLUX), self._gpu.device, torch.bfloat16, 64, self._pinning)


def start_here(work, name):
    """In place of ``background.start``, without a thread: the stand-in sees only the thread in which it was opened."""
    future = Future()
    future.set_result(work())
    return future


def quiet(*_):
    pass


def test_everything_is_freed_and_the_next_run_takes_a_tighter_plan(settings, folder, monkeypatch):
    monkeypatch.setattr("flux_demo.background.start", start_here)
    gc.collect()
    with Gpu() as gpu:
        backend = Diffusion(OnStandIn(settings, gpu, folder))
        assert backend.generate(ASKED, quiet, quiet).plan.startswith("One mode stays on the GPU")
        live_when_freed = []
        monkeypatch.setattr("flux_demo.engine.allocators.free_memory", lambda: live_when_freed.append((gc.collect(), gpu.live)[1]))
        gpu.capacity = gpu.peak - 100_000
        with pytest.raises(OutOfMemory, match="a tighter plan is used from now on. 47% of the model stays") as raised:
            backend.generate(ASKED, quiet, quiet)
        assert live_when_freed[-1] == 0  # nothing refers to it any more, so that torch can give it back
        del raised
        output = backend.generate(ASKED, quiet, quiet)
        assert output.plan.startswith("47% of the model stays") and output.image.size == (256, 256)


def test_when_no_plan_is_tighter_a_later_image_is_still_tried(settings, folder, monkeypatch):
    monkeypatch.setattr("flux_demo.background.start", start_here)
    with Gpu() as gpu:
        backend, said = Diffusion(OnStandIn(settings, gpu, folder, card=12)), []
        gpu.capacity = 1000  # nothing fits
        while not said or "a tighter plan is used from now on" in said[-1]:
            with pytest.raises(OutOfMemory) as raised:
                backend.generate(ASKED, quiet, quiet)
            said.append(str(raised.value))
        assert len(said) == 4 and "No plan uses less: choose a smaller size" in said[-1]  # with 6, 3, 1 and 0 shares of the model kept
        gpu.capacity = None
        assert backend.generate(ASKED, quiet, quiet).plan.startswith("The model is streamed block by block")


@pytest.mark.parametrize("sign", ["paging file is too small", "Cannot allocate memory"])
def test_main_memory_that_ran_out_is_not_answered_with_a_plan_that_takes_more_of_it(settings, folder, sign):
    with Gpu() as gpu:
        weights = OnStandIn(settings, gpu, folder)
        cache = weights.model_cache(mini_files(MODES["text"], folder))
        said = str(weights.out_of_memory(cache, failure_of(OSError(sign))))
    assert "a tighter plan" not in said and said.endswith("No plan uses less: choose a smaller size, or close other programs.")
    assert ("Windows manage it." in said) is ("paging" in sign)
    assert weights._failed_plan is None


@pytest.mark.parametrize("successes", [0, 5])  # while loading; while the prompt is read
def test_a_failed_pin_is_not_a_full_gpu_and_is_not_tried_again(settings, folder, monkeypatch, successes):
    pinned = []

    def pin(tensor):
        pinned.append(tensor.nbytes)
        if len(pinned) > successes:
            raise RuntimeError("CUDA error: out of memory")  # what CUDA says of main memory, too
        return tensor

    monkeypatch.setattr("flux_demo.background.start", start_here)
    monkeypatch.setattr("stand_ins.gpu.pin", pin)
    with Gpu() as gpu:
        weights = OnStandIn(settings, gpu, folder, card=12)
        backend = Diffusion(weights)
        assert "pinned" not in backend.plan(MODES["text"])
        output = backend.generate(ASKED, quiet, quiet)
        assert output.image.size == (256, 256) and output.plan.endswith("No main memory can be pinned here, so streaming is slower.")
        assert weights._failed_plan is None and backend.plan(MODES["text"]) == output.plan
        backend.close()
        tried = len(pinned)
        assert backend.plan(MODES["text"]) == output.plan  # remembered for what is loaded next
        assert backend.generate(ASKED, quiet, quiet).plan == output.plan and len(pinned) == tried + 1  # the previews', which are small
