"""What a transformer is fed: cached latents of one size with the scenes that they show, and captions made anew each time."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import captions, latents
from training.labels import UNKNOWN

# How often a batch's row is something else: a drawing with its edges, or the estimator's map in place of the exact one.
DRAWING, ESTIMATED = 0.08, 0.4
DRAWING_PROMPT = "a drawing"


@dataclass(frozen=True)
class Rows:
    """What one step learns from."""

    pictures: Tensor  # (B, tokens, 64) float32
    controls: Tensor | None  # the same; zero where the mode is text, None where every mode is
    prompts: list[str]
    modes: list[str]  # text, canny or depth
    labels: Tensor  # (B, tokens, 4), see labels.py


class Pool:
    """`modes` are those that its rows may have; a row has one of them."""

    def __init__(self, work: Path, size: tuple[int, int], modes: tuple[str, ...]):
        def read(name: str) -> np.ndarray | None:
            path = latents.place(work, name, size)
            return np.load(path, mmap_mode="r") if path.exists() else None

        self.size = size
        self.modes = modes
        self.seeds, self.labels, self.pictures = read("seeds"), read("labels"), read("picture")
        self.controls = {mode: read(mode) for mode in modes if mode != "text"}
        if any(rows is None for rows in (self.seeds, self.labels, self.pictures, *self.controls.values())):
            raise FileNotFoundError(f"No latents of {size[0]}x{size[1]} yet. Run the stage `latents` first.")
        self.drawings = (read("drawing"), read("drawing_edges"))
        self.estimated = read("estimated")

    def take(self, count: int, draw: random.Random) -> Rows:
        """`count` rows, each with a caption made for it now."""
        pictures, controls, prompts, shown = [], [], [], []
        modes = [draw.choice(self.modes) for _ in range(count)]
        for mode in modes:
            if mode == "canny" and self.drawings[0] is not None and draw.random() < DRAWING:
                row = draw.randrange(len(self.drawings[0]))
                pictures.append(self.drawings[0][row])
                controls.append(self.drawings[1][row])
                prompts.append(DRAWING_PROMPT)
                shown.append(np.full_like(self.labels[0], UNKNOWN))
                continue
            row = draw.randrange(len(self.seeds))
            pictures.append(self.pictures[row])
            shown.append(self.labels[row])
            prompts.append(captions.caption(latents.scene(self.seeds[row], self.size), draw).text)
            if mode == "text":
                controls.append(np.zeros_like(self.pictures[row]))
            else:
                other = mode == "depth" and self.estimated is not None and draw.random() < ESTIMATED
                controls.append((self.estimated if other else self.controls[mode])[row])
        kept = stacked(controls) if self.controls else None
        return Rows(stacked(pictures), kept, prompts, modes, torch.from_numpy(np.stack(shown)))


def stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows)).float()
