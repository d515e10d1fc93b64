"""What a file of weights holds, from its header alone: the name, type, shape and place of every tensor, in safetensors and in GGUF.

Quick, whatever the file's size, and needs no library: a route is chosen by it. A truncated file is found out here too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

MAX_HEADER = 100_000_000  # bytes: what safetensors itself takes at most
MAX_TENSORS = 100_000
SAFETENSORS_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
# GGUF's number of a type -> its name, how many values a block holds, how many bytes a block takes. Those that diffusers dequantises.
GGUF_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
}
GGUF_NUMBERS = {name: number for number, (name, _, _) in GGUF_TYPES.items()}
UNQUANTISED = ("F64", "F32", "F16", "BF16")
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # GGUF's metadata types
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


class UnreadableFile(ValueError):
    """Not a file of weights, or one that is damaged. The message is a clause: "it is damaged"."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it is stored in its file."""

    kind: str  # "BF16", "Q8_0", ...: the format's own name
    shape: tuple[int, ...]  # in torch's order, in values
    offset: int  # of its first byte in the file
    size: int  # bytes

    @property
    def values(self) -> int:
        return prod(self.shape)

    @property
    def quantised(self) -> bool:
        return self.kind in GGUF_NUMBERS and self.kind not in UNQUANTISED


@dataclass(frozen=True)
class TensorFile:
    """A file of weights, unopened."""

    path: Path
    format: str  # "safetensors" or "GGUF"
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]  # of a safetensors file


class FileState(NamedTuple):
    """A file as it is now: what was found in it holds as long as this is the same."""

    path: Path
    size: int  # bytes
    changed: int  # nanoseconds


def state_of(path: Path) -> FileState:
    """Raises UnreadableFile."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UnreadableFile("it cannot be opened") from error
    return FileState(path, stat.st_size, stat.st_mtime_ns)


def read_header(path: Path) -> TensorFile:
    """The file's tensors. Raises UnreadableFile. Read once as long as the file does not change."""
    found = _read_header(state_of(path))
    if isinstance(found, TensorFile):
        return found
    raise UnreadableFile(found)


@lru_cache(maxsize=64)
def _read_header(state: FileState) -> TensorFile | str:
    """The file's tensors, or a clause that says why it does not hold weights: that too is found only once. Raises UnreadableFile if it cannot be opened."""
    try:
        return _tensors(state.path, state.size)
    except OSError as error:
        raise UnreadableFile("it cannot be opened") from error  # now: who may read it can change without the file
    except UnreadableFile as error:
        return str(error)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError, RecursionError):
        return "it is damaged, or not a file of weights"


def _tensors(path: Path, size: int) -> TensorFile:
    with path.open("rb") as file:
        is_gguf = file.read(4) == b"GGUF"
        file.seek(0)
        tensors, metadata = (_gguf(file, size), {}) if is_gguf else _safetensors(file, size)
    if not tensors:
        raise UnreadableFile("it holds no weights")
    if max(tensor.offset + tensor.size for tensor in tensors.values()) > size:
        raise UnreadableFile("it is incomplete: it ends before its last weights")
    return TensorFile(path, "GGUF" if is_gguf else "safetensors", tensors, metadata)


def _safetensors(file: BinaryIO, size: int) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(MAX_HEADER, size - 8):
        raise UnreadableFile("it is incomplete, or not a file of weights")
    header = json.loads(file.read(length))
    metadata = dict(header.pop("__metadata__", {}))
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        shape = tuple(int(side) for side in entry["shape"])
        if entry["dtype"] in SAFETENSORS_BYTES and (end - begin != prod(shape) * SAFETENSORS_BYTES[entry["dtype"]] or begin < 0):
            raise UnreadableFile("it is damaged: its header contradicts itself")
        tensors[name] = StoredTensor(entry["dtype"], shape, 8 + length + begin, end - begin)
    return tensors, metadata


def _gguf(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    _, version, count, pairs = struct.unpack("<4sIQQ", file.read(24))
    if version not in (2, 3) or count > MAX_TENSORS or pairs > MAX_TENSORS:
        raise UnreadableFile("it is damaged, or a GGUF of a version that cannot be read")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = _string(file, size)
        metadata[key] = _value(file, size, *struct.unpack("<I", file.read(4)))
    alignment = int(metadata.get("general.alignment", _ALIGNMENT)) or _ALIGNMENT
    entries = list(_gguf_entries(file, size, count, metadata))
    begin = -(-file.tell() // alignment) * alignment
    tensors = {}
    for name, shape, number, offset in entries:
        kind, values, width = GGUF_TYPES.get(number, (f"GGUF type {number}", 1, 0))
        if not shape or shape[-1] % values:
            raise UnreadableFile("it is damaged: its header contradicts itself")
        tensors[name] = StoredTensor(kind, shape, begin + offset, prod(shape) // values * width)
    return tensors


def _gguf_entries(file: BinaryIO, size: int, count: int, metadata: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    for _ in range(count):
        name = _string(file, size)
        (sides,) = struct.unpack("<I", file.read(4))
        if sides > 8:
            raise UnreadableFile("it is damaged: its header contradicts itself")
        shape = struct.unpack(f"<{sides}Q", file.read(8 * sides))[::-1]
        number, offset = struct.unpack("<IQ", file.read(12))
        # Tensors whose rows do not divide into whole blocks were flattened, with their shape kept here.
        original = metadata.get(f"comfy.gguf.orig_shape.{name}")
        yield name, tuple(original) if original and prod(original) == prod(shape) else shape, number, offset


def _value(file: BinaryIO, size: int, kind: int) -> Any:
    if kind == _STRING:
        return _string(file, size)
    if kind == _ARRAY:
        item, length = struct.unpack("<IQ", file.read(12))
        if length > size:
            raise UnreadableFile("it is damaged: its header contradicts itself")
        return [_value(file, size, item) for _ in range(length)]
    code = "<" + _SCALARS[kind]
    return struct.unpack(code, file.read(struct.calcsize(code)))[0]


def _string(file: BinaryIO, size: int) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size:
        raise UnreadableFile("it is incomplete, or not a file of weights")
    return file.read(length).decode("utf-8", errors="replace")
