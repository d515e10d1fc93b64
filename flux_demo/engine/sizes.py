"""How much memory a model's weights take, from its files' headers: quick, and without torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from flux_demo.checkpoints import inspect
from flux_demo.engine.memory import GIB, WeightSizes
from flux_demo.layouts import share_of
from flux_demo.model_files import SHARED_WEIGHTS, ModelFiles, weight_files
from flux_demo.tensor_files import FileState, StoredTensor, read_header, state_of

BF16, FLOAT32 = 2, 4  # bytes of a value
MOSTLY = 0.98  # of the weights' bytes: a few norms may be stored otherwise
KINDS = {BF16: "BF16", FLOAT32: "F32"}
SMALL_LAYERS = 0.1  # GiB; of the transformer, and what libraries round up


def is_modulation(name: str) -> bool:
    """Whether a weight of that name belongs to the layers that are computed once per image."""
    return re.search(r"(^|\.)(norm1|norm1_context|norm|norm_out)\.linear\.(weight|bias)$", name) is not None


def sizes_of(files: ModelFiles, width: int = BF16) -> WeightSizes:
    """The sizes of a mode's model where a value takes ``width`` bytes. Raises ValueError for files that cannot be read.

    Cached until one of the files changes, because every plan and every load of the page asks.
    """
    paths = (files.transformer, *(files.shared / name for name in SHARED_WEIGHTS))
    return _sizes(files, width, tuple(state_of(file) for path in paths for file in _files(path)))


@lru_cache(maxsize=16)
def _sizes(files: ModelFiles, width: int, _states: tuple[FileState, ...]) -> WeightSizes:
    body, modulation, blocks, kinds = 0.0, 0.0, Counter[str](), Counter[str]()
    for name, tensor, share in _weights(files.transformer):
        size = share * (tensor.size if tensor.quantised else width * tensor.values)
        kinds[tensor.kind] += int(size)
        if is_modulation(name):
            modulation += size
            continue
        body += size
        if block := re.match(r"\w*transformer_blocks\.\d+\.", name):
            blocks[block[0]] += int(size)
    if not kinds:
        raise ValueError("no weights")
    kind = kinds.most_common(1)[0][0]
    quantised = kind not in KINDS.values() and any(tensor.quantised for _, tensor, _ in _weights(files.transformer))
    return WeightSizes(
        body / GIB,
        modulation / GIB,
        _folder_bytes(files.shared / "text_encoder_2", width) / GIB,
        sum(_folder_bytes(files.shared / name, width) for name in ("text_encoder", "vae")) / GIB + SMALL_LAYERS,
        sum(2 ** (size - 1).bit_length() for size in blocks.values()) / GIB,  # as torch allocates them
        kind,
        quantised,
        in_files=files.lora is None and (quantised or kinds[KINDS[width]] >= MOSTLY * kinds.total()),
    )


def _files(path: Path) -> Sequence[Path]:
    return [path] if path.is_file() else weight_files(path)


def _weights(path: Path) -> Iterator[tuple[str, StoredTensor, float]]:
    """Name, tensor, and how much of the tensor the weight is."""
    if path.is_dir():
        for file in _files(path):
            yield from ((name, tensor, 1.0) for name, tensor in read_header(file).tensors.items())
        return
    checkpoint = inspect(path)
    for name, part in checkpoint.weights.items():
        tensor = checkpoint.file.tensors[part.stored]
        yield name, tensor, share_of(part, tensor.shape)


def _folder_bytes(folder: Path, width: int) -> int:
    return sum(width * tensor.values for file in _files(folder) for tensor in read_header(file).tensors.values())
