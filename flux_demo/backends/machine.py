"""What this machine has, asked of the driver and the operating system: no torch, no CUDA context, some milliseconds."""

from __future__ import annotations

import contextlib
import ctypes
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DRIVER_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")  # on Linux (WSL too) and Windows
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # cgroup v2, cgroup v1


@dataclass(frozen=True)
class Card:
    """The first NVIDIA GPU."""

    name: str
    total_bytes: int


@dataclass(frozen=True)
class Machine:
    card: Card | None
    cuda_torch: bool  # whether the installed PyTorch was built for CUDA
    memory_bytes: int  # main memory that this process may use; 0 if the system does not say
    available_bytes: int | None = None  # of it, what is free now; None if the system does not say
    wsl: bool = False  # Linux within Windows, where hardly any memory can be pinned

    @property
    def pinnable_bytes(self) -> int | None:
        """Main memory that may be pinned for a GPU; None: no limit is known."""
        return 0 if self.wsl else self.available_bytes


def this_machine() -> Machine:
    return Machine(find_card(), torch_has_cuda(), main_memory(), available_memory(), is_wsl())


def find_card() -> Card | None:
    """The first NVIDIA GPU that the driver reports; None without a GPU, or where the driver is missing or broken."""
    return _ask_nvml() or _ask_driver()


def torch_has_cuda(torch_folder: Path | None = None) -> bool:
    """Whether the installed PyTorch is a CUDA build. Read from its version file, because importing torch takes seconds."""
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
    """Bytes of main memory that this process may use, a container's limit included; 0 if the system does not say."""
    import psutil

    try:
        total = psutil.virtual_memory().total
    except (OSError, KeyError, ValueError):  # a sandbox that hides /proc
        return 0
    for limit in CGROUP_LIMITS:  # psutil counts the whole machine, whatever the container may use
        try:
            total = min(total, int(Path(limit).read_text("ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def available_memory() -> int | None:
    """Bytes of main memory that programs can take now, within a container's limit; None if the system does not say."""
    import psutil

    try:
        available = psutil.virtual_memory().available
    except (OSError, KeyError, ValueError):
        return None
    return min(available, main_memory() or available)


def is_wsl(version: Path = Path("/proc/version")) -> bool:
    """Whether this is Linux within Windows."""
    try:
        return "microsoft" in version.read_text("utf-8").lower()
    except (OSError, ValueError):
        return False


def _ask_nvml() -> Card | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        return Card(pynvml.nvmlDeviceGetName(device), pynvml.nvmlDeviceGetMemoryInfo(device).total)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _ask_driver() -> Card | None:
    """What the CUDA driver itself says. Slower, so only where NVML does not answer: Jetson, and others whose GPU shares the main memory."""
    library = _driver()
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(96), ctypes.c_size_t()
    try:
        if library is None or library.cuInit(0) != 0 or library.cuDeviceGet(ctypes.byref(device), 0) != 0:
            return None
        library.cuDeviceGetName(name, len(name), device)
        if library.cuDeviceTotalMem_v2(ctypes.byref(total), device) != 0:
            return None
    except AttributeError:  # a library of that name without these functions
        return None
    return Card(name.value.decode(errors="replace"), total.value)


def _driver() -> ctypes.CDLL | None:
    for name in DRIVER_LIBRARIES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None
