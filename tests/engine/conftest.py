"""A tiny FLUX with random weights in diffusers' layout, in the engine and in the stock pipelines, from the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image

from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from stand_ins.gpu import Gpu
from tests.engine.tiny import build

CPU = torch.device("cpu")
TEXT_TOKENS = 64
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="session", params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.param]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``transformer``, ``transformer_canny``, ``transformer_depth`` and everything they share; float32."""
    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with Gpu() as gpu:
        yield gpu


@pytest.fixture(scope="session")
def new_model_cache(tiny: Path) -> Callable[..., ModelCache]:
    """A new model cache, which loads the tiny FLUX as the backends do."""
    return lambda dtype=torch.float32, plan=CPU_PLAN: ModelCache(plan, CPU, dtype, TEXT_TOKENS)


@pytest.fixture(scope="session")
def pipeline(tiny: Path, dtype: torch.dtype) -> Callable[[str], object]:
    """``pipeline(mode)``: the engine's pipeline. One model cache for the whole session, so that modes switch and prompts repeat."""
    model_cache = ModelCache(CPU_PLAN, CPU, dtype, TEXT_TOKENS)
    return lambda mode: model_cache.load(mini_files(MODES[mode], tiny))


@pytest.fixture(scope="session")
def stock(tiny: Path, dtype: torch.dtype) -> Callable[..., object]:
    """``stock(mode, prompt, size, seed, steps, guidance, control_image)``: what the stock pipeline generates from the same files."""
    base = FluxPipeline.from_pretrained(tiny, dtype=dtype)
    base.set_progress_bar_config(disable=True)
    own = ("transformer", "image_encoder", "feature_extractor")
    shared = {name: component for name, component in base.components.items() if name not in own}
    in_fresh_memory(base.transformer)
    pipelines = {"text": base}
    for mode in ("canny", "depth"):
        transformer = FluxTransformer2DModel.from_pretrained(tiny, subfolder=f"transformer_{mode}", dtype=dtype)
        in_fresh_memory(transformer)
        pipelines[mode] = FluxControlPipeline(transformer=transformer, **shared)
        pipelines[mode].set_progress_bar_config(disable=True)

    def run(mode, prompt, size, seed, steps, guidance, control_image=None, output_type="latent"):
        return pipelines[mode](
            prompt,
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=TEXT_TOKENS,
            output_type=output_type,
            **({} if control_image is None else {"control_image": control_image}),
        ).images[0]

    return run


def in_fresh_memory(transformer: FluxTransformer2DModel) -> None:
    """Copy weights out of their memory-mapped file, where they may begin at any byte: some CPU kernels round differently by alignment.
    The engine copies them too."""
    for value in (*transformer.parameters(), *transformer.buffers()):
        value.data = value.data.clone()


@pytest.fixture(scope="session")
def stripes() -> Callable[[tuple[int, int]], Image.Image]:
    """``stripes(size)``: a map with something to follow."""

    def draw(size: tuple[int, int]) -> Image.Image:
        gradient = Image.linear_gradient("L").resize(size)
        return Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.new("L", size, 90)))

    return draw
