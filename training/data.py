"""The training images: rendered once and kept as bytes. Captions are not kept, because a seed gives its scene again.

`WORK/data/256x256/00003.npy` holds the scenes 3·CHUNK to 4·CHUNK-1 as (CHUNK, H, W, 4) uint8: RGB and nearness, where 255 is nearest.
Arrays of this form are named `rgbd`. `WORK/data/clutter` holds cluttered scenes in the same form, each file of one of CLUTTER_SIZES.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import Refused, clutter, photographed, scenes
from training.files import write

CHUNK = 250
HELD_OUT = 10_000_000  # seeds from here on are never trained on
CLUTTER_SIZES = ((256, 256), (304, 208), (208, 304))  # width and height, by the number of a file


def folder(work: Path, size: tuple[int, int]) -> Path:
    return work / "data" / f"{size[0]}x{size[1]}"


def batch_on(device: str) -> int:
    """How many images are rendered or encoded at once: no more than fit a CPU's cache, and half a chunk for a GPU."""
    return 8 if device == "cpu" else CHUNK // 2


def rendered(seeds: Iterable[int], size: tuple[int, int]) -> np.ndarray:
    """(N, H, W, 4) uint8: RGB and nearness of the scenes with these seeds."""
    seeds, batch = list(seeds), batch_on("cpu")
    batches = []
    with torch.inference_mode():
        for start in range(0, len(seeds), batch):
            chosen = [scenes.sample(seed, *size) for seed in seeds[start : start + batch]]
            images, depth = scenes.render(chosen, *size)
            rgbd = torch.cat((images, scenes.nearness(depth)[:, None]), 1)
            batches.append((rgbd * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(batches)


def cluttered(seeds: Iterable[int], size: tuple[int, int]) -> np.ndarray:
    """(N, H, W, 4) uint8: RGB as a camera would have it, and nearness, of the cluttered scenes with these seeds."""
    rows = []
    for seed in seeds:
        image, depth = photographed.render(clutter.sample(seed), *size)
        near = scenes.nearness(torch.from_numpy(depth)).numpy()
        taken = photographed.as_taken(image, depth, np.random.default_rng((21, seed)))
        rows.append(np.dstack([taken, (near * 255).round().astype(np.uint8)]))
    return np.stack(rows)


def render_all(work: Path, counts: dict[tuple[int, int], int], workers: int, first_seed: int = 0) -> None:
    """Render the scenes from `first_seed` on, `counts` of each size, that `work` does not have. Can be stopped and run again at any time.
    It renders on the CPU only.

    Raises ValueError for a first seed that `check_first_seed` refuses.
    """
    check_first_seed(first_seed, max(counts.values()))
    chunks = [(path, seeds, size) for size, count in counts.items() for path, seeds in _chunks(folder(work, size), first_seed, count)]
    chunks.sort(key=lambda chunk: chunk[1].start)
    _render([(path, partial(rendered, seeds, size)) for path, seeds, size in chunks], workers)


def render_clutter(work: Path, count: int, workers: int, first_seed: int = 0) -> None:
    """The same for cluttered scenes, each chunk in the next of CLUTTER_SIZES."""
    check_first_seed(first_seed, count)
    sizes = [CLUTTER_SIZES[start // CHUNK % len(CLUTTER_SIZES)] for start in range(first_seed, first_seed + count, CHUNK)]
    chunks = zip(_chunks(work / "data" / "clutter", first_seed, count), sizes, strict=True)
    _render([(path, partial(cluttered, seeds, size)) for (path, seeds), size in chunks], workers)


def check_first_seed(first_seed: int, count: int) -> None:
    """Raise ValueError, in words, unless chunks can begin at this seed and none of so many scenes is a held-out one."""
    if first_seed < 0 or first_seed % CHUNK:
        raise ValueError(f"{first_seed} is not a valid first seed. Give a multiple of {CHUNK}, from 0 up.")
    if first_seed + count > HELD_OUT:
        raise ValueError(f"Seeds from {HELD_OUT} on are held out for the evaluation. Give a smaller first seed.")


def by_size(work: Path, most: int) -> list[np.ndarray]:
    """The rgbd of each rendered size, of `most` sizes at most, because all of it is held in memory. Raises Refused if there is none."""
    available = [size for size in scenes.SIZES if any(folder(work, size).glob("*.npy"))]
    return [load(work, size)[1] for size in available[:most] or scenes.SIZES[:1]]


def load_clutter(work: Path) -> list[np.ndarray]:
    """The rgbd of every file of cluttered scenes, left on the disk."""
    return [np.load(path, mmap_mode="r") for path in sorted((work / "data" / "clutter").glob("*.npy"))]


def load(work: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every rendered scene of this size: seeds (N,) and rgbd (N, H, W, 4). Raises Refused if there is none."""
    seeds, rgbd = zip(*chunks(work, size))
    return np.concatenate(seeds), np.concatenate(rgbd)


def chunks(work: Path, size: tuple[int, int], count: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same file by file, the first `count` scenes of them."""
    paths = sorted(folder(work, size).glob("*.npy"))
    if not paths:
        raise Refused(f"No scenes of {size[0]}x{size[1]} are rendered yet. Run the stage `data` first.")
    for path in paths:
        rgbd = np.load(path)[:count]
        if not len(rgbd):
            return
        yield np.arange(len(rgbd)) + int(path.stem) * CHUNK, rgbd
        count = None if count is None else count - len(rgbd)


def as_images(rgbd: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """(N, H, W, 3 or 4) bytes -> (N, 3, H, W) float32 in -1 … 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(rgbd[..., :3])).to(device)  # bytes take a quarter of the time to copy
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def as_depth_maps(rgbd: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """(N, H, W, 4) bytes -> (N, 3, H, W) float32 in -1 … 1: three equal channels, where 1 is nearest."""
    near = torch.from_numpy(np.ascontiguousarray(rgbd[..., 3:])).to(device)
    return near.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).expand(-1, 3, -1, -1)


def _chunks(place: Path, first_seed: int, count: int) -> list[tuple[Path, range]]:
    """The files of so many scenes, and the seeds of each."""
    end = first_seed + count
    return [(place / f"{start // CHUNK:05}.npy", range(start, min(start + CHUNK, end))) for start in range(first_seed, end, CHUNK)]


def _render(chunks: Sequence[tuple[Path, Callable[[], np.ndarray]]], workers: int) -> None:
    """Write the files that are not here yet."""
    missing = [chunk for chunk in chunks if not chunk[0].exists()]
    if workers <= 1:
        for chunk in missing:
            _write(chunk)
        return
    with get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        for done, path in enumerate(pool.imap_unordered(_write, missing), 1):
            print(f"data: {done} of {len(missing)} chunks ({path})", flush=True)


def _write(chunk: tuple[Path, Callable[[], np.ndarray]]) -> Path:
    path, render = chunk
    rgbd = render()
    write(path, lambda file: np.save(file, rgbd))
    return path
