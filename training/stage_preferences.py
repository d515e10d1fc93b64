"""Stage `prefer_text`: the text network learns from pairs of its own images which outlines are the better ones.

Relative to the frozen weights that it started from, the error of its velocity should grow less on the better image of a pair than on the
worse one (Diffusion-DPO: Wallace et al. 2023, arXiv 2311.12908). On good images, the network stays close to those weights.
"""

import copy
import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from training import distributed, flow, loop, networks, preferences
from training.scenes import SQUARE
from training.stage_transformer import start_from, text_encoders

STARTS = ("refine_text", "distil_text")
BETA = 200.0  # how much a difference of errors counts; at 1000, the loss rose within forty steps
CLOSENESS = 0.5  # at 5, outlines became no better
LEARNING_RATE = 1.5e-5  # Adam's, for 6 pairs
NEARER_TO_NOISE = 0.5  # see flow.random_times
GUIDANCE = (2.0, 5.0)


def train(run: loop.Run, pairs: int) -> None:
    """Train with `pairs` pairs in each step. Raises Refused without pairs, or without a network to start from."""
    trainer = Trainer(run, pairs)
    loop.train(run, "prefer_text", trainer.state, trainer.one_step)


class Trainer:
    def __init__(self, run: loop.Run, pairs: int):
        torch.manual_seed(5 + distributed.rank())
        self.count, self.device = pairs, run.device
        self.pairs = preferences.load(run.work)
        self.model = networks.transformer(control=False)
        start_from(self.model, run.work, "prefer_text", STARTS)
        self.reference = copy.deepcopy(self.model).to(run.device).eval().requires_grad_(False)
        self.model.to(run.device)
        self.encoders = text_encoders(run.work, run.device)
        averaged = loop.Averaged(self.model, 0.99)
        self.adam = torch.optim.Adam(
            [{"params": list(self.model.parameters()), "peak": LEARNING_RATE}], lr=LEARNING_RATE, betas=(0.9, 0.99)
        )
        self.state = {"model": self.model, "averaged": averaged, "adam": self.adam}
        self.random = random.Random(f"prefer_text {loop.reached(run.checkpoint('prefer_text'))} {distributed.rank()}")

    def one_step(self, step: int, progress: float) -> dict[str, Tensor]:
        count, device = self.count, self.device
        chosen, kept = ([self.random.randrange(len(self.pairs.prompts)) for _ in range(many)] for many in (count, max(1, count // 2)))

        def rows(draw: Callable[[int], Tensor]) -> Tensor:
            """The same for both images of a pair, and others for the images to stay close on."""
            of_pairs = draw(count)
            return torch.cat((of_pairs, of_pairs, draw(len(kept))))

        clean = torch.cat((self.pairs.better[chosen], self.pairs.worse[chosen], self.pairs.better[kept])).to(device, torch.float32)
        noise = rows(lambda many: torch.randn(many, *preferences.TOKENS, device=device))
        time = rows(lambda many: flow.random_times(many, SQUARE, device, NEARER_TO_NOISE))
        guidance = rows(lambda many: torch.empty(many, device=device).uniform_(*GUIDANCE))
        noisy = (1 - time[:, None, None]) * clean + time[:, None, None] * noise
        prompts = self.encoders.encode([self.pairs.prompts[index] for index in (*chosen, *chosen, *kept)])
        with torch.no_grad():
            before = flow.velocity(self.reference, noisy, None, time, prompts, guidance, SQUARE)
        output = flow.velocity(self.model, noisy, None, time, prompts, guidance, SQUARE)
        target = noise - clean
        risen = (output - target).square().mean((1, 2)) - (before - target).square().mean((1, 2))
        better, worse = risen[:count], risen[count : 2 * count]
        margin = BETA * (worse - better)
        moved = (output - before)[2 * count :].square().mean()
        loss = CLOSENESS * moved - F.logsigmoid(margin).mean()
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.state["averaged"].update(self.model, step)
        return {"loss": loss.detach(), "accuracy": (margin > 0).float().mean(), "better": better.detach().mean(), "moved": moved.detach()}
