"""One stage on several processes: `torchrun --nproc-per-node 2 -m training.train STAGE`. Alone, everything here does nothing.

On two busy CPU cores, two processes of one thread each get far more done than one of two threads that wait for each other.
"""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join() -> None:
    """Meet the other processes, if torchrun started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def agree(value: float) -> float:
    """The first process's value, for all."""
    if size() == 1:
        return value
    said = torch.tensor([value], dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
    dist.broadcast(said, 0)
    return float(said)


def by_parts(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """`work(rows)`, of which every process does its share of the rows, and all get the whole. Rows must not depend on each other."""
    if size() == 1:
        return work(rows)
    done = torch.zeros_like(rows)
    if rank() < len(rows):
        done[rank() :: size()] = work(rows[rank() :: size()])
    dist.all_reduce(done)
    return done


def share_gradients(network: nn.Module) -> None:
    """Give every process the mean of all gradients."""
    gradients = [value.grad for value in network.parameters() if value.grad is not None]
    if size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    at = 0
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient) / size())
        at += gradient.numel()
