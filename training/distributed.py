"""A transformer's stage on several processes: `torchrun --nproc-per-node 2 -m training.train STAGE`. In one process, all of this does nothing.

On two busy CPU cores, two processes of one thread each get far more done than one process of two threads that wait for each other.
"""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def init() -> None:
    """Join the process group if torchrun started this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for every process."""
    if dist.is_initialized():
        dist.barrier()


def from_first(value: float) -> float:
    """The first process's value, in every process."""
    if world_size() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
    dist.broadcast(shared, 0)
    return float(shared)


def split_rows(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`work(rows)`, of which each process computes its share. The rows must not depend on each other."""
    if world_size() == 1:
        return work(rows)
    done = torch.zeros_like(rows)
    if rank() < len(rows):
        done[rank() :: world_size()] = work(rows[rank() :: world_size()])
    dist.all_reduce(done)
    return done


def average_gradients(network: nn.Module) -> None:
    """Replace each process's gradients by the mean over all processes."""
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient) / world_size())
        start += gradient.numel()
