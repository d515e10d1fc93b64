"""An early look at the image.

At any step, the latents minus the noise that the transformer predicts are its estimate of the finished image. Decoding that would take too
long; a linear map from the VAE's 16 channels to red, green and blue gives an eighth of the size at almost no cost. The map is fitted to
the VAE in use, by least squares, on a few smooth coloured images.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from flux_demo.engine.latents import PIXELS_PER_LATENT, PIXELS_PER_TOKEN
from flux_demo.engine.pinning import Pinning
from flux_demo.progress import Step

SAMPLES, SIDE = 3, 128  # images to fit to, and their pixels


@torch.no_grad()
def fit_colours(vae: Any) -> Tensor:
    """(channels + 1, 3): weights, then an offset, from scaled latents to colours 0-255."""
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
    """(height / 8, width / 8, 3) uint8 on the device: the finished image as the transformer predicts it now."""
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


class PreviewReporter:
    """Turns each step into the ``Step`` that is reported, with its preview.

    On a GPU the preview is copied asynchronously and returned while the next step is already queued, so the device never idles for it; the
    last one is returned by ``finish``. On the CPU, which runs synchronously, it is returned at once.
    """

    def __init__(self, steps: int, width: int, height: int, colours: Tensor, pinning: Pinning) -> None:
        self._steps, self._width, self._height, self._colours, self._pinning = steps, width, height, colours, pinning
        self._pending: tuple[int, Tensor, Any] | None = None

    def __call__(self, step: int, latents: Tensor, velocity: Tensor, sigma: Tensor) -> Step | None:
        """The newest step whose preview is complete."""
        pixels = estimate(latents, velocity, sigma, self._colours, self._width, self._height)
        if pixels.device.type == "cpu":
            return self._done(step, pixels)
        pinned = self._pinning(lambda: torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True))
        copied = torch.empty(pixels.shape, dtype=pixels.dtype) if pinned is None else pinned
        copied.copy_(pixels, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        before = self.finish()
        self._pending = (step, copied, done)
        return before

    def finish(self) -> Step | None:
        """The step whose preview is still pending; None if there is none."""
        if self._pending is None:
            return None
        (step, pixels, done), self._pending = self._pending, None
        done.synchronize()
        return self._done(step, pixels)

    def _done(self, step: int, pixels: Tensor) -> Step:
        return Step(step + 1, self._steps, Image.fromarray(pixels.numpy()))
