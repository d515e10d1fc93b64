"""Stage `order_text`: the text network learns that objects named without an order stand from left to right.

Where a prompt leaves the order open, an image half made from noise is a mixture of both, and too often both objects end in one colour. Told
which stands on the left, the network gives each its own. So it learns to answer such a prompt as its own frozen weights answer the same
prompt with the order told, and every other prompt as they do. First comes least squares: a change of `context_embedder` that turns the tokens
of the one prompt into those of the other. Then gradients train all weights that only text passes through; those that draw stay as they are.
"""

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flux_demo import mini_vocabulary as vocabulary
from training import captions, distributed, flow, loop, networks
from training.captions import Caption
from training.preferences import TOKENS
from training.scenes import SQUARE, sample
from training.stage_transformer import start_from, text_encoders

STARTS = ("prefer_text", "refine_text", "distil_text")
FIRST_SEED = 7_000_000  # of the scenes that prompts are about: neither trained on nor held out
FITTED, BATCH = 4000, 200  # captions of each of the two kinds that least squares see, and how many are encoded at once
PAIRS, WORDS = 3.0, 8.0  # how much pairs in no order count against other captions, and their words against what fills up the prompt
STEPS, TAUGHT = 20, 2  # of an image, and how many of these, from the first on, are learnt from: the order is decided there
TEXT = ("context", "add_", "norm_added", "text_embedder")  # in the names of the weights that only text passes through
LEARNING_RATE = 4e-4  # Adam's
GUIDANCE = (2.0, 5.0)


def train(run: loop.Run, images: int) -> None:
    """Train with `images` images in each step. Raises Refused without a network to start from."""
    trainer = Trainer(run, images)
    loop.train(run, "order_text", trainer.state, trainer.one_step)


