"""The transformer's weights, from any of their files straight to their devices: a folder's shards, a single file, GGUF, a base with a control LoRA.

Each file is opened once and read in its order, into memory that torch owns and then to the device: no second copy of the whole, and never
through safetensors' own way to the GPU, which pins memory that WSL2 does not have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from flux_demo.checkpoints import FLUX_AXES, Checkpoint, NotUsable, inspect, why_not_merged
from flux_demo.engine.lora import ControlLora
from flux_demo.errors import GenerationFailed
from flux_demo.layouts import Part, rows_of
from flux_demo.libraries import building, importing
from flux_demo.model_files import weight_files
from flux_demo.progress import OnBytes
from flux_demo.tensor_files import GGUF_NUMBERS, StoredTensor, UnreadableFile, read_header

CPU = torch.device("cpu")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}

DeviceOf = Callable[[str], torch.device]
"""The device for the transformer's weight of that name."""


@dataclass(frozen=True)
class Source:
    """Where the transformer's weights are, and its config."""

    config: Mapping[str, Any]
    weights: Mapping[str, tuple[Path, StoredTensor, Part]]  # diffusers' name -> its file, tensor and rows

    @property
    def files(self) -> Sequence[Path]:
        return sorted({path for path, _, _ in self.weights.values()})


def read_transformer(
    source: Source,
    lora: ControlLora | None,
    dtype: torch.dtype,
    device_of: DeviceOf,
    on_bytes: OnBytes,
    mapped: bool,
) -> Any:
    """A FluxTransformer2DModel with every weight on its device. See ``load.load_transformer``."""
    with importing():
        from diffusers import FluxTransformer2DModel

    config = dict(source.config)
    if lora:  # a text FLUX's config names no out_channels, as there they are as many as in_channels
        config |= {"in_channels": lora.in_channels, "out_channels": config.get("out_channels") or config["in_channels"]}
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(config)
    total, done, lock = sum(tensor.size for _, tensor in _stored(source)), 0, Lock()

    def count(size: int) -> None:
        nonlocal done
        with lock:
            done = min(total, done + size)
            on_bytes(done, total)

    def read_file(path: Path) -> dict[str, Tensor]:
        names = sorted(
            (name for name in source.weights if source.weights[name][0] == path), key=lambda name: _file_position(source.weights[name])
        )
        weights = {}
        with path.open("rb", buffering=0) as file:
            whole = _map(file) if mapped and not lora else None
            for name in names:
                _, tensor, part = source.weights[name]
                device = device_of(name)
                left = whole is not None and device.type == "cpu" and not part.swapped
                weight = _typed(_left_in(whole, tensor, part) if left else _read(file, tensor, part), tensor, dtype)
                weights[name] = _to_device(lora.merge(name, weight, device) if lora else weight, device)
                count(weight.nbytes if tensor.quantised else tensor.size * weight.numel() // max(1, tensor.values))
        return weights

    on_bytes(0, total)
    with ThreadPoolExecutor(len(source.files)) as pool:
        weights = {name: weight for part in pool.map(read_file, source.files) for name, weight in part.items()}
    assign(transformer, weights, dtype)
    on_bytes(total, total)
    return transformer.eval()


def find_source(path: Path, components: Path | None) -> Source:
    """The weights of a transformer's folder or single file. ``components`` says what tensors cannot. Raises GenerationFailed, NotUsable."""
    if not path.is_dir():
        return _source_of(inspect(path), components)
    with importing():
        from diffusers import FluxTransformer2DModel

    config = FluxTransformer2DModel.load_config(path, local_files_only=True)
    weights = {}
    for shard in weight_files(path):
        if not shard.is_file():
            raise GenerationFailed(f"The file {shard.name} of the transformer is missing. Fetch or copy the model again.")
        try:
            weights.update({name: (shard, tensor, Part(name)) for name, tensor in read_header(shard).tensors.items()})
        except UnreadableFile as error:
            raise NotUsable(str(error)) from error
    return Source(config, weights)


def read_lora(path: Path, scale: float, base: Source) -> ControlLora:
    """The control LoRA of a file, for that base. Raises NotUsable."""
    checkpoint = inspect(path)
    if not checkpoint.is_lora:
        raise NotUsable("it is not a LoRA")
    if any(tensor.quantised for _, tensor, _ in base.weights.values()):
        raise NotUsable("a LoRA cannot be merged into a GGUF file; use a bf16 base, or a GGUF file of the Canny or Depth model itself")
    if why := why_not_merged(checkpoint, {name: rows_of(part, tensor.shape) for name, (_, tensor, part) in base.weights.items()}):
        raise NotUsable(why)

    def read(name: str) -> Tensor:
        part = checkpoint.weights[name]
        tensor = checkpoint.file.tensors[part.stored]
        with path.open("rb", buffering=0) as file:
            return _typed(_read(file, tensor, part), tensor, torch.float32)

    return ControlLora(checkpoint, scale, read)


def _source_of(checkpoint: Checkpoint, components: Path | None) -> Source:
    if checkpoint.is_lora:
        raise NotUsable("it is a LoRA, not a model")
    head, axes = checkpoint.config["attention_head_dim"], FLUX_AXES
    if components is not None and (config := components / "transformer" / "config.json").is_file():
        axes = tuple(json.loads(config.read_text("utf-8")).get("axes_dims_rope", axes))
    if sum(axes) != head:
        raise NotUsable(f"its attention heads have {head} channels, and the components are of a model with {sum(axes)}")
    tensors, path = checkpoint.file.tensors, checkpoint.file.path
    weights = {name: (path, tensors[part.stored], part) for name, part in checkpoint.weights.items()}
    return Source({**checkpoint.config, "axes_dims_rope": axes}, weights)


def _stored(source: Source) -> set[tuple[Path, StoredTensor]]:
    return {(path, tensor) for path, tensor, _ in source.weights.values()}


def _file_position(where: tuple[Path, StoredTensor, Part]) -> tuple[int, int]:
    return where[1].offset, where[2].begin


def _span(tensor: StoredTensor, part: Part) -> tuple[int, int]:
    """The part's first byte in the file, and how many there are."""
    rows = tensor.shape[0] if tensor.shape else 1
    width = tensor.size // rows
    end = rows if part.end is None else part.end
    if end > rows:
        raise NotUsable("it is damaged: its weights have the wrong shapes")
    return tensor.offset + part.begin * width, (end - part.begin) * width


def _read(file: BinaryIO, tensor: StoredTensor, part: Part) -> Tensor:
    """The part's bytes, in memory of their own."""
    begin, size = _span(tensor, part)
    data = torch.empty(size, dtype=torch.uint8)
    view = memoryview(data.numpy())
    half = size // 2
    spans = [(begin + half, view[: size - half]), (begin, view[size - half :])] if part.swapped else [(begin, view)]
    for start, target in spans:
        file.seek(start)
        while target:
            read = file.readinto(target)  # type: ignore[attr-defined]
            if not read:
                raise NotUsable("it is incomplete: it ends before its last weights")
            target = target[read:]
    return _shaped(data, tensor, part)


def _map(file: BinaryIO) -> Any:
    """The whole file as an array of bytes. Every map holds a descriptor, so one for each tensor would be more than Linux allows by default."""
    import numpy as np

    # Read-only: a private, writable map counts against Windows's commit charge.
    return np.memmap(file, dtype=np.uint8, mode="r")


def _left_in(whole: Any, tensor: StoredTensor, part: Part) -> Tensor:
    """The part's bytes, left in the mapped file until they are used."""
    import numpy as np

    begin, size = _span(tensor, part)
    return _shaped(torch.from_numpy(np.asarray(_Writable(whole[begin : begin + size]))), tensor, part)


class _Writable:
    """An array that says it can be written. torch warns of those that cannot, and a filter for warnings is all threads' filter. Nothing writes here."""

    def __init__(self, array: Any) -> None:
        self.array = array  # keeps the file mapped
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _shaped(data: Tensor, tensor: StoredTensor, part: Part) -> Tensor:
    shape = rows_of(part, tensor.shape)
    return data.view(*shape[:-1], -1) if tensor.quantised else data.view(DTYPES[tensor.kind]).view(shape)


def _typed(data: Tensor, tensor: StoredTensor, dtype: torch.dtype) -> Tensor:
    """Quantised weights stay as they are stored, until a layer uses them."""
    if not tensor.quantised:
        return data.to(dtype)
    from diffusers.quantizers.gguf.utils import GGUFParameter
    from gguf import GGMLQuantizationType

    return GGUFParameter(data, quant_type=GGMLQuantizationType(GGUF_NUMBERS[tensor.kind]))


def _to_device(weight: Tensor, device: torch.device) -> Tensor:
    """The one place where a weight goes to the device: ``stand_ins.gpu`` counts its bytes here."""
    return weight.to(device)


def assign(transformer: nn.Module, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Put the weights into the model, which must have exactly these. Layers with quantised weights become diffusers' GGUFLinear."""
    from diffusers.quantizers.gguf.utils import GGUFParameter, _replace_with_gguf_linear, dequantize_gguf_tensor

    expected = {name: weight.shape for name, weight in transformer.named_parameters()}
    for name, weight in weights.items():
        if isinstance(weight, GGUFParameter) and not isinstance(transformer.get_submodule(name.rpartition(".")[0]), nn.Linear):
            weights[name] = dequantize_gguf_tensor(weight).to(dtype)
    shapes = {name: torch.Size(getattr(weight, "quant_shape", weight.shape)) for name, weight in weights.items()}
    if shapes != expected:
        wrong = next(name for name in sorted({*shapes, *expected}) if shapes.get(name) != expected.get(name))
        raise NotUsable(f"it is incomplete or damaged: {wrong} is missing or has the wrong shape")
    if any(isinstance(weight, GGUFParameter) for weight in weights.values()):
        with building():
            _replace_with_gguf_linear(transformer, dtype, weights)
    for name, weight in weights.items():
        layer, _, own = name.rpartition(".")
        # With gradients, as load_state_dict leaves it: torch picks other kernels by that, and they round differently.
        parameter = weight if isinstance(weight, GGUFParameter) else nn.Parameter(weight)
        transformer.get_submodule(layer)._parameters[own] = parameter
