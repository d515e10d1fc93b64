"""Noise and images as the transformer sees them.

The VAE turns 8 x 8 pixels into 16 channels; two by two of these are packed into one token of 64. So a token is 16 x 16 pixels,
and its position id holds its row and its column.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIXELS_PER_LATENT = 8
PIXELS_PER_TOKEN = 16


def pack(latents: Tensor) -> Tensor:
    """(1, channels, 2h, 2w) -> (1, h * w, 4 * channels)."""
    _, channels, height, width = latents.shape
    patches = latents.view(1, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(1, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Tensor, width: int, height: int) -> Tensor:
    """The inverse of pack, for an image of that many pixels."""
    rows, columns, channels = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN, tokens.shape[2] // 4
    patches = tokens.view(1, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(1, channels, rows * 2, columns * 2)


def draw_noise(width: int, height: int, channels: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Packed noise. Drawn on the CPU, so that a seed means the same noise everywhere, and in the model's dtype: rounding float32 noise gives other values."""
    shape = (1, channels, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)
    return pack(torch.randn(shape, generator=generator, dtype=dtype).to(device))


def image_position_ids(width: int, height: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(tokens, 3): zero, row, column of each token of the image."""
    rows, columns = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None, :]
    return ids.reshape(rows * columns, 3).to(device=device, dtype=dtype)


def text_position_ids(tokens: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(tokens, 3): all zero, because text has no position in the image."""
    return torch.zeros(tokens, 3).to(device=device, dtype=dtype)
