"""What the picture will be, seen early.

At any step the latents minus the noise that the transformer sees in them are its estimate of the finished picture. The VAE would take
longer than a preview is worth; a linear map from its 16 channels to red, green and blue shows an eighth of the size for next to nothing. The
map is fitted to the VAE in use, by least squares, from a few smooth coloured pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from flux_demo.engine.latents import PIXELS_PER_LATENT, PIXELS_PER_TOKEN

SAMPLES, SIDE = 6, 128  # pictures to fit to, and their pixels


@torch.no_grad()
def fit_colours(vae: Any) -> Tensor:
    """(channels + 1, 3): weights, and an offset last, that take scaled latents to colours 0-255."""
    generator = torch.Generator("cpu").manual_seed(0)
    coarse = torch.rand((SAMPLES, 3, 6, 6), generator=generator) * 2 - 1
    pictures = F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear").mul(1.4).clamp(-1, 1)
    rows, colours = [], []
    for picture in pictures:  # one at a time: small, whatever the card
        latents = vae.encode(picture[None].to(device=vae.device, dtype=vae.dtype)).latent_dist.mean
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        rows.append(latents[0].flatten(1).T.double().cpu())
        colours.append(F.avg_pool2d(picture[None], PIXELS_PER_LATENT)[0].flatten(1).T.double())
    known, wanted = torch.cat(rows), (torch.cat(colours) + 1) * 127.5
    known = torch.cat([known, torch.ones(len(known), 1, dtype=known.dtype)], dim=1)
    square = known.T @ known + 1e-3 * torch.eye(known.shape[1], dtype=known.dtype)  # never singular, however poor the VAE
    return torch.linalg.solve(square, known.T @ wanted).float().to(vae.device)


def estimate(latents: Tensor, velocity: Tensor, sigma: Tensor, colours: Tensor, width: int, height: int) -> Tensor:
    """(height / 8, width / 8, 3) uint8 on the device: the finished picture as the transformer sees it now."""
    rows, columns = height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN
    finished = latents.float() - sigma * velocity.float()
    finished = finished.view(rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2).reshape(rows * 2, columns * 2, -1)
    return (
        torch.addmm(colours[-1], finished.flatten(0, 1), colours[:-1])
        .nan_to_num()
        .clamp(0, 255)
        .to(torch.uint8)
        .view(rows * 2, columns * 2, 3)
    )


class Reporter:
    """Tells the outside about each step.

    On a GPU the preview is copied beside the work and handed over while the next step is already queued, so the device never idles for it; the
    last one is handed over by ``finish``. On the CPU, where work is done when it is asked for, at once.
    """

    def __init__(
        self, steps: int, width: int, height: int, colours: Tensor, on_step: Callable[[int, int, Image.Image | None], None]
    ) -> None:
        self._steps, self._width, self._height, self._colours, self._on_step = steps, width, height, colours, on_step
        self._waiting: tuple[int, Tensor, Any] | None = None

    def __call__(self, step: int, latents: Tensor, velocity: Tensor, sigma: Tensor) -> None:
        pixels = estimate(latents, velocity, sigma, self._colours, self._width, self._height)
        if pixels.device.type == "cpu":
            self._tell(step, pixels)
            return
        copied = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
        copied.copy_(pixels, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self.finish()
        self._waiting = (step, copied, done)

    def finish(self) -> None:
        """Hand over what still waits."""
        if self._waiting is not None:
            (step, pixels, done), self._waiting = self._waiting, None
            done.synchronize()
            self._tell(step, pixels)

    def _tell(self, step: int, pixels: Tensor) -> None:
        self._on_step(step + 1, self._steps, Image.fromarray(pixels.numpy()))
