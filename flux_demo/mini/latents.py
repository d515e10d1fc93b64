"""Stage `latents`: every training picture and map as the transformer sees it, encoded once by the frozen VAE.

`WORK/latents/picture-256x256.npy` is (N, tokens, 64) float16, scaled as the VAE's config says and packed two by two as FLUX
packs; `seeds-256x256.npy` is (N, 2) int64: the scene's seed and whether it is mirrored. `128x128` holds 256x256 scenes at half size.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flux_demo.mini import data, maps, networks
from flux_demo.mini.export import assemble

HALF = (128, 128)
SOURCE = {HALF: (256, 256)}  # sizes that are made from another one's scenes
BATCH = 16


def make(work: Path, kinds: tuple[str, ...], counts: dict[tuple[int, int], int], device: str) -> None:
    """Encode what is not there yet. `counts` scenes of each size, each also mirrored; the scale is measured first, once."""
    vae = assemble(work)["vae"].to(device).eval()
    if not (work / "latents.pt").exists():
        torch.save(measure(vae, work, device), work / "latents.pt")
    scale = torch.load(work / "latents.pt", weights_only=True)
    for size, count in counts.items():
        for kind in kinds:
            target = place(work, kind, size)
            if target.exists():
                continue
            target.parent.mkdir(exist_ok=True)
            seeds, packed = [], []
            for which, pictures in batches(work, kind, size, count):
                latents = encode(vae, pictures.to(device))
                packed.append(pack((latents - scale["shift_factor"]) * scale["scaling_factor"]).half().cpu().numpy())
                seeds.append(which)
            np.save(place(work, "seeds", size), np.concatenate(seeds))
            np.save(target, np.concatenate(packed))
            print(f"latents: {target.name}, {len(np.concatenate(seeds))} of them", flush=True)


def place(work: Path, kind: str, size: tuple[int, int]) -> Path:
    return work / "latents" / f"{kind}-{size[0]}x{size[1]}.npy"


def batches(work: Path, kind: str, size: tuple[int, int], count: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Seeds with their mirror marks, and (B, 3, H, W) in -1 … 1: pictures, edges or depth maps, always in the same order."""
    draw = np.random.default_rng(5)
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
                drawn = np.stack([maps.varied_edges(one[..., :3], draw) for one in shown])
                yield which, data.as_pictures(drawn)
            else:
                yield which, (data.as_depth_maps if kind == "depth" else data.as_pictures)(shown)


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
    return packed.view(-1, height // 16, width // 16, networks.LATENT_CHANNELS, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(
        -1, networks.LATENT_CHANNELS, height // 8, width // 8)
