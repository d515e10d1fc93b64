"""Stage `estimator`: a small Depth Anything that tells how near each pixel of a scene is; near is bright."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from training import data, loop, muon, networks, sheets
from training.export import ESTIMATOR_SIDE

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # DPTImageProcessor's defaults, as Depth Anything has them


def train(work: Path, steps: int, batch: int, device: str) -> None:
    torch.manual_seed(4)
    model = networks.depth_estimator().to(device)
    torch.nn.init.constant_(model.head.conv3.bias, 0.4)  # the last layer is a ReLU: begun at zero it may never wake
    averaged = loop.Averaged(model, 0.998)
    optimisers = muon.optimisers(model, 0.01, 1e-3, ("backbone.embeddings", "head"))
    scenes = data.bytes_by_size(work, 3 if device == "cpu" else 7)
    draw = np.random.default_rng(0)

    def one_step(step: int):
        of_size = scenes[draw.integers(len(scenes))]
        four = of_size[np.sort(draw.choice(len(of_size), batch, replace=False))]
        four = four[:, :, ::-1] if draw.random() < 0.5 else four
        pictures, near = seen(four, draw)
        said = model(pictures.to(device)).predicted_depth
        near = near.to(device)
        error = said - near
        # Twice the error that is left when each row's mean is taken away: the floor is easily seen, the things on it are the point.
        loss = error.abs().mean() + 2 * (error - error.mean(2, keepdim=True)).abs().mean() + slopes(said, near)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"loss": loss.detach()}

    def look(step: int) -> None:
        shown = networks.depth_estimator().eval()
        shown.load_state_dict(averaged.weights)
        four = data.rendered(range(data.HELD_OUT, data.HELD_OUT + 8), (256, 256))
        pictures, near = seen(four, None)
        with torch.no_grad():
            said = shown(pictures).predicted_depth
        grey = [sheets.as_bytes(plane[:, None].expand(-1, 3, -1, -1) * 2 - 1) for plane in (near, said)]
        shown_pictures = sheets.as_bytes(F.interpolate(data.as_pictures(four), said.shape[-2:], mode="bilinear", antialias=True))
        sheets.save([list(shown_pictures), *(list(row) for row in grey)], work / "looks" / f"estimator-{step:06}.png")

    loop.train(work / "estimator.pt", {"model": model, "averaged": averaged, **optimisers}, steps, one_step, look, 500)


def seen(four: np.ndarray, draw: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes -> normalised pictures (B, 3, h, w) as the processor gives them, and nearness (B, h, w) 0–1; colours varied by `draw`."""
    pictures, near = data.as_pictures(four) / 2 + 0.5, data.as_depth_maps(four)[:, :1] / 2 + 0.5
    height, width = four.shape[1:3]
    side = ESTIMATOR_SIDE / min(height, width)
    size = (round(height * side / 14) * 14, round(width * side / 14) * 14)
    pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(0, 1)
    near = F.interpolate(near, size, mode="bilinear", antialias=True)[:, 0]
    if draw is not None:  # photos are not rendered: other brightness, contrast and tint, some noise
        gain = torch.from_numpy(draw.uniform(0.75, 1.25, (len(four), 3, 1, 1))).float()
        lift = torch.from_numpy(draw.uniform(-0.1, 0.1, (len(four), 1, 1, 1))).float()
        pictures = (pictures * gain + lift + 0.02 * torch.randn_like(pictures)).clamp(0, 1)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (pictures - mean) / deviation, near


def slopes(said: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """How much the two differ in their steps from pixel to pixel: this is what makes outlines crisp."""
    error = said - near
    return error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
