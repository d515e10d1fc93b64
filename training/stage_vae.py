"""Stages `vae` and `vae_decoder`: images, edge maps and depth maps to sixteen channels at an eighth of the side, and back.

The encoder's variance is fixed and small. The stock control pipelines sample the control latents from it, and lose nothing by it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from training import Refused, data, loop, maps, muon, networks, sheets

DEVIATION = 0.04  # of the encoder's distribution, in units of a latent's own standard deviation (about 1)
NOISE = 0.1  # added to the latents while training, so that the transformer's small errors decode well
PULL = 2e-3  # weight of the penalty that keeps latents near unit size
CROPS = ((0.7, 64), (1.0, 128))  # up to this share of the run, crops of this side in pixels: small ones first, because they are fast
SHARES = {"crop": 0.56, "half": 0.14, "depth": 0.09, "edges": 0.11, "drawing": 0.10}  # of a batch, on average


def train(run: loop.Run, batch: int, only_decoder: bool = False) -> None:
    """Raises Refused without scenes, where the encoder would change (see `check_nothing_encoded`), and without one where it must not."""
    stage = "vae_decoder" if only_decoder else "vae"
    if not only_decoder and loop.reached(run.checkpoint(stage)) < run.steps:
        check_nothing_encoded(run.work)
    torch.manual_seed(1)
    model = networks.vae()
    fix_variance(model)
    model = model.to(run.device, memory_format=torch.channels_last)
    trained = model.decoder if only_decoder else model
    if only_decoder:
        loop.load(loop.needed(run.work, "vae", "data"), {"averaged": model})  # its encoder made the latents
    averaged = loop.Averaged(model, 0.998)
    slower = 0.3 if only_decoder else 1.0
    outer = ("encoder.conv_in", "encoder.conv_out", "decoder.conv_out", "conv_out")
    optimisers = muon.optimisers(trained, 0.01 * slower, 2e-3 * slower, outer)
    rgbd = data.by_size(run.work, 3 if run.device == "cpu" else 7)
    rng = np.random.default_rng(loop.reached(run.checkpoint(stage)))

    def one_step(step: int, progress: float):
        side = next(side for until, side in CROPS if progress < until or until == 1)
        target = torch.from_numpy(np.stack([example(rgbd, side, rng) for _ in range(batch)])).to(run.device)
        target = target.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(not only_decoder):
            latents = model.encoder(target)[:, : networks.LATENT_CHANNELS]
        noisy = latents + NOISE * torch.randn_like(latents)
        if (
            step % 5 == 4 and not only_decoder
        ):  # half-size latents must decode to the half-size image: smooth latents are easier to generate
            noisy, target = F.avg_pool2d(noisy, 2), F.avg_pool2d(target, 2)
        error = model.decoder(noisy) - target
        absolute, square, pull = error.abs().mean(), error.square().mean(), latents.square().mean()
        trained.zero_grad(set_to_none=True)
        (absolute + 2 * square + PULL * pull).backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"psnr": -10 * torch.log10(square.detach() / 4), "size": pull.detach().sqrt()}

    def save_samples(step: int) -> None:
        vae = networks.vae()
        vae.load_state_dict(averaged.weights)
        examples = [example(rgbd, 128, np.random.default_rng(i)) for i in range(16)]
        sheets.vae_sheet(vae, examples, run.sample_sheet(stage, step))

    loop.train(run, stage, {"model": model, "averaged": averaged, **optimisers}, one_step, save_samples, 1000)


def check_nothing_encoded(work: Path) -> None:
    """Raise Refused where something belongs to the encoder as it is: latents, their scale, or a decoder that was trained for it alone."""
    if found := [name for name in ("latents", "latents.pt", "vae_decoder.pt") if (work / name).exists()]:
        raise Refused(
            f"The stage `vae` would change the encoder, and {', '.join(found)} in {work} were made with it as it is. "
            "Move them away, or give another folder with --work."
        )


def fix_variance(model) -> None:
    """Make the encoder's log-variance a constant: its half of the last convolution keeps only a bias."""
    out = model.encoder.conv_out
    with torch.no_grad():
        out.weight[networks.LATENT_CHANNELS :] = 0
        out.bias[networks.LATENT_CHANNELS :] = 2 * math.log(DEVIATION)


def example(rgbd: list[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side, 3) uint8: a crop of a scene at full or half size, a map of one, or a drawing."""
    kind = rng.choice(list(SHARES), p=list(SHARES.values()))
    if kind == "drawing":
        drawing = maps.drawing(side, side, rng)
        return maps.edges(drawing, *maps.varied_thresholds(rng)) if rng.random() < 0.4 else drawing
    of_size = rgbd[rng.integers(len(rgbd))]
    scene = of_size[rng.integers(len(of_size))]
    if rng.random() < 0.5:
        scene = scene[:, ::-1]
    if kind == "half" and min(scene.shape[:2]) >= 2 * side:
        y, x = rng.integers(scene.shape[0] - 2 * side + 1), rng.integers(scene.shape[1] - 2 * side + 1)
        return scene[y : y + 2 * side, x : x + 2 * side, :3].reshape(side, 2, side, 2, 3).mean((1, 3)).astype(np.uint8)
    y, x = rng.integers(scene.shape[0] - side + 1), rng.integers(scene.shape[1] - side + 1)
    crop = scene[y : y + side, x : x + side]
    if kind == "depth":
        return np.repeat(crop[..., 3:], 3, axis=2)
    return maps.edges(crop[..., :3], *maps.varied_thresholds(rng)) if kind == "edges" else crop[..., :3]
