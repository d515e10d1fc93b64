"""Stage `estimator`: a small Depth Anything that estimates how near each pixel of a scene is; near is bright."""

import numpy as np
import torch
from torch.nn import functional as F

from training import data, loop, muon, networks, sheets

SIDE = 196  # pixels of the shorter side of its input
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as Depth Anything has them; not DPTImageProcessor's defaults


def train(run: loop.Run, batch: int) -> None:
    torch.manual_seed(4)
    model = networks.depth_estimator().to(run.device)
    torch.nn.init.constant_(model.head.conv3.bias, 0.4)  # the last layer is a ReLU: if it starts at zero, it may stay there
    averaged = loop.Averaged(model, 0.998)
    optimisers = muon.optimisers(model, 0.01, 1e-3, ("backbone.embeddings", "head"))
    scenes = data.by_size(run.work, 3 if run.device == "cpu" else 7)
    rng = np.random.default_rng(0)

    def one_step(step: int):
        of_size = scenes[rng.integers(len(scenes))]
        rgbd = of_size[np.sort(rng.choice(len(of_size), batch, replace=False))]
        rgbd = rgbd[:, :, ::-1] if rng.random() < 0.5 else rgbd
        images, near = preprocessed(rgbd, rng)
        estimate = model(images.to(run.device)).predicted_depth
        near = near.to(run.device)
        error = estimate - near
        # The error without each row's mean counts twice: the floor is easy to see, and the objects on it are what matters.
        loss = error.abs().mean() + 2 * (error - error.mean(2, keepdim=True)).abs().mean() + gradient_loss(estimate, near)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"loss": loss.detach()}

    def save_samples(step: int) -> None:
        estimator = networks.depth_estimator().eval()
        estimator.load_state_dict(averaged.weights)
        rgbd = data.rendered(range(data.HELD_OUT, data.HELD_OUT + 8), (256, 256))
        images, near = preprocessed(rgbd)
        with torch.no_grad():
            estimate = estimator(images).predicted_depth
        depth_maps = [sheets.as_bytes(plane[:, None].expand(-1, 3, -1, -1) * 2 - 1) for plane in (near, estimate)]
        small = sheets.as_bytes(F.interpolate(data.as_images(rgbd), estimate.shape[-2:], mode="bilinear", antialias=True))
        sheets.save([list(small), *(list(row) for row in depth_maps)], run.sample_sheet("estimator", step))

    loop.train(run, "estimator", {"model": model, "averaged": averaged, **optimisers}, one_step, save_samples)


def preprocessed(rgbd: np.ndarray, rng: np.random.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes -> images (B, 3, h, w) as the processor normalises them, and nearness (B, h, w) in 0–1. With `rng`, colours vary."""
    images, near = data.as_images(rgbd) / 2 + 0.5, data.as_depth_maps(rgbd)[:, :1] / 2 + 0.5
    height, width = rgbd.shape[1:3]
    scale = SIDE / min(height, width)
    size = (round(height * scale / 14) * 14, round(width * scale / 14) * 14)
    images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    near = F.interpolate(near, size, mode="bilinear", antialias=True)[:, 0]
    if rng is not None:  # photos are not renders: they differ in brightness, contrast and tint, and have noise
        gain = torch.from_numpy(rng.uniform(0.75, 1.25, (len(rgbd), 3, 1, 1))).float()
        lift = torch.from_numpy(rng.uniform(-0.1, 0.1, (len(rgbd), 1, 1, 1))).float()
        images = (images * gain + lift + 0.02 * torch.randn_like(images)).clamp(0, 1)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (images - mean) / deviation, near


def gradient_loss(estimate: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """The difference between the two in their steps from pixel to pixel: this is what makes outlines crisp."""
    error = estimate - near
    return error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
