"""The two layouts in which FLUX.1's transformer is published: diffusers' names, and Black Forest Labs' own, which ComfyUI and GGUF files use.

Data, and the map from the second to the first. BFL's files hold a block's q, k and v in one matrix, and a single block's MLP with them;
and they scale and shift the last norm in the other order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

COMFYUI_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "")

# Each layer once, BFL's name -> diffusers' names; several share one matrix, row by row.
ONCE: Mapping[str, tuple[str, ...]] = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "final_layer.linear": ("proj_out",),
}
DOUBLE: Mapping[str, tuple[str, ...]] = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
}
SINGLE: Mapping[str, tuple[str, ...]] = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")  # of queries and keys: a scale and no bias
SWAPPED = "norm_out.linear"


@dataclass(frozen=True)
class Part:
    """Which rows of a stored tensor make up a weight."""

    stored: str  # the tensor's name in its file
    begin: int = 0  # the first row
    end: int | None = None  # the row after the last; None: all rows
    swapped: bool = False  # the second half of the rows comes first


def to_diffusers(stored: str, name: str, shape: tuple[int, ...], width: int) -> Iterator[tuple[str, Part]]:
    """diffusers' names of what BFL's tensor ``name`` holds, with the rows of each. ``stored`` is its name with the file's prefix, ``width``
    that of the transformer. Nothing for a tensor that is not FLUX.1's.
    """
    parsed = re.fullmatch(r"((?:double_blocks\.(\d+)|single_blocks\.(\d+))\.)?(.+?)((?:\.lora_[AB])?\.(?:weight|bias|scale))", name)
    if parsed is None:
        return
    _, double, single, layer, suffix = parsed.groups()
    names, prefix = ONCE, ""
    if double is not None:
        names, prefix = DOUBLE, f"transformer_blocks.{double}."
    elif single is not None:
        names, prefix = SINGLE, f"single_transformer_blocks.{single}."
    layers = names.get(layer, ())
    if suffix == ".scale":
        suffix = ".weight"
    undivided = len(layers) == 1 or ".lora_A" in suffix  # the same first factor of a LoRA serves all that share a matrix
    begin = 0
    for each in layers:
        rows = width if each != "proj_mlp" else shape[0] - 3 * width
        yield (
            f"{prefix}{each}{suffix}",
            Part(stored, swapped=each == SWAPPED and ".lora_A" not in suffix) if undivided else Part(stored, begin, begin + rows),
        )
        begin += rows


def expected_names(doubles: int, singles: int) -> set[str]:
    """diffusers' names of every weight of a guided FLUX.1 with so many blocks."""
    layers = [layer for names in ONCE.values() for layer in names]
    for count, prefix, table in ((doubles, "transformer_blocks", DOUBLE), (singles, "single_transformer_blocks", SINGLE)):
        layers += [f"{prefix}.{number}.{layer}" for number in range(count) for names in table.values() for layer in names]
    weights = {f"{layer}.weight" for layer in layers}
    return weights | {f"{layer}.bias" for layer in layers if layer.rpartition(".")[2] not in NORMS}


def rows_of(part: Part, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the part."""
    return shape if part.end is None else (part.end - part.begin, *shape[1:])


def share_of(part: Part, shape: tuple[int, ...]) -> float:
    """How much of the stored tensor the part is, 0 to 1."""
    return prod(rows_of(part, shape)) / max(1, prod(shape))
