"""A GPU whose memory runs out in the middle, on the stand-in: what was there is let go of, and the next run does with less."""

import gc
import threading
from types import SimpleNamespace

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
    """A tiny FLUX with the plans of a card of 24 GB."""

    def __init__(self, settings, gpu, folder):
        super().__init__(settings, MACHINE)
        self._gpu, self._folder = gpu, folder

    def refusal(self, mode):
        return None

    def parts(self, mode, say):
        return mini_files(mode, self._folder)

    def model_cache(self):
        plan = memory.plan(int(23.2 * GIB), MACHINE.memory_bytes, below=self._too_roomy)
        return ModelCache(plan, self._gpu.device, torch.bfloat16, 64)


class InTurn:
    """A thread that is over when it has begun: the stand-in sees only the thread that it was opened in."""

    def __init__(self, target, args, **_):
        self.start = lambda: target(*args)

    def is_alive(self):
        return False


def quiet(*_):
    pass


def test_what_ran_out_is_let_go_of_and_the_next_run_does_with_less(settings, folder, monkeypatch):
    monkeypatch.setattr("flux_demo.backends.diffusion.threading", SimpleNamespace(Thread=InTurn, Lock=threading.Lock))
    gc.collect()
    with Gpu() as gpu:
        backend = Diffusion(OnStandIn(settings, gpu, folder))
        assert backend.generate(ASKED, quiet, quiet).plan.startswith("One mode stays on the GPU")
        when_emptied = []
        monkeypatch.setattr("flux_demo.engine.model_cache.free_memory", lambda: when_emptied.append((gc.collect(), gpu.live)[1]))
        gpu.capacity = gpu.peak - 100_000
        with pytest.raises(OutOfMemory, match="a tighter plan is used from now on. The model is streamed") as raised:
            backend.generate(ASKED, quiet, quiet)
        assert when_emptied[-1] == 0  # before torch is told to give its memory back, so that it can
        del raised
        picture = backend.generate(ASKED, quiet, quiet)
        assert picture.plan.startswith("The model is streamed") and picture.image.size == (256, 256)
