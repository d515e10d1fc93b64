"""What torch keeps of memory that nothing uses any more, and how it is given back."""

from __future__ import annotations

import gc

import torch


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        empty_caches(torch.device("cuda"))


def empty_caches(device: torch.device) -> None:
    """Give back the device's memory that torch keeps for the stream that used it, which no other stream can use, and pinned memory."""
    allocator = torch.get_device_module(device)
    if not hasattr(allocator, "empty_cache"):  # a CPU keeps nothing
        return
    allocator.empty_cache()
    if hasattr(torch.accelerator, "empty_host_cache"):  # newer than the oldest torch that runs this
        torch.accelerator.empty_host_cache()
