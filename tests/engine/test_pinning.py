"""Streaming through pinned memory on the stand-in for a GPU: how much is pinned, what happens where that fails, and what is given back."""

from dataclasses import replace

import gguf
import pytest
import torch

from flux_demo.engine.memory import GIB, PLANS
from flux_demo.engine.model_cache import ModelCache
from flux_demo.engine.pinning import Pinning
from flux_demo.engine.placement import in_one_buffer
from flux_demo.engine.sizes import sizes_of
from flux_demo.model_files import ModelFiles, mini_files
from flux_demo.modes import MODES
from flux_demo.progress import Phase
from stand_ins.gpu import round_up
from tests.engine.formats import in_bfl_layout, save_gguf, weights_of
from tests.engine.runs import generate

SIZE = (64, 48)
STREAMED, MAPPED = (replace(row, modes=1) for row in PLANS if row.stream_body)
UNPINNED = "No main memory can be pinned here"


@pytest.fixture
def failing(monkeypatch):
    """Let pinning fail after so many times; gives the list of all attempts."""

    def start(successes):
        attempts = []

        def pin(tensor):
            attempts.append(tensor.nbytes)
            if len(attempts) > successes:
                raise RuntimeError("CUDA error: out of memory")
            return tensor

        monkeypatch.setattr("stand_ins.gpu.pin", pin)
        return attempts

    return start


def in_memory(transformer):
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


def test_each_block_is_pinned_in_one_piece(gpu, tiny):
    files = mini_files(MODES["text"], tiny)
    pipeline = ModelCache(STREAMED, gpu.device, torch.bfloat16, 64).load(files)
    blocks = in_memory(pipeline.transformer)
    sizes = [sum(-(-weight.nbytes // 64) * 64 for weight in block.parameters()) for block in blocks]
    assert gpu.pinned == sum(round_up(size) for size in sizes) == round(sizes_of(files).pinned * GIB)
    weights = [weight.data for weight in blocks[0].parameters()]
    one, *rest = copies = in_one_buffer(weights)
    assert all(torch.equal(copy, weight) for copy, weight in zip(copies, weights, strict=True))
    assert all(copy.untyped_storage().data_ptr() == one.untyped_storage().data_ptr() for copy in rest)


@pytest.mark.parametrize("in_files", [True, False])
def test_where_pinning_fails_while_loading_the_run_goes_on_unpinned(gpu, tiny, failing, in_files):
    plan = replace(STREAMED, sizes=replace(STREAMED.sizes, in_files=in_files))
    cache = ModelCache(plan, gpu.device, torch.bfloat16, 64)
    attempts = failing(2)
    pipeline = cache.load(mini_files(MODES["text"], tiny))
    assert len(attempts) == 3 and (gpu.pinned == 0) == in_files  # what has no file to go back to stays where it is
    assert UNPINNED in cache.plan.sentence and not cache.plan.pin_body
    for seed in (1, 2):
        assert generate(pipeline, "a red cube", *SIZE, seed, 2, 3.5).size == SIZE
    assert len(attempts) == 4  # the preview's, which are small, and tried by themselves


def test_where_pinning_fails_in_the_middle_of_a_run_it_goes_on_unpinned(gpu, tiny, failing):
    pinning = Pinning()
    cache = ModelCache(MAPPED, gpu.device, torch.bfloat16, 64, pinning)
    pipeline = cache.load(mini_files(MODES["text"], tiny))
    attempts = failing(7)
    assert generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5).size == SIZE
    assert UNPINNED in cache.plan.sentence and not pinning.works
    failed = len(attempts)
    other = ModelCache(STREAMED, gpu.device, torch.bfloat16, 64, pinning)
    other.load(mini_files(MODES["text"], tiny))
    assert len(attempts) == failed and UNPINNED in other.plan.sentence  # remembered


def test_nothing_is_pinned_where_nothing_can_be(gpu, tiny, failing):
    attempts = failing(0)
    pipeline = ModelCache(MAPPED.without_pinning, gpu.device, torch.bfloat16, 64).load(mini_files(MODES["text"], tiny))
    assert generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5).size == SIZE
    assert len(attempts) == 1  # a preview


@pytest.mark.parametrize("plan", [STREAMED, MAPPED], ids=lambda plan: plan.name)
def test_a_quantised_model_is_streamed_from_pinned_memory(gpu, tiny, tmp_path, plan):
    file = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(tiny)), gguf.GGMLQuantizationType.Q8_0)
    files = ModelFiles("flux.gguf", tiny, file, tiny / "scheduler")
    pipeline = ModelCache(plan, gpu.device, torch.bfloat16, 64).load(files)
    kinds = {type(weight).__name__ for weight in pipeline.transformer.transformer_blocks.parameters()}
    assert (gpu.pinned > 0) == plan.pin_body and "GGUFParameter" in kinds
    for seed in (1, 2):
        assert generate(pipeline, "a red cube", *SIZE, seed, 2, 3.5).size == SIZE


@pytest.mark.parametrize("plan", [STREAMED, MAPPED], ids=lambda plan: plan.name)
def test_what_a_phase_was_streamed_through_is_given_back_before_the_next(gpu, tiny, plan):
    pipeline = ModelCache(plan, gpu.device, torch.bfloat16, 64).load(mini_files(MODES["text"], tiny))
    held, kept = [], []

    def on_status(status):
        if status.phase is not Phase.ENCODING:
            held.append((gpu.cached.total(), gpu.pinned_cache))

    generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5, on_step=lambda *_: kept.append(gpu.cached.total()), on_status=on_status)
    assert min(kept) > 0  # while blocks come and go, their memory is kept for those that follow
    assert held == [(0, 0), (0, 0)] and gpu.cached.total() == gpu.pinned_cache == 0


def test_on_the_cpu_nothing_is_pinned_or_given_back(tiny, new_model_cache, monkeypatch):
    def fail(*_, **__):
        raise AssertionError

    monkeypatch.setattr("torch.Tensor.pin_memory", fail)
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", fail, raising=False)  # torch 2.11 has none
    plan = replace(STREAMED, on_cpu=True)
    pipeline = new_model_cache(torch.float32, plan).load(mini_files(MODES["text"], tiny))
    assert generate(pipeline, "a red cube", *SIZE, 1, 1, 3.5).size == SIZE
