"""Carries out a memory plan: what is on the device and what is streamed to it, by diffusers' own means.

Streaming hooks sit on the models themselves, so they serve this project's loop as they would a pipeline. The VAE, CLIP and
the layers that run once per image are small and always on the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from flux_demo.engine.memory import SHARES, TILE, Plan
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.pinning import Pinning
from flux_demo.engine.sizes import is_modulation
from flux_demo.engine.weights import CPU, DeviceOf

ALIGNED = 64  # bytes: where a weight may begin in a buffer


def device_of(plan: Plan, device: torch.device) -> DeviceOf:
    """The device that each of the transformer's weights is read to."""

    def device_of_weight(name: str) -> torch.device:
        if is_modulation(name):
            return device if plan.modulation_on_device else CPU
        block = re.match(r"\w*transformer_blocks\.(\d+)\.", name)
        return CPU if block and plan.stream_body and not stays(int(block[1]), plan) else device

    return device_of_weight


def stays(block: int, plan: Plan) -> bool:
    """Whether a double or single block of a streamed model is kept on the device. Kept blocks are spread evenly, so that each streamed
    block has time to arrive while they run."""
    return (block + 1) * plan.kept_shares // SHARES > block * plan.kept_shares // SHARES


def place_transformer(
    transformer: Any, modulation: PrecomputedModulation, plan: Plan, device: torch.device, pinning: Pinning | None = None
) -> None:
    for layer in modulation.small_layers:
        layer.to(device)
    if plan.stream_body:
        pinning = pinning or Pinning()
        with _streamed_blocks_alone(transformer, plan):
            if plan.pin_body and device.type != "cpu":
                _pin([*transformer.transformer_blocks, *transformer.single_transformer_blocks], pinning, in_files=plan.sizes.in_files)
            transformer.enable_group_offload(device, **_one_block_at_a_time(device))
        _pin_on_the_way(transformer, pinning)


@contextmanager
def _streamed_blocks_alone(transformer: Any, plan: Plan) -> Iterator[None]:
    """diffusers streams every block that it finds, and copies every other layer to the device and back at each step, so what stays is hidden
    from it meanwhile.
    """
    whole = {name: getattr(transformer, name) for name in ("transformer_blocks", "single_transformer_blocks", "x_embedder", "proj_out")}
    for name, part in whole.items():
        hidden = nn.ModuleList(block for at, block in enumerate(part) if not stays(at, plan)) if isinstance(part, nn.ModuleList) else None
        setattr(transformer, name, nn.Identity() if hidden is None else hidden)
    try:
        yield
    finally:
        for name, part in whole.items():
            setattr(transformer, name, part)


def _pin(blocks: Iterable[nn.Module], pinning: Pinning, *, in_files: bool) -> None:
    """Move the blocks' weights to pinned memory, one block after the other, so that no second copy of the whole is ever there in memory. Where that fails,
    those that were in files go back there.
    """
    moved: list[tuple[nn.Parameter, Tensor]] = []
    for block in blocks:
        weights = list(block.parameters())
        pinned = pinning(lambda weights=weights: in_one_buffer([weight.data for weight in weights]))  # type: ignore[misc]
        if pinned is None:
            for weight, data in moved:
                weight.data = data
            return
        for weight, data in zip(weights, pinned, strict=True):
            if in_files:
                moved.append((weight, weight.data))
            weight.data = data


def in_one_buffer(weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """Copies of the weights, in pinned memory that is allocated once: torch rounds each allocation up to a power of two."""
    ends = [0]
    for weight in weights:
        ends.append(ends[-1] + -(-weight.nbytes // ALIGNED) * ALIGNED)
    buffer = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=True)
    copies = []
    for weight, begin in zip(weights, ends, strict=False):
        copy = buffer[begin : begin + weight.nbytes].view(weight.dtype).view(weight.shape)
        copies.append(copy.copy_(weight))
    return copies


def place_t5(t5: Any, plan: Plan, device: torch.device, pinning: Pinning | None = None) -> None:
    if plan.stream_t5:
        from diffusers.hooks import apply_group_offloading

        # Its stack, which holds everything, the tied embedding included: hooked on the whole model, diffusers registers its prefetching twice and raises.
        apply_group_offloading(t5.encoder, device, **_one_block_at_a_time(device))
        _pin_on_the_way(t5.encoder, pinning or Pinning())
    else:
        t5.to(device)


def set_tiling(vae: Any, *, tiled: bool) -> None:
    """Decode and encode in tiles, or whole. Tiles change the image a little: each is normalised by itself."""
    if tiled:
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8
    else:
        vae.disable_tiling()


def _one_block_at_a_time(device: torch.device) -> dict[str, Any]:
    """diffusers' options for streaming. On a GPU the next block is copied while this one runs; what is pinned for that is ours to say."""
    streams = {"use_stream": True, "record_stream": False, "non_blocking": True, "low_cpu_mem_usage": True}
    return {"offload_type": "block_level", "num_blocks_per_group": 1, **(streams if device.type != "cpu" else {})}


def _pin_on_the_way(model: nn.Module, pinning: Pinning) -> None:
    """Copy streamed blocks by way of pinned memory while that works; diffusers would end the run at the first block that cannot be pinned."""
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry.get_hook("group_offloading") if registry else None
        if hook is not None:
            hook.group._pinned_memory_tensors = partial(_pinned, hook.group.cpu_param_dict, pinning)


@contextmanager
def _pinned(weights: Mapping[nn.Parameter, Tensor], pinning: Pinning) -> Iterator[Mapping[nn.Parameter, Tensor]]:
    """A block's weights in pinned memory, or as they are."""
    if all(weight.is_pinned() for weight in weights.values()):
        yield weights
    else:
        copies = pinning(lambda: in_one_buffer(list(weights.values())))
        yield weights if copies is None else dict(zip(weights, copies, strict=True))
