"""The promise of the preset ``exact``: bit for bit what the stock pipelines generate from the same files and seed."""

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.errors import Cancelled
from flux_demo.model_files import MINI, mini_files
from flux_demo.modes import MODES
from tests.engine.runs import generate, generate_latents

MAX_SEED = 2**32 - 1
# mode, prompt, size, seed, steps, guidance
CASES = [
    ("text", "a red cube", (64, 64), 0, 3, 3.5),
    ("text", "a red cube", (64, 64), MAX_SEED, 3, 3.5),
    ("text", "two balls, one blue", (16, 16), 7, 1, 1.5),
    ("text", "two balls, one blue", (272, 16), 7, 2, 30.0),
    ("text", "a word that is not in the vocabulary: 雪 É", (208, 304), 1, 2, 1.0),
    ("text", "long " * 60, (48, 112), 3, 5, 10.0),
    ("canny", "a red cube", (64, 64), 0, 3, 30.0),
    ("canny", "two balls", (16, 16), MAX_SEED, 1, 30.0),
    ("canny", "two balls", (336, 192), 5, 2, 3.5),
    ("depth", "a red cube", (64, 64), 0, 3, 10.0),
    ("depth", "two balls", (112, 208), MAX_SEED, 2, 100.0),
]


@pytest.mark.parametrize(("mode", "prompt", "size", "seed", "steps", "guidance"), CASES)
def test_latents_are_those_of_the_stock_pipeline(pipeline, stock, stripes, mode, prompt, size, seed, steps, guidance):
    control_image = None if mode == "text" else stripes(size)
    mine = generate_latents(pipeline(mode), prompt, *size, seed, steps, guidance, control_image)
    theirs = stock(mode, prompt, size, seed, steps, guidance, control_image)
    assert torch.equal(mine[0], theirs)


@pytest.mark.parametrize("mode", ["text", "canny", "depth"])
def test_images_are_those_of_the_stock_pipeline(pipeline, stock, stripes, mode):
    size = (96, 64)
    control_image = None if mode == "text" else stripes(size)
    mine = generate(pipeline(mode), "a green cone", *size, 11, 2, 3.5, control_image)
    theirs = stock(mode, "a green cone", size, 11, 2, 3.5, control_image, output_type="pil")
    assert mine.mode == "RGB" and mine.size == size
    assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("mode", ["text", "canny", "depth"])
def test_the_minis_images_are_those_of_the_stock_pipeline(stripes, mode):
    """The weights that are shipped, stored in half precision, to the last value of the last pixel."""
    size = (208, 128)
    control_image = None if mode == "text" else stripes(size)
    files = mini_files(MODES[mode])
    pipeline = ModelCache(CPU_PLAN, torch.device("cpu"), torch.float32, 64).load(files)
    mine = generate(pipeline, "a red cube on a table", *size, 3, 3, 3.5, control_image)
    stock_pipeline = (FluxPipeline if mode == "text" else FluxControlPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(files.scheduler),
        vae=AutoencoderKL.from_pretrained(MINI, subfolder="vae", dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(MINI / "text_encoder", dtype=torch.float32),
        tokenizer=CLIPTokenizer.from_pretrained(MINI / "tokenizer"),
        text_encoder_2=T5EncoderModel.from_pretrained(MINI / "text_encoder_2", dtype=torch.float32),
        tokenizer_2=T5Tokenizer.from_pretrained(MINI / "tokenizer_2"),
        transformer=FluxTransformer2DModel.from_pretrained(files.transformer, dtype=torch.float32),
    )
    stock_pipeline.set_progress_bar_config(disable=True)
    theirs = stock_pipeline(
        "a red cube on a table",
        width=size[0],
        height=size[1],
        num_inference_steps=3,
        guidance_scale=3.5,
        max_sequence_length=64,
        generator=torch.Generator("cpu").manual_seed(3),
        **({} if control_image is None else {"control_image": control_image}),
    ).images[0]
    assert mine.tobytes() == theirs.tobytes()


def test_nothing_is_left_over_from_one_run_to_the_next(pipeline, stock, stripes):
    """Prompts, guidance, steps, sizes and modes in turn, with the caches between them left in place."""
    size = (64, 48)
    runs = [
        ("text", "one", size, 1, 2, 3.5),
        ("text", "two", size, 1, 2, 3.5),
        ("text", "one", size, 2, 2, 3.5),
        ("text", "one", size, 2, 2, 5.0),
        ("canny", "one", size, 2, 2, 5.0),
        ("text", "one", size, 2, 3, 5.0),
        ("text", "one", (48, 64), 2, 3, 5.0),
        ("text", "one", (96, 64), 2, 3, 5.0),
        ("depth", "one", (96, 64), 2, 3, 5.0),
        ("canny", "two", (96, 64), 2, 3, 5.0),
    ]
    for mode, prompt, size, seed, steps, guidance in runs:
        control_image = None if mode == "text" else stripes(size)
        mine = generate_latents(pipeline(mode), prompt, *size, seed, steps, guidance, control_image)
        assert torch.equal(mine[0], stock(mode, prompt, size, seed, steps, guidance, control_image)), (mode, prompt, size)


class Boom(Exception):
    pass


@pytest.mark.parametrize("raised", [Cancelled, Boom])
def test_a_run_after_one_that_was_stopped_is_exact(pipeline, stock, raised):
    seen = []

    def stop(done, of, preview):
        seen.append(done)
        if done == 2:
            raise raised

    with pytest.raises(raised):
        generate_latents(pipeline("text"), "a red cube", 64, 64, 0, 5, 3.5, on_step=stop)
    assert seen == [1, 2]  # within one step
    mine = generate_latents(pipeline("text"), "a red cube", 64, 64, 0, 3, 3.5)
    assert torch.equal(mine[0], stock("text", "a red cube", (64, 64), 0, 3, 3.5))


def test_a_run_can_be_stopped_before_its_first_step(pipeline):
    def stop(status):
        raise Cancelled

    with pytest.raises(Cancelled):
        generate_latents(pipeline("text"), "a red cube", 64, 64, 0, 5, 3.5, on_status=stop)


def test_watching_does_not_change_the_image(pipeline):
    watched = generate_latents(pipeline("text"), "a red cube", 64, 64, 5, 3, 3.5, on_step=lambda done, of, preview: torch.rand(3))
    assert torch.equal(watched, generate_latents(pipeline("text"), "a red cube", 64, 64, 5, 3, 3.5))
