"""Stage `text`: both text encoders learn to understand captions, before any image is generated.

Linear heads, which are thrown away afterwards, must tell from the encoders' output what a caption says of its scene: from CLIP's pooled
vector everything at once; from T5's token of a word, the shape, colour and position of the object that the word describes, and
from every token the floor and the light. FLUX's own encoders, too, were trained before FLUX and stay frozen.
"""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import captions, loop, muon, networks, tokenizers
from training.scenes import COLOURS, FLOORS, LIGHTS, SHAPES, Scene, sample

# The questions, and how many answers each has. The last answer of floor, light and each end: the caption does not tell.
TOKEN_QUESTIONS = {"shape": len(SHAPES), "colour": len(COLOURS), "position": 4}  # position: not told, left, middle, right
SCENE_QUESTIONS = {"count": 4, "floor": len(FLOORS) + 1, "light": len(LIGHTS) + 1}
END_QUESTIONS = {
    "left_shape": len(SHAPES) + 1,
    "left_colour": len(COLOURS) + 1,
    "right_shape": len(SHAPES) + 1,
    "right_colour": len(COLOURS) + 1,
}
PAIRS = len(SHAPES) * len(COLOURS)  # which of these a scene has is asked as well
NOT_ASKED = -100  # cross_entropy's own mark


class Encoders(nn.Module):
    """The two encoders with the linear heads that are used in training only."""

    def __init__(self):
        super().__init__()
        self.clip = networks.clip(len(tokenizers.clip_tokenizer()))
        self.t5 = networks.t5(len(tokenizers.t5_tokenizer()))
        self.pooled = nn.Linear(networks.WIDTH, PAIRS + sum(SCENE_QUESTIONS.values()) + sum(END_QUESTIONS.values()))
        self.each = nn.Linear(networks.WIDTH, sum(TOKEN_QUESTIONS.values()) + sum(SCENE_QUESTIONS.values()))


def train(run: loop.Run, batch: int) -> None:
    torch.manual_seed(2)
    clip_tokenizer, t5_tokenizer = tokenizers.clip_tokenizer(), tokenizers.t5_tokenizer()
    encoders = Encoders().to(run.device)
    averaged = {"clip": loop.Averaged(encoders.clip, 0.99), "t5": loop.Averaged(encoders.t5, 0.99)}
    optimisers = muon.optimisers(
        encoders, 0.01, 2e-3, ("pooled", "each", "clip.text_model.embeddings", "clip.embeddings", "t5.shared", "t5.encoder.embed")
    )
    rng = random.Random(loop.reached(run.checkpoint("text")))

    def one_step(step: int, progress: float):
        scenes = [sample(rng.randrange(10**6), 256, 256) for _ in range(batch)]
        told = [captions.caption(scene, rng) for scene in scenes]
        prompts = [caption.text for caption in told]
        length = networks.TEXT_TOKENS if rng.random() < 0.5 else 32
        t5_ids = t5_tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        each = encoders.each(encoders.t5(t5_ids.to(run.device)).last_hidden_state)
        # Captions fit in a few dozen tokens; CLIP is causal, so what is cut off after the end changes nothing.
        clip_ids = clip_tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").input_ids
        pooled = encoders.pooled(encoders.clip(clip_ids.to(run.device)).pooler_output)
        truth = tuple(answer.to(run.device) for answer in answers(scenes, told, t5_ids, t5_tokenizer))
        token_loss, token_accuracy = token_loss_of(each, truth[0], truth[1])
        pooled_loss, pooled_accuracy = pooled_loss_of(pooled, *truth[1:])
        encoders.zero_grad(set_to_none=True)
        loss = token_loss + pooled_loss
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged["clip"].update(encoders.clip, step)
        averaged["t5"].update(encoders.t5, step)
        return {"loss": loss.detach()} | token_accuracy | pooled_accuracy

    loop.train(run, "text", {"readers": encoders, **averaged, **optimisers}, one_step)


def token_loss_of(logits: Tensor, own: Tensor, shared: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of T5's head (B, L, answers), and the accuracy by question; `own` and `shared` as in `answers`."""
    loss, accuracy = 0.0, {}
    *parts, _ = logits.split([*TOKEN_QUESTIONS.values(), sum(SCENE_QUESTIONS.values())], -1)
    for i, (name, part) in enumerate(zip(TOKEN_QUESTIONS, parts)):
        loss = loss + F.cross_entropy(part.flatten(0, 1), own[..., i].flatten(), ignore_index=NOT_ASKED)
        asked = own[..., i] != NOT_ASKED
        accuracy[name] = (part.argmax(-1) == own[..., i])[asked].float().mean()
    for i, part in enumerate(logits[..., sum(TOKEN_QUESTIONS.values()) :].split(list(SCENE_QUESTIONS.values()), -1)):
        loss = loss + F.cross_entropy(part.flatten(0, 1), shared[:, None, i].expand(-1, logits.shape[1]).flatten())
    return loss, accuracy


def pooled_loss_of(logits: Tensor, shared: Tensor, ends: Tensor, pairs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of CLIP's head (B, answers), and the accuracy by question; the rest as in `answers`."""
    loss, accuracy = 4 * F.binary_cross_entropy_with_logits(logits[:, :PAIRS], pairs), {}
    questions = SCENE_QUESTIONS | END_QUESTIONS
    targets = torch.cat((shared, ends), 1)
    for i, (name, part) in enumerate(zip(questions, logits[:, PAIRS:].split(list(questions.values()), 1))):
        loss = loss + F.cross_entropy(part, targets[:, i])
        if name in END_QUESTIONS:
            accuracy[name] = (part.argmax(-1) == targets[:, i]).float().mean()
    return loss, accuracy


def answers(scenes: list[Scene], told: list[captions.Caption], ids: Tensor, t5_tokenizer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the captions tell: per token (B, L, 3), per scene (B, 3), of the objects at both ends (B, 4), and pairs of shape and colour (B, PAIRS)."""
    own = torch.full((*ids.shape, len(TOKEN_QUESTIONS)), NOT_ASKED)
    shared = torch.zeros(len(told), len(SCENE_QUESTIONS), dtype=torch.long)
    ends = torch.zeros(len(told), len(END_QUESTIONS), dtype=torch.long)
    pairs = torch.zeros(len(told), PAIRS)
    for row, (scene, caption) in enumerate(zip(scenes, told)):
        last = len(scene.objects) - 1
        facts = []
        for index, each in enumerate(scene.objects):
            shape, colour = SHAPES.index(each.shape), COLOURS.index(each.colour)
            position = 0 if not caption.tells_position[index] or last == 0 else 1 if index == 0 else 3 if index == last else 2
            facts.append((shape, colour, position))
            pairs[row, shape * len(COLOURS) + colour] = 1
        both = [facts[i][:2] if last and caption.tells_position[i] else (len(SHAPES), len(COLOURS)) for i in (0, last)]
        ends[row] = torch.tensor([*both[0], *both[1]])
        floor = FLOORS.index(scene.floor) if caption.tells_floor else len(FLOORS)
        light = LIGHTS.index(scene.light) if caption.tells_light else len(LIGHTS)
        shared[row] = torch.tensor([len(scene.objects), floor, light])
        token = 0
        for word, index in zip(caption.words, caption.describes):
            width = len(t5_tokenizer.tokenize(word))
            if index != captions.NO_OBJECT:
                own[row, token : token + width] = torch.tensor(facts[index])
            token += width
    return own, shared, ends, pairs
