"""Stage `latents`: every training picture and map as the transformer sees it, encoded once by the frozen VAE.

Kinds: `picture`, `canny` (edges with varied thresholds), `depth` (exact), `estimated` (the depth estimator's own answer), and
`drawing` with `drawing_edges`, which are no scenes. `WORK/latents/picture-256x256.npy` is (N, tokens, 64) float16, scaled as the VAE's config says and packed two by two as FLUX
packs; `seeds-256x256.npy` is (N, 2) int64: the scene's seed and whether it is mirrored; `labels-256x256.npy` is (N, tokens, 4) uint8: what stands there. `128x128` holds 256x256 scenes at half size.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training import data, labels, maps, networks
from training.export import assemble
from training.scenes import Scene, sample
from training.stage_estimator import seen

HALF = (128, 128)
SOURCE = {HALF: (256, 256)}  # sizes that are made from another one's scenes
BATCH = 8  # 256x256 pictures of a larger batch fall out of the cache
KINDS = ("picture", "canny", "depth", "estimated", "drawing", "drawing_edges")
DRAWINGS = 8  # one drawing for so many scenes


def make(work: Path, counts: dict[tuple[int, int], int], device: str) -> None:
    """Encode what is not there yet. `counts` scenes of each size, each also mirrored; the scale is measured first, once."""
    vae = assemble(work)["vae"].to(device, memory_format=torch.channels_last).eval()
    if not (work / "latents.pt").exists():
        torch.save(measure(vae, work, device), work / "latents.pt")
    scale = torch.load(work / "latents.pt", weights_only=True)
    estimator = assemble(work)["depth_estimator"].to(device).eval()
    for size, count in counts.items():
        for kind in KINDS:
            target = place(work, kind, size)
            if target.exists():
                continue
            target.parent.mkdir(exist_ok=True)
            seeds, packed = [], []
            for which, pictures in batches(work, kind, size, count, estimator):
                latents = encode(vae, pictures.to(device, memory_format=torch.channels_last))
                packed.append(pack((latents - scale["shift_factor"]) * scale["scaling_factor"]).half().cpu().numpy())
                seeds.append(which)
            if kind == "picture":
                np.save(place(work, "seeds", size), np.concatenate(seeds))
                np.save(place(work, "labels", size), labelled(np.concatenate(seeds), size))
            np.save(target, np.concatenate(packed))
            print(f"latents: {target.name}, {len(np.concatenate(seeds))} of them", flush=True)


def scene(row: np.ndarray, size: tuple[int, int]) -> Scene:
    """The scene of a row of `seeds`, as it is seen."""
    found = sample(int(row[0]), *SOURCE.get(size, size))
    return found.mirrored() if row[1] else found


def labelled(seeds: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rows of `seeds` -> (N, tokens, 4) uint8, see labels.py."""
    return np.concatenate([labels.label([scene(row, size) for row in seeds[at : at + 64]], *size) for at in range(0, len(seeds), 64)])


def place(work: Path, kind: str, size: tuple[int, int]) -> Path:
    return work / "latents" / f"{kind}-{size[0]}x{size[1]}.npy"


def batches(work: Path, kind: str, size: tuple[int, int], count: int, estimator=None) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Seeds with their mirror marks, and (B, 3, H, W) in -1 … 1: always in the same order, whatever the kind."""
    draw = np.random.default_rng(5)
    if kind.startswith("drawing"):
        for at in range(0, count // DRAWINGS, BATCH):
            drawn = np.stack([maps.drawing(*size, np.random.default_rng(at + i)) for i in range(BATCH)])
            shown = np.stack([maps.edges(one) for one in drawn]) if kind == "drawing_edges" else drawn
            yield np.zeros((BATCH, 2), np.int64), data.as_pictures(shown)
        return
    seeds, four = data.chunks(work, SOURCE.get(size, size))
    for at in range(0, min(count, len(seeds)), BATCH):
        part = four[at : at + BATCH][: count - at]
        if size in SOURCE:
            n, height, width, _ = part.shape
            part = part.reshape(n, height // 2, 2, width // 2, 2, 4).mean((2, 4)).round().astype(np.uint8)
        for mirrored in (False, True):
            shown = part[:, :, ::-1] if mirrored else part
            which = np.stack([seeds[at : at + len(part)], np.full(len(part), mirrored)], 1)
            if kind == "canny":
                yield which, data.as_pictures(np.stack([maps.varied_edges(one[..., :3], draw) for one in shown]))
            elif kind == "estimated":
                yield which, estimated(estimator, shown)
            else:
                yield which, (data.as_depth_maps if kind == "depth" else data.as_pictures)(shown)


@torch.inference_mode()
def estimated(estimator, four: np.ndarray) -> Tensor:
    """(N, H, W, 4) bytes -> depth maps as the app makes them from the pictures alone, (N, 3, H, W) in -1 … 1."""
    said = estimator(seen(four, None)[0].to(estimator.device)).predicted_depth[:, None]
    said = F.interpolate(said, four.shape[1:3], mode="bicubic")
    low, high = said.amin((2, 3), keepdim=True), said.amax((2, 3), keepdim=True)
    return ((said - low) / (high - low).clamp_min(1e-3) * 2 - 1).expand(-1, 3, -1, -1)


@torch.inference_mode()
def encode(vae, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in -1 … 1 -> the middle of the VAE's distribution, (B, 16, H/8, W/8), unscaled."""
    return vae.encoder(pictures)[:, : networks.LATENT_CHANNELS]


def measure(vae, work: Path, device: str) -> dict[str, float]:
    """The two numbers of the VAE's config that bring the latents of scenes to mean 0 and deviation 1."""
    latents = torch.cat([encode(vae, pictures.to(device)).flatten() for _, pictures in batches(work, "picture", HALF, 128)])
    return {"shift_factor": round(float(latents.mean()), 4), "scaling_factor": round(float(1 / latents.std()), 4)}


def pack(latents: Tensor) -> Tensor:
    """(B, 16, h, w) -> (B, h/2 · w/2, 64), as FluxPipeline packs."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(packed: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `pack` for a picture of (width, height)."""
    width, height = size
    return (
        packed.view(-1, height // 16, width // 16, networks.LATENT_CHANNELS, 2, 2)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(-1, networks.LATENT_CHANNELS, height // 8, width // 8)
    )
