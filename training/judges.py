"""What is in a picture? Small judges for the evaluation, trained on rendered scenes alone: they never saw a generated picture.

One network looks at a 256x256 picture at half size and answers, for its leftmost and its rightmost object, shape and colour.
With one object both answers speak of it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import data, loop, muon
from training.scenes import COLOURS, SHAPES, Scene, sample

ANSWERS = {"count": 3, "left_shape": len(SHAPES), "left_colour": len(COLOURS), "right_shape": len(SHAPES), "right_colour": len(COLOURS)}


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (3, 24, 48, 72, 96, 96)
        self.body = nn.Sequential(
            *(
                layer
                for before, after in zip(widths, widths[1:])
                for layer in (nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU())
            )
        )
        self.mix = nn.Sequential(nn.Conv2d(96, 96, 3, padding=1), nn.GroupNorm(8, 96), nn.SiLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(96 * 16, 192), nn.SiLU(), nn.Linear(192, sum(ANSWERS.values())))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in -1 … 1, any size -> logits by question."""
        small = F.interpolate(pictures, (128, 128), mode="bilinear", antialias=True)
        logits = self.head(self.mix(self.body(small))).split(list(ANSWERS.values()), 1)
        return dict(zip(ANSWERS, logits))


def train(work: Path, steps: int, batch: int, device: str) -> None:
    """Stage `judge`: on all square scenes and their mirror images, with colours and sharpness varied a little."""
    torch.manual_seed(6)
    judge = Judge().to(device)
    averaged = loop.Averaged(judge, 0.99)
    optimisers = muon.optimisers(judge, 0.01, 2e-3, ("body.0", "head"))
    seeds, four = data.chunks(work, (256, 256))
    draw = np.random.default_rng(0)

    def one_step(step: int):
        rows = np.sort(draw.choice(len(seeds), batch, replace=False))
        mirrored = draw.random() < 0.5
        chosen = four[rows]
        pictures = data.as_pictures(chosen[:, :, ::-1] if mirrored else chosen)
        pictures = F.avg_pool2d(pictures, 2)
        if draw.random() < 0.5:  # what a VAE does to a picture must not confuse the judge
            pictures = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
        pictures = pictures * draw.uniform(0.9, 1.1) + 0.03 * torch.randn_like(pictures)
        scenes = [sample(int(seed), 256, 256) for seed in seeds[rows]]
        truth = answers([scene.mirrored() if mirrored else scene for scene in scenes])
        said = judge(pictures.to(device))
        loss = sum(F.cross_entropy(said[name], truth[name].to(device)) for name in ANSWERS)
        judge.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(judge, step)
        right = torch.stack([(said[name].argmax(1).cpu() == truth[name]).float().mean() for name in ANSWERS]).mean()
        return {"loss": loss.detach(), "right": right}

    loop.train(work / "judge.pt", {"model": judge, "averaged": averaged, **optimisers}, steps, one_step)


def answers(scenes: list[Scene]) -> dict[str, Tensor]:
    ends = [(scene.things[0], scene.things[-1]) for scene in scenes]
    return {
        "count": torch.tensor([len(scene.things) - 1 for scene in scenes]),
        "left_shape": torch.tensor([SHAPES.index(left.shape) for left, _ in ends]),
        "left_colour": torch.tensor([COLOURS.index(left.colour) for left, _ in ends]),
        "right_shape": torch.tensor([SHAPES.index(right.shape) for _, right in ends]),
        "right_colour": torch.tensor([COLOURS.index(right.colour) for _, right in ends]),
    }
