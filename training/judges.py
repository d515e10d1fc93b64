"""Stage `judge`: a small network for the evaluation that tells what an image shows. It is trained on renders and never sees a generated image.

It gets a 256x256 image at half size and answers how many objects there are, and the shape and colour of the leftmost and the rightmost
one. Where there is one object, both answers are about it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import data, loop, muon
from training.scenes import COLOURS, SHAPES, SQUARE, Scene, sample

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

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in -1 … 1, any size -> logits by question."""
        small = F.interpolate(images, (128, 128), mode="bilinear", antialias=True)
        logits = self.head(self.mix(self.body(small))).split(list(ANSWERS.values()), 1)
        return dict(zip(ANSWERS, logits))


def load(work: Path) -> Judge:
    """The trained judge. Raises Refused if there is none."""
    judge = Judge()
    judge.load_state_dict(torch.load(loop.needed(work, "judge", "data"), map_location="cpu", weights_only=True)["averaged"])
    return judge.eval()


def train(run: loop.Run, batch: int) -> None:
    """Train on all square scenes and their mirror images, with colours and sharpness varied a little."""
    torch.manual_seed(6)
    judge = Judge().to(run.device)
    averaged = loop.Averaged(judge, 0.99)
    optimisers = muon.optimisers(judge, 0.01, 2e-3, ("body.0", "head"))
    seeds, rgbd = data.load(run.work, SQUARE)
    rng = np.random.default_rng(loop.reached(run.checkpoint("judge")))

    def one_step(step: int, progress: float):
        rows = np.sort(rng.choice(len(seeds), batch, replace=False))
        mirrored = rng.random() < 0.5
        images = F.avg_pool2d(data.as_images(rgbd[rows][:, :, ::-1] if mirrored else rgbd[rows]), 2)
        if rng.random() < 0.5:  # what a VAE does to an image must not confuse the judge
            images = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
        images = images * rng.uniform(0.9, 1.1) + 0.03 * torch.randn_like(images)
        scenes = [sample(int(seed), *SQUARE) for seed in seeds[rows]]
        truth = answers([scene.mirrored() if mirrored else scene for scene in scenes])
        logits = judge(images.to(run.device))
        loss = sum(F.cross_entropy(logits[name], truth[name].to(run.device)) for name in ANSWERS)
        judge.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(judge, step)
        accuracy = torch.stack([(logits[name].argmax(1).cpu() == truth[name]).float().mean() for name in ANSWERS]).mean()
        return {"loss": loss.detach(), "accuracy": accuracy}

    loop.train(run, "judge", {"model": judge, "averaged": averaged, **optimisers}, one_step)


def answers(scenes: list[Scene]) -> dict[str, Tensor]:
    """The right answers (B,) by question."""
    ends = [(scene.objects[0], scene.objects[-1]) for scene in scenes]
    return {
        "count": torch.tensor([len(scene.objects) - 1 for scene in scenes]),
        "left_shape": torch.tensor([SHAPES.index(left.shape) for left, _ in ends]),
        "left_colour": torch.tensor([COLOURS.index(left.colour) for left, _ in ends]),
        "right_shape": torch.tensor([SHAPES.index(right.shape) for _, right in ends]),
        "right_colour": torch.tensor([COLOURS.index(right.colour) for _, right in ends]),
    }
