"""What this machine has, asked of the driver and the system: no torch, no CUDA context, a few milliseconds."""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MANAGEMENT_LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")  # the driver's own, of Linux (WSL too) and Windows
DRIVER_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")


@dataclass(frozen=True)
class Card:
    """The first NVIDIA GPU."""

    name: str
    total_bytes: int


@dataclass(frozen=True)
class Machine:
    card: Card | None
    cuda_torch: bool  # whether the PyTorch that is installed was built for CUDA
    memory_bytes: int  # main memory that programs can have, 0 if the system does not tell


def look() -> Machine:
    return Machine(find_card(), torch_has_cuda(), main_memory())


def find_card() -> Card | None:
    """The first NVIDIA GPU as the driver reports it; None without a driver or a GPU."""
    return _ask_management() or _ask_driver()


def torch_has_cuda(torch_folder: Path | None = None) -> bool:
    """Read from torch's version file, for importing torch takes seconds."""
    if torch_folder is None:
        spec = find_spec("torch")
        if spec is None or spec.origin is None:
            return False
        torch_folder = Path(spec.origin).parent
    try:
        text = (torch_folder / "version.py").read_text("utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=\n]*=\s*['\"]", text, re.MULTILINE) is not None


def main_memory() -> int:
    """Bytes of main memory that this process may use, the container's limit included; 0 if nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, StopIteration, ValueError):
        return _windows_memory() if sys.platform == "win32" else 0
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def _open(names: tuple[str, ...]) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _ask_management() -> Card | None:
    library = _open(MANAGEMENT_LIBRARIES)
    if library is None or library.nvmlInit_v2() != 0:
        return None
    try:
        device, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), (ctypes.c_ulonglong * 3)()  # total, free, used
        if library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) != 0:
            return None
        library.nvmlDeviceGetName(device, name, len(name))
        if library.nvmlDeviceGetMemoryInfo(device, memory) != 0:
            return None
        return Card(name.value.decode(errors="replace"), memory[0])
    finally:
        library.nvmlShutdown()


def _ask_driver() -> Card | None:
    """Slower, and only where there is no management library (Jetson)."""
    library = _open(DRIVER_LIBRARIES)
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(96), ctypes.c_size_t()
    if library is None or library.cuInit(0) != 0 or library.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    library.cuDeviceGetName(name, len(name), device)
    if library.cuDeviceTotalMem_v2(ctypes.byref(total), device) != 0:
        return None
    return Card(name.value.decode(errors="replace"), total.value)


def _windows_memory() -> int:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), ("sizes", ctypes.c_ulonglong * 7)]  # sizes[0]: total

    status = Status(length=ctypes.sizeof(Status))
    return status.sizes[0] if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else 0  # type: ignore[attr-defined]
