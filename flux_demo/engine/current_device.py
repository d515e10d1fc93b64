"""The current device, which is each thread's own: new streams and events, and compiled code, belong to it, whatever device their tensors are on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def on(device: torch.device) -> AbstractContextManager:
    """Make the device the current one within the block. Without it, all of that goes to the machine's first GPU, which may not be the chosen one."""
    return nullcontext() if device.type == "cpu" else torch.get_device_module(device).device(device)
