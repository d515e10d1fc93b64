"""The same promises on CUDA, and the memory caps. Skipped where there is no GPU."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxControlPipeline, FluxPipeline, FluxTransformer2DModel

from flux_demo.engine.allocators import free_memory
from flux_demo.engine.memory import PLANS
from flux_demo.engine.model_cache import ModelCache
from flux_demo.errors import Cancelled
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from tests.engine.runs import generate, generate_latents

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")]

ROOT = Path(__file__).resolve().parents[2]
GPU = torch.device("cuda", 0)
SIZE = (208, 304)
HALF = replace(next(row for row in PLANS if row.name == "streamed"), name="half", kept_shares=10)


@pytest.fixture(scope="module")
def stock(tiny):
    base = FluxPipeline.from_pretrained(tiny, dtype=torch.bfloat16).to(GPU)
    own = ("transformer", "image_encoder", "feature_extractor")
    shared = {name: component for name, component in base.components.items() if name not in own}
    pipelines = {"text": base}
    for mode in ("canny", "depth"):
        transformer = FluxTransformer2DModel.from_pretrained(tiny, subfolder=f"transformer_{mode}", dtype=torch.bfloat16).to(GPU)
        pipelines[mode] = FluxControlPipeline(transformer=transformer, **shared)

    def run(mode, seed, control_image, output_type="latent"):
        return pipelines[mode](
            "a red cube",
            width=SIZE[0],
            height=SIZE[1],
            num_inference_steps=4,
            guidance_scale=3.5,
            max_sequence_length=64,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type=output_type,
            **({} if control_image is None else {"control_image": control_image}),
        ).images[0]

    return run


@pytest.mark.parametrize("plan", [*PLANS, HALF], ids=lambda plan: plan.name)
@pytest.mark.parametrize("mode", ["text", "canny", "depth"])
def test_every_plan_is_exact(tiny, stock, stripes, plan, mode):
    pipeline = ModelCache(plan, GPU, torch.bfloat16, 64).load(mini_files(MODES[mode], tiny))
    control_image = None if mode == "text" else stripes(SIZE)
    for seed in (0, 2**32 - 1):
        mine = generate_latents(pipeline, "a red cube", *SIZE, seed, 4, 3.5, control_image)
        assert torch.equal(mine[0], stock(mode, seed, control_image))
    assert generate(pipeline, "a red cube", *SIZE, 0, 4, 3.5, control_image).tobytes() == stock(mode, 0, control_image, "pil").tobytes()


def test_every_step_is_reported_in_order_and_a_stop_frees_the_memory(tiny):
    model_cache = ModelCache(replace(PLANS[0], modes=1), GPU, torch.bfloat16, 64)
    pipeline = model_cache.load(mini_files(MODES["text"], tiny))
    steps = []
    generate_latents(pipeline, "a red cube", *SIZE, 1, 4, 3.5, on_step=lambda *step: steps.append(step))
    assert [step[0] for step in steps] == [1, 2, 3, 4] and steps[-1][2].size == (SIZE[0] // 8, SIZE[1] // 8)
    free_memory()
    before = torch.cuda.memory_allocated()

    def stop(done, of, preview):
        raise Cancelled

    with pytest.raises(Cancelled):
        generate_latents(pipeline, "a red cube", 512, 512, 1, 4, 3.5, on_step=stop)
    pipeline.modulation.forget()
    free_memory()
    assert torch.cuda.memory_allocated() <= before


def test_the_modulation_is_not_on_the_device(tiny):
    lean = next(plan for plan in PLANS if plan.name == "body")
    pipeline = ModelCache(lean, GPU, torch.bfloat16, 64).load(mini_files(MODES["text"], tiny))
    generate_latents(pipeline, "a red cube", *SIZE, 1, 2, 3.5)
    assert all(layer.weight.device.type == "cpu" for layer in pipeline.modulation.layers)
    assert all(weight.device.type == "cuda" for weight in pipeline.transformer.parameters())


@pytest.mark.parametrize("cap", [8, 12, 16, 24, 80])
def test_full_size_flux_stays_below_the_cap(cap):
    """FLUX at full size with random weights, in a process that may not take more."""
    command = [sys.executable, "-m", "benchmarks.engine", "--memory", "engine", "--cap", str(cap), "--steps", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["reserved_gib"] <= cap
