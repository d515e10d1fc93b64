"""Stage `text`: both text encoders learn to read, before any picture is drawn.

They are taught to tell from a caption what it says of the scene. CLIP's pooled vector says it all at once; in T5's output each
word of an object says that object's shape, colour and place, and every position says the floor and the light. FLUX's encoders
too were trained before FLUX and stay frozen under it.
"""

import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import captions, loop, muon, networks, tokenizers
from training.scenes import COLOURS, FLOORS, LIGHTS, SHAPES, Scene, sample

PLACES = 4  # not said, left, middle, right
GLOBAL = {"count": 4, "floor": len(FLOORS) + 1, "light": len(LIGHTS) + 1}  # the last of floor and light: not said
OWN = {"shape": len(SHAPES), "colour": len(COLOURS), "place": PLACES}
SIDES = {"left_shape": len(SHAPES) + 1, "left_colour": len(COLOURS) + 1, "right_shape": len(SHAPES) + 1, "right_colour": len(COLOURS) + 1}
PAIRS = len(SHAPES) * len(COLOURS)
NONE = -100  # cross_entropy's own mark for "no answer asked"


class Readers(nn.Module):
    """The two encoders and, for training only, a linear reading of what they say."""

    def __init__(self, clip_words: int, t5_words: int):
        super().__init__()
        self.clip, self.t5 = networks.clip(clip_words, clip_words - 1), networks.t5(t5_words)
        self.pooled = nn.Linear(networks.WIDTH, PAIRS + sum(GLOBAL.values()) + sum(SIDES.values()))
        self.each = nn.Linear(networks.WIDTH, sum(OWN.values()) + sum(GLOBAL.values()))


def train(work: Path, steps: int, batch: int, device: str) -> None:
    torch.manual_seed(2)
    letters, pieces = tokenizers.clip_tokenizer(), tokenizers.t5_tokenizer()
    readers = Readers(len(letters), len(pieces)).to(device)
    averaged = {"clip": loop.Averaged(readers.clip, 0.99), "t5": loop.Averaged(readers.t5, 0.99)}
    optimisers = muon.optimisers(
        readers, 0.01, 2e-3, ("pooled", "each", "clip.text_model.embeddings", "clip.embeddings", "t5.shared", "t5.encoder.embed")
    )
    draw = random.Random(0)

    def one_step(step: int):
        scenes = [sample(draw.randrange(10**6), 256, 256) for _ in range(batch)]
        said = [captions.caption(scene, draw) for scene in scenes]
        length = networks.TEXT_TOKENS if draw.random() < 0.5 else 32
        ids = pieces([one.text for one in said], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        each = readers.each(readers.t5(ids.to(device)).last_hidden_state)
        # Captions fit in a few dozen letters; CLIP is causal, so what is cut off after the end changes nothing.
        letter_ids = letters([one.text for one in said], padding=True, truncation=True, return_tensors="pt").input_ids
        pooled = readers.pooled(readers.clip(letter_ids.to(device)).pooler_output)
        own, shared, sides, pairs = (answer.to(device) for answer in answers(scenes, said, ids, pieces))
        loss, right = 0.0, []
        at = 0
        for i, count in enumerate(OWN.values()):
            logits = each[..., at : at + count]
            loss = loss + F.cross_entropy(logits.flatten(0, 1), own[..., i].flatten(), ignore_index=NONE)
            asked = own[..., i] != NONE
            right.append((logits.argmax(-1) == own[..., i])[asked].float().mean())
            at += count
        for i, count in enumerate(GLOBAL.values()):
            loss = loss + F.cross_entropy(each[..., at : at + count].flatten(0, 1), shared[:, None, i].expand(-1, length).flatten())
            at += count
        loss = loss + 4 * F.binary_cross_entropy_with_logits(pooled[:, :PAIRS], pairs)
        at = PAIRS
        for i, count in enumerate([*GLOBAL.values(), *SIDES.values()]):
            target = shared[:, i] if i < len(GLOBAL) else sides[:, i - len(GLOBAL)]
            loss = loss + F.cross_entropy(pooled[:, at : at + count], target)
            if i >= len(GLOBAL):
                right.append((pooled[:, at : at + count].argmax(-1) == target).float().mean())
            at += count
        readers.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers.values():
            optimiser.step()
        averaged["clip"].update(readers.clip, step)
        averaged["t5"].update(readers.t5, step)
        names = ("shape", "colour", "place", "left_shape", "left_colour", "right_shape", "right_colour")
        return {"loss": loss.detach()} | dict(zip(names, right))

    parts = {"readers": readers, **averaged, **optimisers}
    loop.train(work / "text.pt", parts, steps, one_step)


def answers(scenes: list[Scene], said: list[captions.Caption], ids: Tensor, pieces) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What should be read: per token (B, L, 3), per caption (B, 3), its left and right thing (B, 4), its kinds of things (B, PAIRS)."""
    own = torch.full((*ids.shape, len(OWN)), NONE)
    shared = torch.zeros(len(said), len(GLOBAL), dtype=torch.long)
    sides = torch.zeros(len(said), len(SIDES), dtype=torch.long)
    pairs = torch.zeros(len(said), PAIRS)
    for row, (scene, one) in enumerate(zip(scenes, said)):
        last = len(scene.things) - 1
        facts = []
        for index, thing in enumerate(scene.things):
            shape, colour = SHAPES.index(thing.shape), COLOURS.index(thing.colour)
            place = 0 if not one.places[index] or last == 0 else 1 if index == 0 else 3 if index == last else 2
            facts.append((shape, colour, place))
            pairs[row, shape * len(COLOURS) + colour] = 1
        ends = [(facts[i][0], facts[i][1]) if last and one.places[i] else (len(SHAPES), len(COLOURS)) for i in (0, last)]
        sides[row] = torch.tensor([*ends[0], *ends[1]])
        shared[row] = torch.tensor(
            [
                len(scene.things),
                FLOORS.index(scene.floor) if one.floor else len(FLOORS),
                LIGHTS.index(scene.light) if one.light else len(LIGHTS),
            ]
        )
        token = 0
        for word, owner in zip(one.words, one.owners):
            width = len(pieces.tokenize(word))
            if owner != captions.NOTHING:
                own[row, token : token + width] = torch.tensor(facts[owner])
            token += width
    return own, shared, sides, pairs
