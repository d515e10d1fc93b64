"""Stage `latents`: every training image and map as the transformer sees it, encoded once by the frozen VAE.

The kinds are `picture`, `canny` (edges with varied thresholds), `depth` (exact), `estimated` (the depth estimator's map), and
`drawing` with `drawing_edges`, which are not scenes. For each size, WORK/latents has

    picture-256x256.npy   (N, tokens, 64) float16, and so on for each kind: scaled as the VAE's config says, packed as FLUX packs
    seeds-256x256.npy     (N, 2) int64: the scene's seed, and whether it is mirrored
    labels-256x256.npy    (N, tokens, 4) uint8: what stands there, see labels.py

`128x128` holds the scenes of 256x256 at half size.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flux_demo.backends.machine import processors
from training import Refused, data, labels, loop, maps, networks
from training.export import assemble
from training.files import write
from training.scenes import SQUARE, Scene, sample
from training.stage_estimator import preprocessed

HALF = (SQUARE[0] // 2, SQUARE[1] // 2)
SOURCE = {HALF: SQUARE}  # sizes that are made from another size's scenes
KINDS = ("picture", "canny", "depth", "estimated", "drawing", "drawing_edges")
SCENES_PER_DRAWING = 8


def make(work: Path, counts: dict[tuple[int, int], int], device: str, processes: int = 1) -> None:
    """Encode each kind and size that has no file yet: `counts` scenes of each size, each also mirrored. A file never grows: to encode more
    scenes, delete WORK/latents. The scale is measured first, and only once.

    A GPU would wait for the images of one process; `processes` work on as many kinds at a time. Raises Refused without a trained VAE
    and estimator, and see `check_scenes`.
    """
    loop.needed(work, "vae", "data")
    loop.needed(work, "estimator", "data", "clutter")
    if not (work / "latents.pt").exists():
        scale = measured_scale(_encoder(work, device), work, device)
        write(work / "latents.pt", partial(torch.save, scale))
    kinds = [(work, kind, counts, device) for kind in KINDS]
    if processes == 1:
        for each in kinds:
            make_kind(*each)
        return
    with get_context("spawn").Pool(processes) as pool:
        pool.starmap(make_kind, kinds, chunksize=1)


def make_kind(work: Path, kind: str, counts: dict[tuple[int, int], int], device: str) -> None:
    """The same for one of KINDS."""
    missing = {size: count for size, count in counts.items() if not file(work, kind, size).exists()}
    if not missing:
        return
    vae, scale = _encoder(work, device), torch.load(work / "latents.pt", weights_only=True)
    estimator = assemble(work, "depth_estimator")["depth_estimator"].to(device).eval() if kind == "estimated" else None
    for size, count in missing.items():
        seeds, packed = [], []
        for batch_seeds, images in batches(work, kind, size, count, device, estimator):
            latents = encode(vae, images.to(memory_format=torch.channels_last))
            packed.append(pack((latents - scale["shift_factor"]) * scale["scaling_factor"]).half().cpu().numpy())
            seeds.append(batch_seeds)
        found = np.concatenate(seeds)
        order = np.lexsort((found[:, 1], found[:, 0]))  # by scene, so that each kind has the same, however many were encoded at once
        found, rows = found[order], {kind: np.concatenate(packed)[order]}
        if kind == "picture":
            rows = {"seeds": found, "labels": labelled(found, size, device)} | rows
        elif not kind.startswith("drawing"):
            check_scenes(work, size, found)
        for name, values in rows.items():  # the kind itself last: where it is there, the others are
            write(file(work, name, size), lambda opened, values=values: np.save(opened, values))
        print(f"latents: {file(work, kind, size).name}, {len(rows[kind])} of them", flush=True)


def check_scenes(work: Path, size: tuple[int, int], seeds: np.ndarray) -> None:
    """Raise Refused unless the pictures, where they are encoded already, are of the scenes in these rows of `seeds`."""
    path = file(work, "seeds", size)
    if path.exists() and not np.array_equal(np.load(path), seeds):
        raise Refused(
            f"The latents in {path.parent} are of other scenes, or in another order, than those made now. "
            "Delete that folder and run the stage `latents` again."
        )


def _encoder(work: Path, device: str):
    return assemble(work, "vae")["vae"].to(device, memory_format=torch.channels_last).eval()


def file(work: Path, kind: str, size: tuple[int, int]) -> Path:
    return work / "latents" / f"{kind}-{size[0]}x{size[1]}.npy"


def scene(row: np.ndarray, size: tuple[int, int]) -> Scene:
    """The scene that a row of `seeds` stands for, mirrored where the row says so."""
    found = sample(int(row[0]), *SOURCE.get(size, size))
    return found.mirrored() if row[1] else found


def labelled(seeds: np.ndarray, size: tuple[int, int], device: str = "cpu") -> np.ndarray:
    """Rows of `seeds` -> (N, tokens, 4) uint8, see labels.py."""
    batch = 8 * data.batch_on(device)  # of an eighth of the side
    starts = range(0, len(seeds), batch)
    return np.concatenate([labels.label([scene(row, size) for row in seeds[start : start + batch]], *size, device) for start in starts])


def batches(
    work: Path, kind: str, size: tuple[int, int], count: int, device: str = "cpu", estimator=None
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows of `seeds`, and images (B, 3, H, W) in -1 … 1. Their order depends on the device, which says how many are made at once."""
    together = data.batch_on(device)
    with ThreadPoolExecutor(processors()) as threads:  # OpenCV releases the GIL
        if kind.startswith("drawing"):
            drawings = range(count // SCENES_PER_DRAWING)
            for start in range(0, len(drawings), together):
                shown = list(threads.map(lambda i: maps.drawing(*size, np.random.default_rng(i)), drawings[start : start + together]))
                if kind == "drawing_edges":
                    shown = list(threads.map(maps.edges, shown))
                yield np.zeros((len(shown), 2), np.int64), data.as_images(np.stack(shown), device)
            return
        rng = np.random.default_rng(5)
        for seeds, rgbd in data.chunks(work, SOURCE.get(size, size), count):
            for start in range(0, len(seeds), together):
                batch = rgbd[start : start + together]
                if size in SOURCE:
                    n, height, width, _ = batch.shape
                    batch = batch.reshape(n, height // 2, 2, width // 2, 2, 4).mean((2, 4)).round().astype(np.uint8)
                for mirrored in (False, True):
                    shown = batch[:, :, ::-1] if mirrored else batch
                    rows = np.stack([seeds[start : start + len(batch)], np.full(len(batch), mirrored)], 1)
                    if kind == "canny":
                        limits = [maps.varied_thresholds(rng) for _ in shown]
                        edges = threads.map(maps.edges, shown[..., :3], *zip(*limits))
                        yield rows, data.as_images(np.stack(list(edges)), device)
                    elif kind == "estimated":
                        yield rows, estimated(estimator, shown)
                    else:
                        yield rows, (data.as_depth_maps if kind == "depth" else data.as_images)(shown, device)


@torch.inference_mode()
def estimated(estimator, rgbd: np.ndarray) -> Tensor:
    """(N, H, W, 4) bytes -> depth maps as the app draws them, from the colours alone: (N, 3, H, W) in -1 … 1."""
    depth = estimator(preprocessed(rgbd, device=estimator.device)[0]).predicted_depth[:, None]
    depth = F.interpolate(depth, rgbd.shape[1:3], mode="bicubic")
    low, high = depth.amin((2, 3), keepdim=True), depth.amax((2, 3), keepdim=True)
    return ((depth - low) / (high - low).clamp_min(1e-3) * 2 - 1).expand(-1, 3, -1, -1)


@torch.inference_mode()
def encode(vae, images: Tensor) -> Tensor:
    """(B, 3, H, W) in -1 … 1 -> the mean of the VAE's distribution, (B, 16, H/8, W/8), unscaled."""
    return vae.encoder(images)[:, : networks.LATENT_CHANNELS]


def measured_scale(vae, work: Path, device: str) -> dict[str, float]:
    """The two numbers in the VAE's config that bring the latents of scenes to mean 0 and standard deviation 1."""
    latents = torch.cat([encode(vae, images).flatten() for _, images in batches(work, "picture", HALF, 128, device)])
    return {"shift_factor": round(float(latents.mean()), 4), "scaling_factor": round(float(1 / latents.std()), 4)}


def pack(latents: Tensor) -> Tensor:
    """(B, 16, h, w) -> (B, h/2 · w/2, 64), as FluxPipeline packs."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(packed: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `pack` for an image of (width, height)."""
    width, height = size
    return (
        packed.view(-1, height // 16, width // 16, networks.LATENT_CHANNELS, 2, 2)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(-1, networks.LATENT_CHANNELS, height // 8, width // 8)
    )
