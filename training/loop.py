"""The training loop of every stage: learning rate, averaged weights, checkpoints, progress. Knows no stage by name."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from training import Refused, distributed
from training.files import write

WARM_UP = 0.03  # of the steps
CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class Run:
    """What every stage is told: where its files are kept, on which device it runs, and when it ends."""

    work: Path
    device: str
    steps: int
    minutes: float | None = None  # ends the stage if it has not had its steps by then; the learning rate falls within this time

    def checkpoint(self, stage: str) -> Path:
        return self.work / f"{stage}.pt"

    def sample_sheet(self, stage: str, step: int) -> Path:
        """Where a stage's samples at this step are kept, to judge them by eye."""
        return self.work / "samples" / f"{stage}-{step:06}.png"


class Averaged:
    """An exponential moving average of a network's weights: samples are made with it, and it is what is shipped."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))  # short at first, so that the random start is soon forgotten
        for name, value in network.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in weights.items():
            self.weights[name].copy_(value)


def rate(progress: float) -> float:
    """The learning rate at `progress` 0–1 as a share of its peak: a short rise, then a cosine down to a hundredth."""
    if progress < WARM_UP:
        return progress / WARM_UP + 1e-3
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def train(
    run: Run,
    stage: str,
    state: Mapping[str, object],
    one_step: Callable[[int, float], Mapping[str, Tensor]],
    save_samples: Callable[[int], None] | None = None,
    sample_every: int = 500,
) -> None:
    """Call `one_step(step, progress)` until the run ends, with progress from 0 to 1, starting from the stage's checkpoint if there is one.

    `one_step` returns what to print. `state` is what a checkpoint holds, by name; the learning rate of each optimiser in it
    follows from the `peak` of its parameter groups. A resumed stage continues at its saved progress; with `minutes`, the fraction
    that is left gets that fraction of them. A stage that ended by the clock counts as having had all its steps. Ctrl+C ends it after the
    step under way, with a checkpoint. Raises KeyboardInterrupt then.
    """
    with interrupted_between_steps() as stopped:
        _train(run, stage, state, one_step, save_samples, sample_every, stopped)
        if stopped.is_set():
            raise KeyboardInterrupt


def _train(
    run: Run,
    stage: str,
    state: Mapping[str, object],
    one_step: Callable[[int, float], Mapping[str, Tensor]],
    save_samples: Callable[[int], None] | None,
    sample_every: int,
    stopped: threading.Event,
) -> None:
    path = run.checkpoint(stage)
    step = load(path, state)
    begun = max(reached(path, "progress"), step / run.steps)
    started, first, saved = time.monotonic(), step, time.monotonic()
    sums: dict[str, float] = {}
    while step < run.steps:
        spent = (time.monotonic() - started) / 60
        by_steps = begun + (1 - begun) * (step - first) / (run.steps - first)
        progress = distributed.from_first(max(by_steps, begun + spent / run.minutes if run.minutes else 0))
        if progress >= 1:
            print(f"{stage}: {step} of {run.steps} steps in {spent:.1f} minutes", flush=True)
            break
        for part in state.values():
            for group in getattr(part, "param_groups", ()):
                group["lr"] = group["peak"] * rate(progress)
        for name, value in one_step(step, progress).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        step += 1
        if distributed.rank() != 0:
            continue
        if step % 50 == 0:
            means = "  ".join(f"{name} {value / min(50, step - first):.4f}" for name, value in sums.items())
            spent = (time.monotonic() - started) / 60
            left = min(spent / (step - first) * (run.steps - step), run.minutes * (1 - begun) - spent if run.minutes else math.inf)
            print(f"{stage} {step}/{run.steps}  {means}  {left:.1f} min left", flush=True)
            sums.clear()
        if time.monotonic() - saved > CHECKPOINT_SECONDS or stopped.is_set():
            save(path, state, step, progress)
            saved = time.monotonic()
        if stopped.is_set():
            return
        if save_samples and step % sample_every == 0 and step < run.steps:
            save_samples(step)
    if distributed.rank() == 0 and step > first:
        save(path, state, run.steps)
        if save_samples:
            save_samples(run.steps)


@contextmanager
def interrupted_between_steps() -> Iterator[threading.Event]:
    """Meanwhile the first Ctrl+C sets the event; another one interrupts as always. What is started to ignore it still does."""
    stopped = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    if before in (signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def needed(work: Path, stage: str, *after: str) -> Path:
    """The checkpoint of a stage, which is trained `after` others. Raises Refused without it."""
    path = work / f"{stage}.pt"
    if not path.exists():
        raise Refused(f"There is no {path.name} yet. Run `python -m training.train --work {work} {' '.join((*after, stage))}` first.")
    return path


def save(path: Path, state: Mapping[str, object], step: int, progress: float = 0) -> None:
    """Write a checkpoint. The `progress` of a stage that has not ended is where its schedule goes on: the clock starts anew."""
    content = {"step": step, "progress": progress} | {name: part.state_dict() for name, part in state.items()}
    write(path, partial(torch.save, content))


def load(path: Path, state: Mapping[str, object]) -> int:
    """Restore `state` and return the step of the checkpoint; 0 without one.

    Learning rates are the present schedule's, not the checkpoint's. Shipped weights are a checkpoint of the averaged weights only: the network starts from them, and the optimisers start anew.
    """
    if not path.exists():
        return 0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in state.items():
        if name in kept:
            peaks = [group["peak"] for group in getattr(part, "param_groups", ())]
            part.load_state_dict(kept[name])
            for group, peak in zip(getattr(part, "param_groups", ()), peaks):
                group["peak"] = peak
        elif part.state_dict().keys() == kept.get("averaged", {}).keys():  # optimisers and a probe start anew
            part.load_state_dict(kept["averaged"])
    return kept["step"]


def reached(path: Path, what: str = "step") -> float:
    """The step of a checkpoint, or its progress; 0 without one."""
    return torch.load(path, map_location="cpu", weights_only=True).get(what, 0) if path.exists() else 0
