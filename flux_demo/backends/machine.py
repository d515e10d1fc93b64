"""What this machine has, asked of the driver and the operating system: no torch, no CUDA context, some milliseconds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flux_demo.backends.cards import Card, find_card
from flux_demo.backends.cgroups import memory_limits


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


def processors() -> int:
    """How many processors this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main_memory() -> int:
    """Bytes of main memory that this process may use, within the limits of its container or job; 0 if the system does not say."""
    import psutil

    try:
        total = psutil.virtual_memory().total
    except (OSError, KeyError, ValueError):  # a sandbox that hides /proc
        return 0
    return min((total, *(each.limit_bytes for each in memory_limits())))  # psutil counts the whole machine


def available_memory() -> int | None:
    """Bytes of main memory that programs can take now, within the same limits; None if the system does not say."""
    import psutil

    try:
        available = psutil.virtual_memory().available
    except (OSError, KeyError, ValueError):
        return None
    return min((available, *(each.free_bytes for each in memory_limits())))


def is_wsl(version: Path = Path("/proc/version")) -> bool:
    """Whether this is Linux within Windows."""
    try:
        return "microsoft" in version.read_text("utf-8").lower()
    except (OSError, ValueError):
        return False