class Trainer:
    def __init__(self, run: loop.Run, images: int):
        torch.manual_seed(6 + distributed.rank())
        self.images, self.device = images, run.device
        self.model = networks.transformer(control=False)
        start_from(self.model, run.work, "order_text", STARTS)
        self.teacher = copy.deepcopy(self.model).to(run.device).eval().requires_grad_(False)
        self.encoders = text_encoders(run.work, run.device)
        fit(self.model.to(run.device).context_embedder, self.encoders)
        weights = [weight.requires_grad_(any(part in name for part in TEXT)) for name, weight in self.model.named_parameters()]
        self.trained = [weight for weight in weights if weight.requires_grad]
        averaged = loop.Averaged(self.model, 0.99)
        self.adam = torch.optim.Adam([{"params": self.trained, "peak": LEARNING_RATE}], lr=LEARNING_RATE, betas=(0.9, 0.99))
        self.state = {"model": self.model, "averaged": averaged, "adam": self.adam}
        self.random = random.Random(f"order_text {loop.reached(run.checkpoint('order_text'))} {distributed.rank()}")

    def one_step(self, step: int, progress: float) -> dict[str, Tensor]:
        asked, told = zip(*(prompts(self.random) for _ in range(self.images)))
        guidance = torch.empty(self.images, device=self.device).uniform_(*GUIDANCE)
        noisy, time, taught = self._taught(self.encoders.encode(list(told)), guidance)
        text = self.encoders.encode(list(asked))
        text = flow.PromptEmbeds(text.embeds.repeat(TAUGHT, 1, 1), text.pooled.repeat(TAUGHT, 1))
        output = flow.velocity(self.model, noisy, None, time, text, guidance.repeat(TAUGHT), SQUARE)
        errors = (output - taught).square().mean((1, 2))
        loss = errors.mean()
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.adam.step()
        self.state["averaged"].update(self.model, step)
        in_no_order = torch.tensor([each != same for each, same in zip(asked, told)], device=self.device).repeat(TAUGHT)
        return {"loss": loss.detach(), "pairs": _mean(errors, in_no_order), "others": _mean(errors, ~in_no_order)}

    @torch.no_grad()
    def _taught(self, prompts: flow.PromptEmbeds, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first steps of the teacher's way from noise to images, one after another: the latents, the times, and the velocities."""
        noisy, times = [torch.randn(self.images, *TOKENS, device=self.device)], flow.sigmas(STEPS)[: TAUGHT + 1]
        found = []
        for time, following in zip(times, times[1:]):
            at = torch.full((self.images,), time, device=self.device)
            found.append(flow.velocity(self.teacher, noisy[-1], None, at, prompts, guidance, SQUARE))
            noisy.append(noisy[-1] + (following - time) * found[-1])
        return torch.cat(noisy[:-1]), torch.tensor(times[:-1], device=self.device).repeat_interleave(self.images), torch.cat(found)


@torch.no_grad()
def fit(embedder: nn.Linear, encoders: flow.TextEncoders) -> None:
    """Change the layer so that a pair in no order comes out of it as the pair in its order does, as nearly as other captions allow."""
    rng = random.Random("order_text fit")
    squares = torch.zeros(embedder.in_features + 1, embedder.in_features + 1, dtype=torch.float64, device=embedder.weight.device)
    products = squares.new_zeros(embedder.in_features + 1, embedder.out_features)
    for _ in range(0, FITTED, BATCH):
        pairs, others = [pair_in_no_order(rng) for _ in range(BATCH)], [other(rng, None) for _ in range(BATCH)]
        given = _with_ones(encoders.encode([pair.text for pair in pairs]).embeds)
        wanted = _with_ones(encoders.encode([captions.in_order(pair).text for pair in pairs]).embeds)
        places, counts = zip(*(_places(pair, encoders.t5_tokenizer, given.shape[1]) for pair in pairs))
        wanted = torch.cat([tokens[place] for tokens, place in zip(wanted, places)])
        given, counted = given.flatten(0, 1), torch.cat(counts).to(wanted)
        weighted = PAIRS / counted.sum() * counted[:, None] * given
        same = _with_ones(encoders.encode([caption.text for caption in others]).embeds).flatten(0, 1)
        squares += weighted.T @ given + same.T @ same / len(same)
        products += weighted.T @ (wanted - given)[:, :-1] @ embedder.weight.double().T
    ridge = 1e-6 * squares.diagonal().mean() * torch.eye(len(squares), device=squares.device)
    added = torch.linalg.solve(squares + ridge, products).T.to(embedder.weight)
    embedder.weight += added[:, :-1]
    embedder.bias += added[:, -1]


def prompts(rng: random.Random) -> tuple[str, str]:
    """A prompt to learn, and the one to learn it from: for two objects in no order, the same with an order, and else the same."""
    kind = rng.random()
    if kind < 0.5:
        pair = pair_in_no_order(rng)
        return pair.text, captions.in_order(pair).text
    caption = other(rng, 2 if kind < 0.75 else None)  # pairs in an order are the easiest to mistake
    return caption.text, caption.text


def pair_in_no_order(rng: random.Random) -> Caption:
    """A caption of two objects that does not tell which stands on the left."""
    while True:
        found = _caption(rng, 2)
        if not any(found.tells_position):
            return found


def other(rng: random.Random, count: int | None) -> Caption:
    """Any other caption, of `count` objects or of as many as scenes have."""
    while True:
        found = _caption(rng, count)
        if len(found.tells_position) != 2 or any(found.tells_position):
            return found


def _caption(rng: random.Random, count: int | None) -> Caption:
    return captions.caption(sample(FIRST_SEED + rng.randrange(1_000_000), *SQUARE, count=count), rng)


def _places(pair: Caption, tokenizer, length: int) -> tuple[Tensor, Tensor]:
    """For each of `length` tokens of a pair in no order, which token of the pair in order it should be like, and how much it counts."""

    def count(words: Sequence[str]) -> int:
        return sum(len(tokenizer.tokenize(word)) for word in words)

    start, end = captions.between_objects(pair)
    before, between, told = count(pair.words[:start]), count(pair.words[start:end]), count(vocabulary.LEFT[0].split())
    token = torch.arange(length)
    after = (token - between + told).clamp(max=length - 1)
    place = torch.where(token < before, token, torch.where(token < before + between, before + told // 2, after))
    return place, torch.where(token <= count(pair.words), WORDS, 1.0)  # one token more than the words: it ends them


def _with_ones(embeds: Tensor) -> Tensor:
    return nn.functional.pad(embeds.double(), (0, 1), value=1.0)


def _mean(errors: Tensor, chosen: Tensor) -> Tensor:
    return errors.detach()[chosen].sum() / chosen.sum().clamp(min=1)
