"""FLUX's files at full size, with true headers and no values. They are sparse: they take no room on the disk, can be planned with, and read as zeros."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import gguf
import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

from benchmarks.subjects.flux import clip_config, new_vae, t5_config
from flux_demo.layouts import DOUBLE, NORMS, ONCE, SINGLE
from flux_demo.model_files import ModelFiles
from flux_demo.tensor_files import GGUF_NUMBERS, GGUF_TYPES, SAFETENSORS_BYTES

Shapes = Mapping[str, Sequence[int]]
DOUBLES, SINGLES = 19, 38
WEIGHTS = "diffusion_pytorch_model.safetensors"


def transformer_shapes(doubles: int = DOUBLES, singles: int = SINGLES, in_channels: int = 64) -> Shapes:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            in_channels=in_channels, out_channels=64, num_layers=doubles, num_single_layers=singles, guidance_embeds=True
        )
    return _shapes_of(transformer)


def in_bfl_layout(shapes: Shapes) -> Shapes:
    """diffusers' names -> those of Black Forest Labs' own files, where several layers are one."""
    tables = [("", "", ONCE)]
    for theirs, ours, table in (("double_blocks", "transformer_blocks", DOUBLE), ("single_blocks", "single_transformer_blocks", SINGLE)):
        numbers = sorted({int(name.split(".")[1]) for name in shapes if name.startswith(f"{ours}.")})
        tables += [(f"{theirs}.{number}.", f"{ours}.{number}.", table) for number in numbers]
    joined = {}
    for theirs, ours, table in tables:
        for layer, parts in table.items():
            for suffix in ("weight", "bias"):
                found = [shapes[name] for part in parts if (name := f"{ours}{part}.{suffix}") in shapes]
                if found:
                    own = "scale" if parts[0].rpartition(".")[2] in NORMS else suffix
                    joined[f"{theirs}{layer}.{own}"] = (sum(shape[0] for shape in found), *found[0][1:])
    return joined


def save(path: Path, shapes: Shapes, kind: str = "BF16") -> Path:
    """A .safetensors file of those tensors."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + prod(shape) * SAFETENSORS_BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + end)
    return path


def save_gguf(path: Path, shapes: Shapes, kind: str) -> Path:
    """A GGUF file of those tensors, with every matrix quantised whose rows are whole blocks."""
    writer = gguf.GGUFWriter(path, "flux")
    end = 0
    for name, shape in shapes.items():
        whole_blocks = len(shape) == 2 and shape[1] % GGUF_TYPES[GGUF_NUMBERS[kind]][1] == 0
        number = GGUF_NUMBERS[kind if whole_blocks else "F32"]
        _, values, width = GGUF_TYPES[number]
        size = prod(shape) // values * width
        in_bytes = (*shape[:-1], shape[-1] // values * width)
        writer.add_tensor_info(name, in_bytes, np.dtype(np.uint8), size, gguf.GGMLQuantizationType(number))
        end += -(-size // writer.data_alignment) * writer.data_alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        begin = file.seek(0, 2)
        file.truncate(-(-begin // writer.data_alignment) * writer.data_alignment + end)
    return path


def components(folder: Path) -> Path:
    """A folder with the text encoders, the VAE and the scheduler."""
    with torch.device("meta"):
        models = {"text_encoder": CLIPTextModel(clip_config()), "text_encoder_2": T5EncoderModel(t5_config()), "vae": new_vae()}
    for name, model in models.items():
        save(folder / name / (WEIGHTS if name == "vae" else "model.safetensors"), _shapes_of(model))
        (folder / name / "config.json").write_text("{}", "utf-8")
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        (folder / name).mkdir()
        (folder / name / f"{name}_config.json").write_text("{}", "utf-8")
    return folder


def control_lora(path: Path, rank: int = 128) -> Path:
    """A control LoRA for it: factors for every matrix, the map's channels at the input layer included."""
    factors = {}
    for name, shape in transformer_shapes().items():
        layer, _, suffix = name.rpartition(".")
        if suffix == "weight" and len(shape) == 2:
            factors[f"{layer}.lora_A.weight"] = (rank, 128 if layer == "x_embedder" else shape[1])
            factors[f"{layer}.lora_B.weight"] = (shape[0], rank)
    return save(path, factors)


def model_files(folder: Path, kind: str, *, lora: bool = False) -> ModelFiles:
    """FLUX.1 [dev] as a GGUF file of that kind or, for "BF16", as a folder in diffusers' layout; ``lora``: with a control LoRA to merge."""
    shared = components(folder)
    if kind == "BF16":
        save(folder / "transformer" / WEIGHTS, transformer_shapes())
        config = {"_class_name": "FluxTransformer2DModel", "in_channels": 64, "out_channels": None, "guidance_embeds": True}
        (folder / "transformer" / "config.json").write_text(json.dumps(config), "utf-8")
        (folder / "model_index.json").write_text("{}", "utf-8")
        own = control_lora(folder / "flux1-canny-dev-lora.safetensors") if lora else None
        return ModelFiles("FLUX.1-dev", shared, folder / "transformer", shared / "scheduler", own)
    file = save_gguf(folder / f"flux1-dev-{kind}.gguf", in_bfl_layout(transformer_shapes()), kind)
    return ModelFiles(file.name, shared, file, shared / "scheduler")


def _shapes_of(model: torch.nn.Module) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}
