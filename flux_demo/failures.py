"""What went wrong below us, told from the whole chain of causes: libraries wrap one error in another. A row for each cause, the surest first."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from flux_demo.errors import GenerationFailed, GpuFailed, OutOfMemory, causes
from flux_demo.texts import join_sentences

GPU_MEMORY, MAIN_MEMORY = "GPU memory", "main memory"


@dataclass(frozen=True)
class Failure:
    """A cause that libraries report, how it is recognised, and what to do."""

    sentence: str
    signs: tuple[str, ...] = ()  # in the error's text: torch and the CUDA libraries have no class of their own for these
    classes: tuple[str, ...] = ()  # names, because torch may not be here
    errnos: tuple[int, ...] = ()
    ran_out: str | None = None  # of what: GPU_MEMORY or MAIN_MEMORY
    kind: type[GenerationFailed] = GenerationFailed  # what is raised, except where something ran out

    @property
    def error_class(self) -> type[GenerationFailed]:
        return OutOfMemory if self.ran_out else self.kind

    def message(self, remedy: str) -> str:
        """What happened and what to do; ``remedy`` is for memory that ran out, where that depends on who needed it."""
        return join_sentences(self.sentence, remedy) if self.ran_out else self.sentence


FAILURES = (
    Failure(
        "Windows could not set aside memory: its paging file is too small. Set its size to at least 64 GB in Windows's advanced system settings, or let "
        "Windows manage it.",
        signs=("os error 1455", "WinError 1455", "paging file is too small"),
        ran_out=MAIN_MEMORY,
    ),
    Failure(
        "The GPU's memory ran out.",
        signs=(
            "CUDA out of memory",
            "CUDA error: out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "cudaErrorMemoryAllocation",
            "cublasCreate",
        ),
        classes=("OutOfMemoryError",),
        ran_out=GPU_MEMORY,
    ),
    Failure(
        "The main memory ran out.",
        signs=(
            "DefaultCPUAllocator",
            "can't allocate memory",
            "Cannot allocate memory",
            "unable to mmap",
            "bad allocation",
            "std::bad_alloc",
        ),
        classes=("MemoryError",),
        errnos=(errno.ENOMEM,),
        ran_out=MAIN_MEMORY,
    ),
    Failure(
        "The NVIDIA driver is too old for the installed PyTorch. Update the driver from https://www.nvidia.com/drivers and start again.",
        signs=("driver on your system is too old", "driver version is insufficient", "cudaErrorInsufficientDriver"),
    ),
    Failure(
        "The installed PyTorch has no code for this GPU. Install a build that supports it, as https://pytorch.org/get-started/locally shows.",
        signs=("no kernel image is available", "cudaErrorNoKernelImageForDevice"),
    ),
    Failure(
        "The system does not let this program open more files. Raise the limit (`ulimit -n 4096`) and start again.",
        signs=("Too many open files",),
        errnos=(errno.EMFILE, errno.ENFILE),
    ),
    Failure(
        "A model file is missing. Fetch or copy the model again.",
        classes=("FileNotFoundError",),
        errnos=(errno.ENOENT,),
    ),
    Failure(
        "A model file cannot be read: permission is denied. Give the user who runs this program read access to it.",
        classes=("PermissionError",),
        errnos=(errno.EACCES, errno.EPERM),
    ),
    Failure(
        "The disk reported an error while a model file was being read. Check the disk, or copy the model to another one.",
        signs=("Input/output error",),
        errnos=(errno.EIO,),
    ),
    Failure(
        "The GPU reported an error in the middle of the run. Try again; if it happens again, restart this program or the machine.",
        signs=("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS"),
        classes=("AcceleratorError",),
        kind=GpuFailed,
    ),
)


def failure_of(error: BaseException) -> Failure | None:
    """The row for the error or for anything that caused it; None if none of them is known."""
    links = list(causes(error))
    return next((failure for failure in FAILURES if any(_is(failure, link) for link in links)), None)


def failure_in_run(error: BaseException) -> Failure | None:
    """The same for an error of a whole run, which may be a caller's: only what libraries say about the device, and memory that ran out. Libraries
    report the second by errors of any class, torch everything by RuntimeErrors.
    """
    failure = failure_of(error)
    return failure if failure and (failure.ran_out or isinstance(error, RuntimeError)) else None


def _is(failure: Failure, error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return (
        not names.isdisjoint(failure.classes)
        or (isinstance(error, OSError) and error.errno in failure.errnos)
        or any(sign in str(error) for sign in failure.signs)
    )
