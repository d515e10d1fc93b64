"""What a transformer is trained on: cached latents of one size, with captions made anew each time."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import captions, latents
from training.labels import UNKNOWN

# How often a row is a drawing with its edges, or has the estimator's depth map in place of the exact one.
DRAWING, ESTIMATED = 0.08, 0.4
DRAWING_PROMPT = "a drawing"


@dataclass(frozen=True)
class Rows:
    """The batch of one step."""

    latents: Tensor  # (B, tokens, 64) float32
    controls: Tensor | None  # the same; zero where the mode is text, None where every mode is
    prompts: list[str]
    modes: list[str]  # text, canny or depth
    labels: Tensor  # (B, tokens, 4), see labels.py


class Pool:
    """The latents of one size. Each row that is taken has one of `modes`."""

    def __init__(self, work: Path, size: tuple[int, int], modes: tuple[str, ...]):
        def read(name: str) -> np.ndarray | None:
            path = latents.file(work, name, size)
            return np.load(path, mmap_mode="r") if path.exists() else None

        self.size = size
        self.modes = modes
        self.seeds, self.labels, self.images = read("seeds"), read("labels"), read("picture")
        self.controls = {mode: read(mode) for mode in modes if mode != "text"}
        if any(rows is None for rows in (self.seeds, self.labels, self.images, *self.controls.values())):
            raise FileNotFoundError(f"There are no latents of {size[0]}x{size[1]} yet. Run the stage `latents` first.")
        self.drawings = (read("drawing"), read("drawing_edges"))
        self.estimated = read("estimated")

    def take(self, count: int, rng: random.Random) -> Rows:
        """`count` random rows, each with a new caption."""
        images, controls, prompts, labels = [], [], [], []
        modes = [rng.choice(self.modes) for _ in range(count)]
        for mode in modes:
            if mode == "canny" and self.drawings[0] is not None and rng.random() < DRAWING:
                row = rng.randrange(len(self.drawings[0]))
                images.append(self.drawings[0][row])
                controls.append(self.drawings[1][row])
                prompts.append(DRAWING_PROMPT)
                labels.append(np.full_like(self.labels[0], UNKNOWN))
                continue
            row = rng.randrange(len(self.seeds))
            images.append(self.images[row])
            labels.append(self.labels[row])
            prompts.append(captions.caption(latents.scene(self.seeds[row], self.size), rng).text)
            if mode == "text":
                controls.append(np.zeros_like(self.images[row]))
            else:
                use_estimated = mode == "depth" and self.estimated is not None and rng.random() < ESTIMATED
                controls.append((self.estimated if use_estimated else self.controls[mode])[row])
        return Rows(
            _stacked(images),
            _stacked(controls) if self.controls else None,
            prompts,
            modes,
            torch.from_numpy(np.stack(labels)),
        )


def _stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows)).float()
