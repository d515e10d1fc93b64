"""What a file of weights is, told from its tensors and never from its name: FLUX.1's transformer in either layout, a control LoRA for it, or
something else, which is refused in words before anything is loaded.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

from flux_demo.layouts import COMFYUI_PREFIXES, NORMS, Part, expected_names, rows_of, to_diffusers
from flux_demo.tensor_files import GGUF_NUMBERS, FileState, TensorFile, UnreadableFile, read_header, state_of

SUFFIXES = (".safetensors", ".sft", ".gguf")
BLOCKS = ("transformer_blocks", "single_transformer_blocks")
FLUX_AXES = (16, 56, 56)  # of the rotary embedding: no tensor tells them
TEXT_FACTOR, CONTROL_FACTOR, FILL_FACTOR = 1, 2, 6  # input channels, as multiples of the output channels
LOADABLE = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", *GGUF_NUMBERS}
SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale", "scaled_fp8")
# Signs of other models in a tensor's name, with what they are.
OTHERS: Mapping[str, str] = {
    "double_stream_modulation": "it is a FLUX.2 model",
    "joint_blocks.": "it is a Stable Diffusion 3 model",
    "input_blocks.": "it is a Stable Diffusion model",
    "down_blocks.": "it is a VAE or a Stable Diffusion model",
    "decoder.up.": "it is a VAE",
    "encoder.block.": "it is a T5 text encoder",
    "enc.blk.": "it is a T5 text encoder",
    "text_model.": "it is a CLIP text encoder",
    "distilled_guidance_layer": "it is a Chroma model",
    "qweight": "it was quantised for Nunchaku",
    "quant_state.bitsandbytes": "it was quantised by bitsandbytes",
    ".absmax": "it was quantised by bitsandbytes",
    "lora_down": "it is a LoRA of another kind than BFL's control LoRAs",
    "lokr_": "it is a LoKr adapter",
}
NO_GUIDANCE = "it takes no guidance, like FLUX.1-schnell; a FLUX.1 [dev] model is needed"
NO_CONTROL_LORA = "it is a LoRA that does not follow a map; BFL's FLUX.1-Canny-dev-lora and FLUX.1-Depth-dev-lora do"


class NotUsable(ValueError):
    """The file cannot be used. The message is a clause: "it is a LoRA"."""


@dataclass(frozen=True)
class Checkpoint:
    """A transformer, or a control LoRA for one, in a single file."""

    file: TensorFile
    weights: Mapping[str, Part]  # diffusers' name -> where it is
    config: Mapping[str, Any]  # of FluxTransformer2DModel, without axes_dims_rope; empty for a LoRA
    is_lora: bool = False
    scaling: Mapping[str, float] = field(default_factory=dict)  # of a LoRA: layer -> what its change is multiplied by

    @property
    def kind(self) -> str:
        """The type that most of its bytes are stored in: "Q8_0", "BF16"."""
        bytes_of: Counter[str] = Counter()
        for tensor in self.file.tensors.values():
            bytes_of[tensor.kind] += tensor.size
        return bytes_of.most_common(1)[0][0]

    @property
    def title(self) -> str:
        """Its own name and type: "flux1-dev-Q8_0.gguf, Q8_0"."""
        return f"{self.file.path.name}, {self.kind}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """diffusers' name -> the weight's shape."""
        return {name: rows_of(part, self.file.tensors[part.stored].shape) for name, part in self.weights.items()}

    @property
    def follows_map(self) -> bool:
        return self.is_lora or self.config["in_channels"] != self.config["out_channels"]


def is_file_name(name: str) -> bool:
    """Whether the setting names a single file of weights rather than a folder or a model on the Hub."""
    return name.lower().endswith(SUFFIXES)


def inspect(path: Path) -> Checkpoint:
    """What the file holds. Raises NotUsable for everything but a whole FLUX.1 [dev] transformer or a control LoRA for one.

    Cached until the file changes, because every plan and every load of the page asks.
    """
    try:
        found = _inspected(state_of(path))
    except UnreadableFile as error:
        raise NotUsable(str(error)) from error
    if isinstance(found, Checkpoint):
        return found
    raise NotUsable(found)


@lru_cache(maxsize=16)
def _inspected(state: FileState) -> Checkpoint | str:
    """The checkpoint, or why the file cannot be used, as a clause. Raises UnreadableFile."""
    file = read_header(state.path)
    try:
        return _checkpoint(file)
    except NotUsable as error:
        return str(error)
    except (ValueError, IndexError, ZeroDivisionError):  # names without a number or a dot, shapes of zero
        return "it is damaged: its weights have names or shapes that no FLUX.1 model has"


def _checkpoint(file: TensorFile) -> Checkpoint:
    names = set(file.tensors)
    prefix = next(prefix for prefix in COMFYUI_PREFIXES if any(name.startswith(prefix) for name in names))
    own = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    if any(name.endswith(SCALES) for name in own):  # not those of a text encoder in the same file
        raise NotUsable(
            "its weights come with scales (scale_weight), as scaled fp8 and fp4 do, which cannot be read; use a GGUF file, or an fp8 file without scales"
        )
    is_lora = any(".lora_A." in name for name in own)
    weights = _in_diffusers_names(file, own)
    if not weights:
        raise NotUsable(_other_model(names))
    if strange := sorted({file.tensors[part.stored].kind for part in weights.values()} - LOADABLE):
        raise NotUsable(f"its weights are stored as {strange[0]}, which cannot be read; Q8_0, Q5_K, Q4_K and others can")
    return _lora(file, weights, names) if is_lora else _transformer(file, weights, names)


def other_inputs(inputs: int, outputs: int) -> str | None:
    """Why a transformer with so many channels is neither a text nor a control model, as a clause; None if it is one."""
    if inputs in (TEXT_FACTOR * outputs, CONTROL_FACTOR * outputs):
        return None
    if inputs == FILL_FACTOR * outputs:
        return "it is a FLUX.1-Fill model, which nothing here can run"
    return f"it takes {inputs} input channels, where text models take {outputs} and control models {CONTROL_FACTOR * outputs}"


def why_not(path: Path, *, follows_map: bool) -> str | None:
    """Why the file cannot be used for a mode, as a clause; None if it can. Quick."""
    try:
        checkpoint = inspect(path)
    except NotUsable as error:
        return str(error)
    if checkpoint.is_lora:
        return None if follows_map else "it is a LoRA, not a model; name the model here, and the LoRA for canny or depth"
    if follows_map and not checkpoint.follows_map:
        return "it does not follow a map: it is a text model such as FLUX.1-dev, with 64 input channels where 128 are needed"
    if not follows_map and checkpoint.follows_map:
        return "it needs a map to follow, as the Canny and Depth models do"
    return None


def _in_diffusers_names(file: TensorFile, own: Mapping[str, str]) -> dict[str, Part]:
    bfl_inputs = next((own[name] for name in ("img_in.weight", "img_in.lora_B.weight") if name in own), None)
    if bfl_inputs is not None:
        width = file.tensors[bfl_inputs].shape[0]
        pairs = (pair for name, stored in own.items() for pair in to_diffusers(stored, name, file.tensors[stored].shape, width))
        return dict(pairs)
    if any(name.startswith("transformer_blocks.0.attn.") for name in own) and any(name.startswith("x_embedder.") for name in own):
        return {name: Part(stored) for name, stored in own.items()}
    return {}


def _other_model(names: set[str]) -> str:
    for sign, what in OTHERS.items():
        if any(sign in name for name in names):
            return what
    if any("lora" in name for name in names):
        return "it is a LoRA, and not one of BFL's control LoRAs"
    return "it is not FLUX.1's transformer"


def _lora(file: TensorFile, weights: Mapping[str, Part], names: set[str]) -> Checkpoint:
    layers = {name.partition(".lora_")[0] for name in weights if ".lora_" in name}
    halves = all(f"{layer}.lora_{half}.weight" in weights for layer in layers for half in "AB")
    if "x_embedder" not in layers or not halves:
        raise NotUsable(NO_CONTROL_LORA)
    if any(name.endswith(".alpha") for name in names) or not all(".lora_" in name or name.split(".")[-2] in NORMS for name in weights):
        raise NotUsable(_other_model(names) if _other_model(names).startswith("it is a LoRA") else "it is a LoRA of another kind")
    lora = Checkpoint(file, dict(weights), {}, is_lora=True)
    shapes = lora.shapes
    return replace(lora, scaling=_scaling(file, {layer: shapes[f"{layer}.lora_B.weight"][1] for layer in layers}))


def _scaling(file: TensorFile, ranks: Mapping[str, int]) -> dict[str, float]:
    """Alpha / rank of each layer, from the config that diffusers puts into the file; 1 where there is none."""
    stored = file.metadata.get("lora_adapter_metadata")
    if not stored:
        return dict.fromkeys(ranks, 1.0)
    try:
        config = {name.removeprefix("transformer."): value for name, value in json.loads(stored).items() if name.startswith("transformer.")}
        patterns, alpha = config.get("alpha_pattern") or {}, config["lora_alpha"]
        alphas = {  # a pattern matches as in peft's get_pattern_key
            layer: next((patterns[pattern] for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", layer)), alpha) for layer in ranks
        }
        return {layer: float(alphas[layer]) / (sqrt(rank) if config.get("use_rslora") else rank) for layer, rank in ranks.items()}
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise NotUsable("it is damaged: its LoRA's metadata cannot be read") from error


def why_not_merged(lora: Checkpoint, base: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the LoRA cannot be merged into the base with weights of these shapes, as a clause; None if it can.

    The base must have each weight that the LoRA changes, in the shape of the change. Only the input layer gets more columns: the map's.
    """
    shapes = lora.shapes
    rows, inputs = base.get("x_embedder.weight", (0, 0))
    if shapes["x_embedder.lora_A.weight"][1:] != (CONTROL_FACTOR * inputs,):
        return NO_CONTROL_LORA
    changed = {**base, "x_embedder.weight": (rows, CONTROL_FACTOR * inputs)}
    for name, shape in shapes.items():
        layer, _, factor = name.partition(".lora_")
        if factor in ("A.weight", "B.weight"):
            up, down = shapes[f"{layer}.lora_B.weight"], shapes[f"{layer}.lora_A.weight"]
            fits = up[1:] == down[:1] and (*up[:1], *down[1:]) == changed.get(f"{layer}.weight")
        else:
            fits = shape == changed.get(name.replace(".lora_B.bias", ".bias"))
        if not fits:
            return "it was made for a model with other layers"
    return None


