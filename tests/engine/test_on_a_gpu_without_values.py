"""The engine on the stand-in for a GPU: every plan runs, every tensor is where it is needed, and memory stays within the plan."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from benchmarks.memory import count, most
from flux_demo.backends.local import CONTEXT_BYTES
from flux_demo.engine.memory import BODY, GIB, MODULATION, PLANS, T5, plan
from flux_demo.engine.model_cache import ModelCache
from flux_demo.errors import Cancelled
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from stand_ins.gpu import Gpu
from tests.engine.runs import generate

SIZE = (64, 48)
BY_NAME = {row.name: row for row in PLANS}
HALF = replace(BY_NAME["streamed"], name="half", kept_shares=10)


@pytest.fixture
def model_cache(gpu):
    return lambda plan: ModelCache(plan, gpu.device, torch.bfloat16, 64)


def test_it_counts_what_is_there_and_forgets_what_is_freed(gpu):
    kept = torch.zeros(1000, 1000, device=gpu.device)
    view = kept[1:].T
    assert gpu.live == 4_000_256  # in blocks of 512
    (kept + 1).sum()
    assert gpu.live == 4_000_256 and gpu.peak == 8_000_512 + 512
    del kept
    assert gpu.live == 4_000_256
    del view
    assert gpu.live == 0


def test_it_refuses_what_a_gpu_refuses(gpu):
    on_gpu = torch.zeros(3, 3, device=gpu.device)
    with pytest.raises(RuntimeError, match="same device"):
        on_gpu @ torch.zeros(3, 3)
    assert (on_gpu * torch.tensor(2.0)).shape == (3, 3)  # a scalar may come from any device
    with pytest.raises(RuntimeError, match="reads a value"):
        on_gpu[0, 0].item()
    on_gpu.cpu()
    assert [wait.split()[0] for wait in gpu.waits] == ["aten::_local_scalar_dense", "aten::_to_copy"]
    with Gpu(capacity=100) as small, pytest.raises(torch.OutOfMemoryError):
        torch.zeros(3, 30, device=small.device)


@pytest.mark.parametrize(
    ("row", "mode"),
    [*((row, "text") for row in (*PLANS, HALF) if row.modes == 1), (BY_NAME["body"], "canny"), (BY_NAME["streamed"], "canny")],
    ids=lambda given: getattr(given, "name", given),
)
def test_every_plan_for_one_mode_runs(gpu, model_cache, tiny, row, mode):
    pipeline = model_cache(row).load(mini_files(MODES[mode], tiny))
    control_image = None if mode == "text" else Image.new("RGB", SIZE)
    steps = []
    for seed in (1, 2):  # from the second pass on, streamed blocks are prefetched
        image = generate(pipeline, "a red cube", *SIZE, seed, 2, 3.5, control_image, on_step=lambda *step: steps.append(step))
        assert image.size == SIZE
    assert [done for done, _, _ in steps] == [1, 2] * 2
    devices = {weight.device.type for block in pipeline.transformer.transformer_blocks for weight in block.parameters()}
    assert devices == ({"cpu", "meta"} if row.kept_shares else {"cpu"} if row.stream_body else {"meta"})
    assert {layer.weight.device.type for layer in pipeline.modulation.layers} == {"meta" if row.modulation_on_device else "cpu"}


def test_the_host_does_not_wait_for_the_gpu_between_steps(gpu, model_cache, tiny):
    pipeline = model_cache(PLANS[0]).load(mini_files(MODES["canny"], tiny))
    waits = {}
    for steps in (1, 2, 4):
        gpu.begin()
        generate(pipeline, "a red cube", *SIZE, 1, steps, 3.5, Image.new("RGB", SIZE))
        waits[steps] = len(gpu.waits)
    assert waits[1] > waits[2] == waits[4]  # the first run had to encode the prompt


def test_a_streamed_run_waits_for_no_copy_after_its_first_step(gpu, model_cache, tiny):
    pipeline = model_cache(HALF).load(mini_files(MODES["text"], tiny))
    waits = {}
    for steps in (1, 2, 4):
        gpu.begin()
        generate(pipeline, "a red cube", *SIZE, 1, steps, 3.5)
        waits[steps] = len(gpu.waits)
    assert waits[1] > waits[2] == waits[4]
    assert {pipeline.transformer.x_embedder.weight.device.type, pipeline.transformer.proj_out.weight.device.type} == {"meta"}


def test_modes_come_and_go_without_a_trace(gpu, model_cache, tiny):
    two = model_cache(BY_NAME["two"])
    seen = []
    for mode in ("text", "canny", "depth", "text", "canny"):
        pipeline = two.load(mini_files(MODES[mode], tiny))
        control_image = None if mode == "text" else Image.new("RGB", SIZE)
        generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5, control_image)
        seen.append(gpu.live)
        del pipeline
    assert seen[0] < seen[1] == seen[4]  # the same two modes again


@pytest.mark.parametrize(("card", "main_memory", "share"), [(12, 32, 0.25), (24, 16, 0.6)])
def test_full_size_flux_takes_what_the_plan_says(card, main_memory, share):
    """``share``: at most this much of the weights alone that the stock pipeline keeps on the card."""
    chosen = plan(card * GIB - CONTEXT_BYTES, main_memory * GIB)
    counted = count(chosen)
    assert most(counted) < share * (BODY + MODULATION + T5)
    assert counted.pop("weights") == pytest.approx(chosen.device_bytes / GIB, abs=0.15)
    assert max(counted.values()) < chosen.work_bytes() / GIB


def test_a_stop_and_a_full_card_leave_nothing_behind(gpu, model_cache, tiny):
    def stop(done, of, preview):
        raise Cancelled

    for row in (PLANS[0], BY_NAME["streamed"]):
        pipeline = model_cache(replace(row, modes=1)).load(mini_files(MODES["text"], tiny))
        generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5)
        before = gpu.live
        with pytest.raises(Cancelled):
            generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5, on_step=stop)
        gpu.capacity = before + 100_000
        with pytest.raises(torch.OutOfMemoryError):
            generate(pipeline, "a red cube", 512, 512, 1, 2, 3.5)
        gpu.capacity = None
        generate(pipeline, "a red cube", *SIZE, 1, 2, 3.5)
        assert gpu.live == before
        del pipeline
