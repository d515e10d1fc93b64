"""What a transformer is trained on: cached latents of one size, with captions made anew each time.

Choosing rows and writing their captions takes a processor only, so that other processes can do it (batches.py). The latents lie where
the network is.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import Refused, captions, latents
from training.labels import UNKNOWN

# How often a row is a drawing with its edges, or has the estimator's depth map in place of the exact one.
DRAWING, ESTIMATED = 0.08, 0.4
DRAWING_PROMPT = "a drawing"
# How often a caption beside a map leaves objects out: people name what matters to them, and the map has the rest.
FEWER_NAMED = 0.2


@dataclass(frozen=True)
class Row:
    """One row of a batch, before its latents are fetched."""

    mode: str  # text, canny or depth
    image: str  # which of latents.KINDS
    control: str | None  # the same; None in the mode text
    index: int  # of the row in both
    prompt: str


@dataclass(frozen=True)
class Rows:
    """The latents of one batch."""

    latents: Tensor  # (B, tokens, 64) float32
    controls: Tensor | None  # the same; zero where the mode is text, None where every mode is
    labels: Tensor  # (B, tokens, 4), see labels.py


class Pool:
    """The latents of one size, on `device`. Each row that is chosen has one of `modes`.

    `oversampled` pairs a shape with the share of rows that come from scenes whose only object has that shape.
    """

    def __init__(
        self,
        work: Path,
        size: tuple[int, int],
        modes: tuple[str, ...],
        device: str = "cpu",
        oversampled: Sequence[tuple[str, float]] = (),
    ):
        def read(name: str) -> np.ndarray | None:
            path = latents.file(work, name, size)
            return np.load(path, mmap_mode="c") if path.exists() else None

        self.size, self.modes = size, modes
        kinds = {kind: read(kind) for kind in ("picture", *(mode for mode in modes if mode != "text"))}
        seeds, labels = read("seeds"), read("labels")
        if seeds is None or labels is None or any(rows is None for rows in kinds.values()):
            raise Refused(f"There are no latents of {size[0]}x{size[1]} yet. Run the stage `latents` first.")
        kinds |= {kind: read(kind) for kind in ("estimated", "drawing", "drawing_edges") if len(kinds) > 1}
        self.seeds = seeds
        self.oversampled = [(self._rows_with_one(shape), share) for shape, share in oversampled]
        self.labels = torch.from_numpy(labels).to(device)
        self.latents = {kind: torch.from_numpy(rows).to(device) for kind, rows in kinds.items() if rows is not None}

    def choose(self, count: int, rng: random.Random) -> list[Row]:
        """`count` random rows, each with a new caption."""
        return [self._chosen(rng.choice(self.modes), rng) for _ in range(count)]

    def fetch(self, chosen: Sequence[Row]) -> Rows:
        images, controls = self._stacked([row.image for row in chosen], chosen), None
        if self.modes != ("text",):
            controls = self._stacked([row.control for row in chosen], chosen)
        scenes = [row.index if row.image == "picture" else 0 for row in chosen]
        labels = self.labels[scenes]
        labels[[row.image == "drawing" for row in chosen]] = UNKNOWN
        return Rows(images, controls, labels)

    def _chosen(self, mode: str, rng: random.Random) -> Row:
        if mode == "canny" and "drawing" in self.latents and rng.random() < DRAWING:
            return Row(mode, "drawing", "drawing_edges", rng.randrange(len(self.latents["drawing"])), DRAWING_PROMPT)
        index = self._index(rng)
        scene = latents.scene(self.seeds[index], self.size)
        if mode != "text" and rng.random() < FEWER_NAMED:
            scene = captions.with_fewer_objects(scene, rng)
        prompt = captions.caption(scene, rng).text
        use_estimated = mode == "depth" and "estimated" in self.latents and rng.random() < ESTIMATED
        control = None if mode == "text" else "estimated" if use_estimated else mode
        return Row(mode, "picture", control, index, prompt)

    def _index(self, rng: random.Random) -> int:
        drawn = rng.random()
        for rows, share in self.oversampled:
            if rows and drawn < share:
                return rng.choice(rows)
            drawn -= share
        return rng.randrange(len(self.seeds))

    def _rows_with_one(self, shape: str) -> list[int]:
        """The rows whose scenes have one object, of this shape."""
        return [row for row, seed in enumerate(self.seeds) if [each.shape for each in latents.scene(seed, self.size).objects] == [shape]]

    def _stacked(self, kinds: Sequence[str | None], chosen: Sequence[Row]) -> Tensor:
        """(B, tokens, 64): each row's latents of its kind, or zeros."""
        first = self.latents["picture"]
        stacked = torch.zeros(len(chosen), *first.shape[1:], device=first.device)
        for kind in set(kinds) - {None}:
            rows = [i for i, each in enumerate(kinds) if each == kind]
            stacked[rows] = self.latents[kind][[chosen[i].index for i in rows]].float()
        return stacked
