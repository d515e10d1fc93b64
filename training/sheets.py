"""Contact sheets: images side by side in one PNG, to judge a stage by eye."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def save(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Write rows of (H, W, 3) uint8 images as one PNG. The images of a row have one height."""
    lines = [np.concatenate([np.pad(cell, ((2, 2), (2, 2), (0, 0)), constant_values=255) for cell in row], 1) for row in rows]
    width = max(line.shape[1] for line in lines)
    lines = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255) for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(lines)).save(path, optimize=True)


def as_bytes(images: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in -1 … 1 -> (B, H, W, 3) uint8."""
    return images.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def vae_sheet(vae, images: Sequence[np.ndarray], path: Path) -> None:
    """Each image above its reconstruction."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    decoded = as_bytes(vae.decoder(vae.encoder(batch)[:, : vae.config.latent_channels]))
    half = len(images) // 2
    save([images[:half], list(decoded[:half]), images[half:], list(decoded[half:])], path)