def _transformer(file: TensorFile, weights: Mapping[str, Part], names: set[str]) -> Checkpoint:
    blocks = {kind: 1 + max((int(name.split(".")[1]) for name in weights if name.startswith(f"{kind}.")), default=-1) for kind in BLOCKS}
    doubles, singles = blocks.values()
    expected = expected_names(doubles, singles)
    missing = sorted(expected - set(weights))
    if missing and all("guidance_embedder" in name for name in missing):
        raise NotUsable(NO_GUIDANCE)
    if missing or not doubles or not singles:
        other = _other_model(names)
        raise NotUsable(other if other != "it is not FLUX.1's transformer" else f"it is incomplete: {missing[0]} is missing")

    def shape(name: str) -> tuple[int, ...]:
        part = weights[name]
        return rows_of(part, file.tensors[part.stored].shape)

    try:
        (width, inputs), (outputs, _) = shape("x_embedder.weight"), shape("proj_out.weight")
        (head,), (_, text_width) = shape("transformer_blocks.0.attn.norm_q.weight"), shape("context_embedder.weight")
        (_, pooled_width) = shape("time_text_embed.text_embedder.linear_1.weight")
    except ValueError as error:
        raise NotUsable("it is damaged: its weights have the wrong shapes") from error
    if why := other_inputs(inputs, outputs):
        raise NotUsable(why)
    if width % head:
        raise NotUsable("it is damaged: its weights have the wrong shapes")
    config = {
        "in_channels": inputs,
        "out_channels": outputs,
        "num_layers": doubles,
        "num_single_layers": singles,
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": text_width,
        "pooled_projection_dim": pooled_width,
        "guidance_embeds": True,
    }
    return Checkpoint(file, {name: part for name, part in weights.items() if name in expected}, config)
