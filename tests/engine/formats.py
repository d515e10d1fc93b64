"""A tiny FLUX's transformer, written in the forms in which people have FLUX: BFL's layout, ComfyUI's prefix, GGUF, and control LoRAs for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flux_demo.layouts import DOUBLE, NORMS, ONCE, SINGLE

WEIGHTS = "diffusion_pytorch_model.safetensors"
COMFYUI = "model.diffusion_model."
K_QUANTS = {  # where the float16 scales of a block lie, in bytes
    gguf.GGMLQuantizationType.Q2_K: (80, 82),
    gguf.GGMLQuantizationType.Q3_K: (108,),
    gguf.GGMLQuantizationType.Q4_K: (0, 2),
    gguf.GGMLQuantizationType.Q5_K: (0, 2),
    gguf.GGMLQuantizationType.Q6_K: (208,),
}


def weights_of(folder: Path, mode: str = "text") -> dict[str, Tensor]:
    return load_file(folder / ("transformer" if mode == "text" else f"transformer_{mode}") / WEIGHTS)


def in_bfl_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> BFL's, written with the product's tables of names but without its ``to_diffusers``: rows are joined, and the last norm's halves swapped."""
    joined: dict[str, Tensor] = {}
    blocks = [("", "", ONCE)]
    for theirs, ours, table in (("double_blocks", "transformer_blocks", DOUBLE), ("single_blocks", "single_transformer_blocks", SINGLE)):
        numbers = {int(name.split(".")[1]) for name in weights if name.startswith(f"{ours}.")}
        blocks += [(f"{theirs}.{number}.", f"{ours}.{number}.", table) for number in sorted(numbers)]
    for theirs, ours, table in blocks:
        for layer, parts in table.items():
            for suffix in ("weight", "bias"):
                tensors = [weights[f"{ours}{part}.{suffix}"] for part in parts if f"{ours}{part}.{suffix}" in weights]
                if tensors:
                    scale = "scale" if parts[0].rpartition(".")[2] in NORMS else suffix
                    joined[f"{theirs}{layer}.{scale}"] = torch.cat(tensors)
    for suffix in ("weight", "bias"):
        if (last := f"final_layer.adaLN_modulation.1.{suffix}") in joined:
            scale, shift = joined[last].chunk(2)
            joined[last] = torch.cat([shift, scale])
    return joined


def save(path: Path, weights: Mapping[str, Tensor], prefix: str = "") -> Path:
    save_file({prefix + name: weight.contiguous().clone() for name, weight in weights.items()}, path)
    return path


def save_gguf(path: Path, weights: Mapping[str, Tensor], kind: gguf.GGMLQuantizationType, seed: int = 0) -> Path:
    """The blocks' matrices are quantised where their rows are whole blocks; K-quants, which gguf cannot write, are random bytes."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "flux")
    values, size = gguf.GGML_QUANT_SIZES[kind]
    for name, weight in weights.items():
        data = weight.float().numpy()
        if "_blocks." not in name or data.ndim != 2 or data.shape[1] % values:
            writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.F32)
        elif kind in K_QUANTS:
            blocks = random.integers(0, 256, (data.size // values, size), dtype=np.uint8)
            for place in K_QUANTS[kind]:
                blocks[:, place : place + 2] = np.full(len(blocks), 3e-4, np.float16)[:, None].view(np.uint8)
            writer.add_tensor(name, blocks.reshape(data.shape[0], -1), raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dequantised(path: Path) -> dict[str, Tensor]:
    """What gguf itself reads from the file."""
    return {
        tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()).reshape(
            *reversed(tensor.shape.tolist())
        )
        for tensor in gguf.GGUFReader(path).tensors
    }


def control_lora(weights: Mapping[str, Tensor], rank: int = 4, seed: int = 7, inputs: int = 32) -> dict[str, Tensor]:
    """A control LoRA for a text transformer, in diffusers' names: every linear layer, biases too, and the norms of queries and keys."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * 0.1

    lora = {}
    for name, weight in weights.items():
        layer, _, suffix = name.rpartition(".")
        if layer.rpartition(".")[2] in NORMS:
            lora[name] = 1 + draw(*weight.shape)
        elif suffix == "weight":
            lora[f"{layer}.lora_A.weight"] = draw(rank, inputs if layer == "x_embedder" else weight.shape[1])
            lora[f"{layer}.lora_B.weight"] = draw(weight.shape[0], rank)
            lora[f"{layer}.lora_B.bias"] = draw(weight.shape[0])
    return lora
