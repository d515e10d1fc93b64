"""What a transformer is fed: cached latents of one size with the scenes that they show, and captions made anew each time."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flux_demo.mini import captions, latents
from flux_demo.mini.scenes import sample

# How often a batch's row is something else: a drawing with its edges, or the estimator's map in place of the exact one.
DRAWING, ESTIMATED = 0.08, 0.4
DRAWING_PROMPT = "a drawing"


class Pool:
    """`kind` is the control: None, "canny", "depth", or "control" for either, row by row."""

    def __init__(self, work: Path, size: tuple[int, int], kind: str | None):
        def read(name: str) -> np.ndarray | None:
            path = latents.place(work, name, size)
            return np.load(path, mmap_mode="r") if path.exists() else None

        self.size = size
        self.kinds = {None: (), "control": ("canny", "depth")}.get(kind, (kind,))
        self.seeds, self.pictures = read("seeds"), read("picture")
        self.controls = {name: read(name) for name in self.kinds}
        if self.seeds is None or self.pictures is None or any(rows is None for rows in self.controls.values()):
            raise FileNotFoundError(
                f"No latents of {size[0]}x{size[1]} yet. Run the stage `latents` first, and `latents_canny` or `latents_depth`."
            )
        self.drawings = (read("drawing"), read("drawing_edges"))
        self.estimated = read("estimated")

    def take(self, count: int, draw: random.Random) -> tuple[Tensor, Tensor | None, list[str], list[str]]:
        """Pictures and controls (count, tokens, 64) float32, a caption for each, and each row's mode."""
        pictures, controls, prompts = [], [], []
        modes = [draw.choice(self.kinds) if self.kinds else "text" for _ in range(count)]
        for mode in modes:
            row = draw.randrange(len(self.seeds))
            if mode == "canny" and self.drawings[0] is not None and draw.random() < DRAWING:
                row = draw.randrange(len(self.drawings[0]))
                pictures.append(self.drawings[0][row])
                controls.append(self.drawings[1][row])
                prompts.append(DRAWING_PROMPT)
                continue
            pictures.append(self.pictures[row])
            if mode != "text":
                other = mode == "depth" and self.estimated is not None and draw.random() < ESTIMATED
                controls.append((self.estimated if other else self.controls[mode])[row])
            seed, mirrored = self.seeds[row]
            scene = sample(int(seed), *latents.SOURCE.get(self.size, self.size))
            prompts.append(captions.caption(scene.mirrored() if mirrored else scene, draw).text)
        return stacked(pictures), stacked(controls) if controls else None, prompts, modes


def stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows)).float()
