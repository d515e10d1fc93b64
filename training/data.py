"""The training pictures: rendered once, kept as bytes, read as a whole. Captions are not kept: a scene's seed gives the scene.

`WORK/data/256x256/00003.npy` holds scenes 3·CHUNK … 4·CHUNK-1: (CHUNK, H, W, 4) uint8, RGB and nearness (near is 255).
"""

import os
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import scenes

CHUNK = 250
HELD_OUT = 10_000_000  # seeds from here on are never trained on


def folder(work: Path, size: tuple[int, int]) -> Path:
    return work / "data" / f"{size[0]}x{size[1]}"


def rendered(seeds: Iterable[int], size: tuple[int, int], device: str = "cpu", batch: int = 8) -> np.ndarray:
    """(N, H, W, 4) uint8: RGB and nearness of the scenes with these seeds."""
    seeds = list(seeds)
    parts = []
    with torch.inference_mode():
        for at in range(0, len(seeds), batch):
            chosen = [scenes.sample(seed, *size) for seed in seeds[at : at + batch]]
            picture, depth = scenes.render(chosen, *size, device=device)
            four = torch.cat((picture, scenes.nearness(depth)[:, None]), 1)
            parts.append((four * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


def render_all(work: Path, counts: dict[tuple[int, int], int], device: str, workers: int) -> None:
    """Render what is not there yet. A chunk appears whole or not at all, so this can be stopped and run again."""
    todo = []
    for size, count in counts.items():
        folder(work, size).mkdir(parents=True, exist_ok=True)
        todo += [
            (folder(work, size) / f"{at // CHUNK:05}.npy", size, range(at, min(at + CHUNK, count)), device) for at in range(0, count, CHUNK)
        ]
    todo = [job for job in sorted(todo, key=lambda job: job[2].start) if not job[0].exists()]
    if device != "cpu" or workers <= 1:
        for job in todo:
            _render_chunk(job)
        return
    with get_context("spawn").Pool(workers) as pool:
        for done, path in enumerate(pool.imap_unordered(_render_chunk, todo), 1):
            print(f"data: {done} of {len(todo)} chunks ({path})", flush=True)


def bytes_by_size(work: Path, most: int) -> list[np.ndarray]:
    """The bytes of each size that is rendered, `most` sizes at most: they are held in memory."""
    there = [size for size in scenes.SIZES if any(folder(work, size).glob("*.npy"))]
    return [chunks(work, size)[1] for size in there[:most]]


def chunks(work: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every rendered scene of this size: seeds (N,) and the bytes (N, H, W, 4)."""
    paths = sorted(folder(work, size).glob("*.npy"))
    if not paths:
        raise FileNotFoundError(f"No scenes of {size[0]}x{size[1]} are rendered yet; run the stage `data` first.")
    parts = [np.load(path) for path in paths]
    seeds = [np.arange(len(part)) + int(path.stem) * CHUNK for path, part in zip(paths, parts)]
    return np.concatenate(seeds), np.concatenate(parts)


def as_pictures(four: np.ndarray) -> Tensor:
    """(N, H, W, 4) bytes -> (N, 3, H, W) float32 in -1 … 1."""
    return torch.from_numpy(np.ascontiguousarray(four[..., :3])).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def as_depth_maps(four: np.ndarray) -> Tensor:
    """(N, H, W, 4) bytes -> (N, 3, H, W) float32 in -1 … 1, three equal channels, near is 1."""
    near = torch.from_numpy(np.ascontiguousarray(four[..., 3:])).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return near.expand(-1, 3, -1, -1)


def _render_chunk(job) -> Path:
    path, size, seeds, device = job
    if device == "cpu":
        torch.set_num_threads(1)
    four = rendered(seeds, size, device)
    partial = path.with_suffix(f".{os.getpid()}.part")
    with partial.open("wb") as file:
        np.save(file, four)
    partial.rename(path)
    return path
