"""Stage `estimator`: a small Depth Anything that estimates how near each pixel is; near is bright.

It learns from the mini's own scenes and from cluttered ones, half and half: the first are what it is used on, and the second
keep it from taking a photograph for one of them. Like Depth Anything, it is judged mostly up to a scale and a shift for each image.
"""

import numpy as np
import torch
from torch.nn import functional as F

from training import data, loop, muon, networks, sheets

SIDE = 196  # pixels of the shorter side of its input
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as Depth Anything has them; not DPTImageProcessor's defaults
SMALLEST_CROP = 0.55  # of a cluttered scene's sides


def train(run: loop.Run, batch: int) -> None:
    torch.manual_seed(4)
    model = networks.depth_estimator().to(run.device)
    torch.nn.init.constant_(model.head.conv3.bias, 0.4)  # the last layer is a ReLU: if it starts at zero, it may stay there
    averaged = loop.Averaged(model, 0.998)
    optimisers = muon.optimisers(model, 0.01, 1e-3, ("backbone.embeddings", "head"))
    scenes = data.by_size(run.work, 3 if run.device == "cpu" else 7)
    clutter = data.load_clutter(run.work)
    rng = np.random.default_rng(loop.reached(run.checkpoint("estimator")))

    def one_step(step: int, progress: float):
        of_size = scenes if step % 2 or not clutter else clutter
        of_size = of_size[rng.integers(len(of_size))]
        rgbd = of_size[np.sort(rng.choice(len(of_size), batch, replace=len(of_size) < batch))]
        rgbd = rgbd[:, :, ::-1] if rng.random() < 0.5 else rgbd
        if clutter and not step % 2:
            rgbd = cropped(rgbd, rng)
        images, near = preprocessed(rgbd, rng, run.device)
        estimate = model(images).predicted_depth
        error = estimate - near
        # The error without each row's mean: the ground is easy to see, and the objects on it are what matters.
        rows = (error - error.mean(2, keepdim=True)).abs().mean()
        fitted = aligned(estimate, near)
        loss = 0.5 * error.abs().mean() + rows + 2 * (fitted - near).abs().mean() + gradient_loss(fitted, near)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"own" if step % 2 else "clutter": 2 * loss.detach()}  # each is every other step

    def save_samples(step: int) -> None:
        estimator = networks.depth_estimator().eval()
        estimator.load_state_dict(averaged.weights)
        held_out = range(data.HELD_OUT, data.HELD_OUT + 8)
        rgbd = np.concatenate([data.rendered(held_out, (256, 256)), data.cluttered(held_out, (256, 256))])
        images, near = preprocessed(rgbd)
        with torch.no_grad():
            estimate = estimator(images).predicted_depth
        depth_maps = [sheets.as_bytes(plane[:, None].expand(-1, 3, -1, -1) * 2 - 1) for plane in (near, estimate)]
        small = sheets.as_bytes(F.interpolate(data.as_images(rgbd), estimate.shape[-2:], mode="bilinear", antialias=True))
        sheets.save([list(small), *(list(row) for row in depth_maps)], run.sample_sheet("estimator", step))

    loop.train(run, "estimator", {"model": model, "averaged": averaged, **optimisers}, one_step, save_samples)


def preprocessed(
    rgbd: np.ndarray, rng: np.random.Generator | None = None, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes -> images (B, 3, h, w) as the processor normalises them, and nearness (B, h, w) in 0–1. With `rng`, colours vary."""
    images, near = data.as_images(rgbd, device) / 2 + 0.5, data.as_depth_maps(rgbd, device)[:, :1] / 2 + 0.5
    height, width = rgbd.shape[1:3]
    scale = SIDE / min(height, width)
    size = (round(height * scale / 14) * 14, round(width * scale / 14) * 14)
    images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    near = F.interpolate(near, size, mode="bilinear", antialias=True)[:, 0]
    if rng is not None:  # photos are not renders: they differ in brightness, contrast and tint, and have noise
        gain = torch.from_numpy(rng.uniform(0.75, 1.25, (len(rgbd), 3, 1, 1))).to(images)
        lift = torch.from_numpy(rng.uniform(-0.1, 0.1, (len(rgbd), 1, 1, 1))).to(images)
        images = (images * gain + lift + 0.02 * torch.randn_like(images)).clamp(0, 1)
    mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, DEVIATION))
    return (images - mean) / deviation, near


def cropped(rgbd: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same part of each image, with its nearness from 0 to 255 again."""
    height, width = rgbd.shape[1:3]
    share = rng.uniform(SMALLEST_CROP, 1)
    rows, columns = round(height * share), round(width * share)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    part = rgbd[:, top : top + rows, left : left + columns].copy()
    near = part[..., 3].astype(np.float32)
    low, high = near.min((1, 2), keepdims=True), near.max((1, 2), keepdims=True)
    part[..., 3] = np.round((near - low) / np.maximum(high - low, 1) * 255)
    return part


def aligned(estimate: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The estimate (B, h, w) with the scale and shift for each image that bring it closest to the truth."""
    centred = estimate - estimate.mean((1, 2), keepdim=True)
    truth = near - near.mean((1, 2), keepdim=True)
    scale = (centred * truth).mean((1, 2), keepdim=True) / (centred.square().mean((1, 2), keepdim=True) + 1e-3)
    return centred * scale + near.mean((1, 2), keepdim=True)


def gradient_loss(estimate: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The difference between the two in their steps from pixel to pixel, near and farther: this is what makes outlines crisp."""
    error = estimate - near
    return (
        sum((error[:, step:] - error[:, :-step]).abs().mean() + (error[..., step:] - error[..., :-step]).abs().mean() for step in (1, 2, 4))
        / 2
    )
