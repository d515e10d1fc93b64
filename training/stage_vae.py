"""Stage `vae`: pictures, edge maps and depth maps to sixteen channels at an eighth of the side, and back.

The encoder's variance is fixed and small: stock control pipelines draw the control latents from it, and lose nothing by it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from training import data, loop, maps, muon, networks, sheets

DEVIATION = 0.04  # of the encoder's distribution, in units of a latent's own deviation (about 1)
NOISE = 0.1  # added while training, so that near misses of the transformer decode well
PULL = 2e-3  # of the penalty that keeps latents near unit size
CROPS = ((0.7, 64), (1.0, 128))  # up to this part of the steps, pixels of a side: small pieces first, many steps for the work
SHARES = {"crop": 0.56, "half": 0.14, "depth": 0.09, "edges": 0.11, "drawing": 0.10}  # of a batch, on average


def train(work: Path, steps: int, batch: int, device: str, only_decoder: bool = False) -> None:
    torch.manual_seed(1)
    model = networks.vae()
    fix_variance(model)
    model = model.to(device, memory_format=torch.channels_last)
    taught = model.decoder if only_decoder else model
    if only_decoder:
        loop.load(work / "vae.pt", {"model": model})
    averaged = loop.Averaged(model, 0.998)
    slower = 0.3 if only_decoder else 1.0
    edges = ("encoder.conv_in", "encoder.conv_out", "decoder.conv_out", "conv_out")
    optimisers = muon.optimisers(taught, 0.01 * slower, 2e-3 * slower, edges)
    pictures = data.bytes_by_size(work, 3 if device == "cpu" else 7)
    draw = np.random.default_rng(0)

    def one_step(step: int):
        crop = next(side for until, side in CROPS if step < until * steps or until == 1)
        target = torch.from_numpy(np.stack([example(pictures, crop, draw) for _ in range(batch)])).to(device)
        target = target.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(not only_decoder):
            latents = model.encoder(target)[:, : networks.LATENT_CHANNELS]
        seen = latents + NOISE * torch.randn_like(latents)
        if step % 5 == 4 and not only_decoder:  # half-size latents decode to the half-size picture: smooth latents are easier to draw
            seen, target = F.avg_pool2d(seen, 2), F.avg_pool2d(target, 2)
        error = model.decoder(seen) - target
        near, square, pull = error.abs().mean(), error.square().mean(), latents.square().mean()
        taught.zero_grad(set_to_none=True)
        (near + 2 * square + PULL * pull).backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"psnr": -10 * torch.log10(square.detach() / 4), "size": pull.detach().sqrt()}

    def look(step: int) -> None:
        shown = networks.vae()
        shown.load_state_dict(averaged.weights)
        sheets.vae_sheet(
            shown, [example(pictures, 128, np.random.default_rng(i)) for i in range(16)], work / "looks" / f"vae-{step:06}.png"
        )

    name = "vae_decoder.pt" if only_decoder else "vae.pt"
    loop.train(work / name, {"model": model, "averaged": averaged, **optimisers}, steps, one_step, look, 1000)


def fix_variance(model) -> None:
    """Make the encoder's log-variance a constant: its half of the last convolution gives nothing but a bias."""
    out = model.encoder.conv_out
    with torch.no_grad():
        out.weight[networks.LATENT_CHANNELS :] = 0
        out.bias[networks.LATENT_CHANNELS :] = 2 * math.log(DEVIATION)


def example(pictures: list[np.ndarray], side: int, draw: np.random.Generator) -> np.ndarray:
    """(side, side, 3) uint8: a piece of a scene, a small whole one, or a map of one."""
    kind = draw.choice(list(SHARES), p=list(SHARES.values()))
    if kind == "drawing":
        canvas = maps.drawing(side, side, draw)
        return maps.varied_edges(canvas, draw) if draw.random() < 0.4 else canvas
    of_size = pictures[draw.integers(len(pictures))]
    four = of_size[draw.integers(len(of_size))]
    if draw.random() < 0.5:
        four = four[:, ::-1]
    if kind == "half" and min(four.shape[:2]) >= 2 * side:
        y, x = draw.integers(four.shape[0] - 2 * side + 1), draw.integers(four.shape[1] - 2 * side + 1)
        return four[y : y + 2 * side, x : x + 2 * side, :3].reshape(side, 2, side, 2, 3).mean((1, 3)).astype(np.uint8)
    y, x = draw.integers(four.shape[0] - side + 1), draw.integers(four.shape[1] - side + 1)
    four = four[y : y + side, x : x + side]
    if kind == "depth":
        return np.repeat(four[..., 3:], 3, axis=2)
    return maps.varied_edges(four[..., :3], draw) if kind == "edges" else four[..., :3]
