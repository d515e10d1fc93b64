"""Streaming, with the CPU as both ends: the hooks are diffusers' own, the loop is ours, and the result stays the same."""

from dataclasses import replace

import pytest
import torch

from flux_demo.engine.memory import CPU_PLAN, SHARES
from flux_demo.engine.placement import device_of, set_tiling, stays
from flux_demo.errors import Cancelled
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from tests.engine.runs import generate_latents

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
STREAMED = replace(CPU_PLAN, stream_body=True, stream_t5=True)


def test_a_streamed_run_is_exact(pipeline, tiny, new_model_cache, dtype):
    streamed = new_model_cache(dtype, STREAMED).load(mini_files(MODES["text"], tiny))
    resident = pipeline("text")
    for prompt, seed in (("a cube", 1), ("a ball", 1), ("a ball", 2)):
        mine, theirs = (generate_latents(each, prompt, 64, 48, seed, 2, 3.5) for each in (streamed, resident))
        assert torch.equal(mine, theirs)


def test_a_streamed_run_is_exact_after_a_stop(pipeline, tiny, new_model_cache, dtype):
    streamed = new_model_cache(dtype, STREAMED).load(mini_files(MODES["text"], tiny))

    def stop(done, of, preview):
        raise Cancelled

    with pytest.raises(Cancelled):
        generate_latents(streamed, "a cube", 64, 48, 1, 3, 3.5, on_step=stop)
    assert torch.equal(
        generate_latents(streamed, "a cube", 64, 48, 1, 2, 3.5), generate_latents(pipeline("text"), "a cube", 64, 48, 1, 2, 3.5)
    )


def test_a_partly_streamed_run_is_exact(pipeline, tiny, new_model_cache, dtype):
    half = new_model_cache(dtype, replace(STREAMED, kept_shares=10)).load(mini_files(MODES["text"], tiny))
    for seed in (1, 2):
        assert torch.equal(
            generate_latents(half, "a cube", 64, 48, seed, 2, 3.5), generate_latents(pipeline("text"), "a cube", 64, 48, seed, 2, 3.5)
        )


def test_the_blocks_that_stay_are_spread_evenly():
    for kept in range(SHARES):
        double, single = ([at for at in range(count) if stays(at, replace(STREAMED, kept_shares=kept))] for count in (19, 38))
        assert (len(double), len(single)) == (kept, 2 * kept)
        gaps = {b - a for a, b in zip(double, double[1:])}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_each_weight_is_read_to_the_device_that_the_plan_gives_it():
    body, modulation = "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.norm1.linear.weight"
    for plan, devices in (
        (replace(CPU_PLAN, modulation_on_device=True), (GPU, GPU)),
        (replace(CPU_PLAN, modulation_on_device=False), (GPU, CPU)),
        (replace(CPU_PLAN, modulation_on_device=False, stream_body=True), (CPU, CPU)),
        (replace(CPU_PLAN, modulation_on_device=False, stream_body=True, kept_shares=18), (CPU, CPU)),  # only the first of 19 is streamed
    ):
        device_of_weight = device_of(plan, GPU)
        assert (device_of_weight(body), device_of_weight(modulation)) == devices
    kept = device_of(replace(STREAMED, modulation_on_device=False, kept_shares=18), GPU)
    names = ("single_transformer_blocks.3.attn.to_q.weight", "single_transformer_blocks.3.norm.linear.weight", "x_embedder.weight")
    assert tuple(map(kept, names)) == (GPU, CPU, GPU)


def test_tiling_is_switched_on_and_off_again(pipeline):
    vae = pipeline("text").shared.vae
    set_tiling(vae, tiled=True)
    assert vae.use_tiling and vae.tile_sample_min_size == 512 and vae.tile_latent_min_size == 64
    set_tiling(vae, tiled=False)
    assert not vae.use_tiling
