"""Carries out a memory plan: what is on the device and what is streamed to it, by diffusers' own means.

Streaming hooks sit on the models themselves, so they serve this project's loop as they would a pipeline. The VAE, CLIP and
the layers that run once per image are small and always on the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from flux_demo.engine.memory import SHARES, Plan
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.sizes import is_modulation
from flux_demo.engine.weights import CPU, DeviceOf

TILE = 512  # pixels; the VAE's own tiles are 1024, which saves nothing for an image of 1024


def device_of(plan: Plan, device: torch.device) -> DeviceOf:
    """The device that each of the transformer's weights is read to."""

    def device_of_weight(name: str) -> torch.device:
        if is_modulation(name):
            return device if plan.modulation_on_device else CPU
        block = re.match(r"\w*transformer_blocks\.(\d+)\.", name)
        return CPU if plan.stream_body and not (block and stays(int(block[1]), plan)) else device

    return device_of_weight


def stays(block: int, plan: Plan) -> bool:
    """Whether a double or single block of a streamed model is kept on the device. Kept blocks are spread evenly, so that each streamed
    block has time to arrive while they run."""
    return (block + 1) * plan.kept // SHARES > block * plan.kept // SHARES


def place_transformer(transformer: Any, modulation: PrecomputedModulation, plan: Plan, device: torch.device) -> None:
    for layer in modulation.small_layers:
        layer.to(device)
    if plan.stream_body:
        with _without_kept_blocks(transformer, plan):
            if plan.pin_body and device.type != "cpu":
                for weight in transformer.parameters():  # one by one, so that no second copy of the whole is ever there
                    weight.data = weight.data.pin_memory()
            transformer.enable_group_offload(device, **_one_block_at_a_time(device, pinned=plan.pin_body))
        if not plan.pin_blocks:
            _leave_unpinned(transformer)


@contextmanager
def _without_kept_blocks(transformer: Any, plan: Plan) -> Iterator[None]:
    """diffusers streams every block that it finds, so the kept ones are hidden from it meanwhile."""
    whole = transformer.transformer_blocks, transformer.single_transformer_blocks
    transformer.transformer_blocks, transformer.single_transformer_blocks = (
        torch.nn.ModuleList(block for at, block in enumerate(blocks) if not stays(at, plan)) for blocks in whole
    )
    try:
        yield
    finally:
        transformer.transformer_blocks, transformer.single_transformer_blocks = whole


def place_t5(t5: Any, plan: Plan, device: torch.device) -> None:
    if plan.stream_t5:
        from diffusers.hooks import apply_group_offloading

        # Its stack, which holds everything, the tied embedding included: hooked on the whole model, diffusers registers its prefetching twice and raises.
        apply_group_offloading(t5.encoder, device, **_one_block_at_a_time(device, pinned=False))
        if not plan.pin_blocks:
            _leave_unpinned(t5.encoder)
    else:
        t5.to(device)


def tile(vae: Any, *, tiled: bool) -> None:
    """Decode in tiles, or whole. Tiles change the image a little: each is normalised by itself."""
    if tiled:
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8
    else:
        vae.disable_tiling()


def _one_block_at_a_time(device: torch.device, *, pinned: bool) -> dict[str, Any]:
    """diffusers' options for streaming. On a GPU the next block is copied while this one runs; unpinned weights are pinned on the way."""
    streams = {"use_stream": True, "record_stream": False, "non_blocking": True, "low_cpu_mem_usage": not pinned}
    return {"offload_type": "block_level", "num_blocks_per_group": 1, **(streams if device.type != "cpu" else {})}


def _leave_unpinned(model: torch.nn.Module) -> None:
    """Copy streamed blocks from where they are: diffusers pins them on the way, which fails where hardly any memory can be pinned, as on WSL2."""
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry.get_hook("group_offloading") if registry else None
        if hook is not None:
            hook.group._pinned_memory_tensors = partial(nullcontext, hook.group.cpu_param_dict)
