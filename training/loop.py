"""The one training loop of every stage: learning rate, averaged weights, checkpoints, progress. Knows no stage by name."""

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training import distributed

WARM_UP = 0.03  # of the steps
CHECKPOINT_SECONDS = 120
minutes: float | None = None  # a stage ends after so many, if it has not had its steps by then; `train --minutes`


class Averaged:
    """An exponential mean of a network's weights: what is drawn with, and what is shipped."""

    def __init__(self, network: nn.Module, keep: float):
        self.keep = keep
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        keep = min(self.keep, (1 + step) / (10 + step))  # short memory at first, or the random start would linger
        for name, value in network.state_dict().items():
            self.weights[name].lerp_(value, 1 - keep)

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in weights.items():
            self.weights[name].copy_(value)


def rate(progress: float) -> float:
    """The learning rate at `progress` 0–1 as a part of its peak: a short rise, then a cosine to a hundredth."""
    if progress < WARM_UP:
        return progress / WARM_UP + 1e-3
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def train(
    path: Path,
    parts: Mapping[str, object],
    steps: int,
    one_step: Callable[[int], Mapping[str, Tensor]],
    look: Callable[[int], None] | None = None,
    look_every: int = 500,
) -> None:
    """Run `one_step` up to `steps`, from the checkpoint at `path` if there is one; with `minutes`, no longer than that.

    `parts` are kept in the checkpoint; those that are optimisers have their learning rate set from their groups' `peak`.
    """
    step = load(path, parts)
    started, first, saved = time.monotonic(), step, time.monotonic()
    sums: dict[str, float] = {}
    while step < steps:
        spent = (time.monotonic() - started) / 60
        progress = distributed.agree(max(step / steps, spent / minutes if minutes else 0))
        if progress >= 1:
            print(f"{path.stem}: {step} of {steps} steps in {spent:.1f} minutes", flush=True)
            break
        for part in parts.values():
            for group in getattr(part, "param_groups", ()):
                group["lr"] = group["peak"] * rate(progress)
        for name, value in one_step(step).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        step += 1
        if distributed.rank() != 0:
            continue
        if step % 50 == 0:
            shown = "  ".join(f"{name} {value / 50:.4f}" for name, value in sums.items())
            spent = (time.monotonic() - started) / 60
            left = min(spent / (step - first) * (steps - step), minutes - spent if minutes else math.inf)
            print(f"{path.stem} {step}/{steps}  {shown}  {left:.1f} min left", flush=True)
            sums.clear()
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(path, parts, step)
            saved = time.monotonic()
        if look and step % look_every == 0:
            look(step)
    if distributed.rank() == 0 and step > first:
        save(path, parts, steps)
        if look:
            look(steps)


def save(path: Path, parts: Mapping[str, object], step: int) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, partial)
    os.replace(partial, path)


def load(path: Path, parts: Mapping[str, object]) -> int:
    """Restore `parts` and return the step that was reached; 0 without a checkpoint.

    Shipped weights are a checkpoint of the averaged weights alone: the network begins from them, and the optimisers anew.
    """
    if not path.exists():
        return 0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        if name in kept or not getattr(part, "param_groups", ()):
            part.load_state_dict(kept[name] if name in kept else kept["averaged"])
    return kept["step"]


def reached(path: Path) -> int:
    """The step that a checkpoint is at; 0 without one."""
    return torch.load(path, map_location="cpu", weights_only=True)["step"] if path.exists() else 0
