"""A GPU whose memory runs out during a run, on the stand-in: everything is freed, and the next run takes a tighter plan."""

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
from flux_demo.model_files import mini_files
from flux_demo.request import GenerationRequest, Size
from stand_ins.gpu import Gpu
from tests.engine.tiny import build

MACHINE = Machine(Card("NVIDIA Test", 24 * GIB), cuda_torch=True, memory_bytes=64 * GIB)
ASKED = GenerationRequest("text", "a red cube", 1, 2, 3.5, Size(256, 256))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.bfloat16)


class OnStandIn(Local):
    """A tiny FLUX with the plans of a 24 GB card."""

    def __init__(self, settings, gpu, folder):
        super().__init__(settings, MACHINE)
        self._gpu, self._folder = gpu, folder

    def refusal(self, mode):
        return None

    def files(self, mode, say):
        return mini_files(mode, self._folder)

    def suits(self, cache, files):
        return True

    def model_cache(self, files):
        plan = memory.plan(int(23.2 * GIB), MACHINE.memory_bytes, below=self._too_roomy)
        return ModelCache(plan, self._gpu.device, torch.bfloat16, 64)


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
        monkeypatch.setattr("flux_demo.engine.model_cache.free_memory", lambda: live_when_freed.append((gc.collect(), gpu.live)[1]))
        gpu.capacity = gpu.peak - 100_000
        with pytest.raises(OutOfMemory, match="a tighter plan is used from now on. 47% of the model stays") as raised:
            backend.generate(ASKED, quiet, quiet)
        assert live_when_freed[-1] == 0  # nothing refers to it any more, so that torch can give it back
        del raised
        drawn = backend.generate(ASKED, quiet, quiet)
        assert drawn.plan.startswith("47% of the model stays") and drawn.image.size == (256, 256)
