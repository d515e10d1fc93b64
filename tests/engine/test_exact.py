"""The promise of the preset ``exact``: bit for bit what the stock pipelines draw from the same files and seed."""

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.errors import Cancelled
from flux_demo.model_files import MINI, mini_files
from tests.engine.asking import draw, draw_latents

MAX_SEED = 2**32 - 1
# mode, text, size, seed, steps, guidance
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


@pytest.mark.parametrize(("mode", "text", "size", "seed", "steps", "guidance"), CASES)
def test_latents_are_those_of_the_stock_pipeline(flux, stock, stripes, mode, text, size, seed, steps, guidance):
    picture_map = None if mode == "text" else stripes(size)
    mine = draw_latents(flux(mode), text, *size, seed, steps, guidance, picture_map)
    theirs = stock(mode, text, size, seed, steps, guidance, picture_map)
    assert torch.equal(mine[0], theirs)


@pytest.mark.parametrize("mode", ["text", "canny", "depth"])
def test_pictures_are_those_of_the_stock_pipeline(flux, stock, stripes, mode):
    size = (96, 64)
    picture_map = None if mode == "text" else stripes(size)
    mine = draw(flux(mode), "a green cone", *size, 11, 2, 3.5, picture_map)
    theirs = stock(mode, "a green cone", size, 11, 2, 3.5, picture_map, output_type="pil")
    assert mine.mode == "RGB" and mine.size == size
    assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("mode", ["text", "canny", "depth"])
def test_the_minis_pictures_are_those_of_the_stock_pipeline(stripes, mode):
    """What is shipped, half precision on disk and all, to the last value of the last pixel."""
    size = (208, 128)
    picture_map = None if mode == "text" else stripes(size)
    parts = mini_files(mode)
    flux = ModelCache(CPU_PLAN, torch.device("cpu"), torch.float32, 64).load(parts)
    mine = draw(flux, "a red cube on a table", *size, 3, 3, 3.5, picture_map)
    pipe = (FluxPipeline if mode == "text" else FluxControlPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(parts.scheduler),
        vae=AutoencoderKL.from_pretrained(MINI, subfolder="vae", dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(MINI / "text_encoder", dtype=torch.float32),
        tokenizer=CLIPTokenizer.from_pretrained(MINI / "tokenizer"),
        text_encoder_2=T5EncoderModel.from_pretrained(MINI / "text_encoder_2", dtype=torch.float32),
        tokenizer_2=T5Tokenizer.from_pretrained(MINI / "tokenizer_2"),
        transformer=FluxTransformer2DModel.from_pretrained(parts.transformer, dtype=torch.float32),
    )
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        "a red cube on a table",
        width=size[0],
        height=size[1],
        num_inference_steps=3,
        guidance_scale=3.5,
        max_sequence_length=64,
        generator=torch.Generator("cpu").manual_seed(3),
        **({} if picture_map is None else {"control_image": picture_map}),
    ).images[0]
    assert mine.tobytes() == theirs.tobytes()


def test_nothing_is_left_over_from_one_run_to_the_next(flux, stock, stripes):
    """Prompts, guidance, steps, sizes and modes in turn, with what is kept between them in place."""
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
    for mode, text, size, seed, steps, guidance in runs:
        picture_map = None if mode == "text" else stripes(size)
        mine = draw_latents(flux(mode), text, *size, seed, steps, guidance, picture_map)
        assert torch.equal(mine[0], stock(mode, text, size, seed, steps, guidance, picture_map)), (mode, text, size)


class Boom(Exception):
    pass


@pytest.mark.parametrize("raised", [Cancelled, Boom])
def test_a_run_after_one_that_was_ended_is_exact(flux, stock, raised):
    seen = []

    def end(done, of, preview):
        seen.append(done)
        if done == 2:
            raise raised

    with pytest.raises(raised):
        draw_latents(flux("text"), "a red cube", 64, 64, 0, 5, 3.5, on_step=end)
    assert seen == [1, 2]  # within one step
    mine = draw_latents(flux("text"), "a red cube", 64, 64, 0, 3, 3.5)
    assert torch.equal(mine[0], stock("text", "a red cube", (64, 64), 0, 3, 3.5))


def test_a_run_can_be_ended_before_its_first_step(flux):
    def end(sentence):
        raise Cancelled

    with pytest.raises(Cancelled):
        draw_latents(flux("text"), "a red cube", 64, 64, 0, 5, 3.5, on_status=end)


def test_watching_does_not_change_the_picture(flux):
    watched = draw_latents(flux("text"), "a red cube", 64, 64, 5, 3, 3.5, on_step=lambda done, of, preview: torch.rand(3))
    assert torch.equal(watched, draw_latents(flux("text"), "a red cube", 64, 64, 5, 3, 3.5))
