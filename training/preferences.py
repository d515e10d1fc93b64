"""Stage `preferences`: pairs of images that the text network generates from one prompt, one with better outlines than the other.

Outlines are measured as in silhouettes.py, so only what can be told apart there is asked for: one object or two, in colours that
differ from floor and sky. The pairs lie in WORK/preferences.
"""

import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import Refused, captions, export, flow, networks, sheets, silhouettes, stage_transformer
from training.files import write
from training.scenes import SHAPES, SQUARE, Scene, sample
from training.silhouettes import Background

FIRST_SEED = 6_000_000  # of the scenes that prompts are about: neither trained on nor held out
PROMPTS_PER_FILE, IMAGES_PER_PROMPT = 20, 4
STEPS, GUIDANCE = 12, 3.5
TWO_OBJECTS, WEIGHTS = 0.35, (3, 5, 1, 1)  # the share of prompts about two; how often each of SHAPES is asked for alone
NIGHTS, WHITE = 0.3, 0.15  # the shares of prompts that are moved to the night, where outlines are worst, and of those about a white object
TOKENS = (SQUARE[0] * SQUARE[1] // 16**2, 64)  # the shape of an image's packed latents
WRONG = 9.0  # the defect of an image with other objects or colours than its prompt
DENT = 0.04  # of an object's size: half of the images of the weights before the fourth round had deeper dents in cubes
CLEARLY = 0.3  # the least difference between the defects of a pair


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, each of one prompt: what a file holds."""

    prompts: list[str]
    better: Tensor  # (N, tokens, 64) float16, as `worse`
    worse: Tensor


def make(work: Path, device: str, prompts: int) -> None:
    """Generate images until there are files for `prompts` prompts. Raises Refused without a text network.

    It can be stopped and run again. After a round of prefer_text, the files that are still missing come from its network.
    """
    files = [work / "preferences" / f"{number:05}.pt" for number in range(-(-prompts // PROMPTS_PER_FILE))]
    missing = [path for path in files if not path.exists()]
    if not missing:
        return
    generator = Generator(work, device)
    for path in missing:
        pairs = generator.pairs(int(path.stem), min(PROMPTS_PER_FILE, prompts))
        write(path, partial(torch.save, vars(pairs)))
        print(f"preferences: {path}, pairs: {len(pairs.prompts)}", flush=True)


def load(work: Path) -> Pairs:
    """All pairs. Raises Refused if there are none."""
    files = [Pairs(**torch.load(path, map_location="cpu", weights_only=True)) for path in sorted((work / "preferences").glob("*.pt"))]
    prompts = [prompt for file in files for prompt in file.prompts]
    if not prompts:
        raise Refused(f"There are no pairs of images in {work} yet. Run the stage `preferences` first.")
    return Pairs(prompts, torch.cat([file.better for file in files]), torch.cat([file.worse for file in files]))


class Generator:
    """The best text network of a work folder, as it was before `order_text`."""

    def __init__(self, work: Path, device: str):
        self.model = networks.transformer(control=False)
        _, stages, _ = export.NETWORKS["transformer"]
        before = tuple(stage for stage in stages if stage != "order_text")  # what prefer_text goes on from
        stage_transformer.start_from(self.model, work, "preferences", before)
        self.model.to(device).eval()
        self.vae = export.assemble(work, "vae")["vae"].to(device).eval()
        self.encoders, self.device = stage_transformer.text_encoders(work, device), device

    def pairs(self, number: int, prompts: int) -> Pairs:
        """Pairs from these prompts: for each, the best and the worst image, and the two between them, where they differ clearly."""
        rng = random.Random(f"preferences {number}")
        chosen: list[tuple[str, Tensor, Tensor]] = []
        for at in range(prompts):
            scene = asked_for(FIRST_SEED + number * PROMPTS_PER_FILE + at, rng)
            caption = captions.caption(scene, rng)
            latents = self._generate(caption.text, seed=number * PROMPTS_PER_FILE + at)
            images = sheets.as_bytes(self._decoded(latents))
            found = [defect(image, scene, caption) for image in images]
            order = sorted(range(len(found)), key=found.__getitem__)
            for good, bad in zip(order, reversed(order[len(order) // 2 :])):
                if found[good] < 1 and found[bad] - found[good] > CLEARLY:
                    chosen.append((caption.text, latents[good].half().cpu(), latents[bad].half().cpu()))
        none = torch.empty(0, *TOKENS, dtype=torch.float16)
        better, worse = (torch.stack([pair[which] for pair in chosen]) if chosen else none for which in (1, 2))
        return Pairs([prompt for prompt, _, _ in chosen], better, worse)

    def _generate(self, prompt: str, seed: int) -> Tensor:
        noise = torch.randn(IMAGES_PER_PROMPT, *TOKENS, generator=torch.Generator().manual_seed(seed)).to(self.device)
        prompts = self.encoders.encode([prompt] * IMAGES_PER_PROMPT)
        guidance = torch.full((IMAGES_PER_PROMPT,), GUIDANCE, device=self.device)

        def velocity_at(noisy: Tensor, time: Tensor) -> Tensor:
            return flow.velocity(self.model, noisy, None, time, prompts, guidance, SQUARE)

        return flow.generate(velocity_at, noise, STEPS)

    @torch.inference_mode()
    def _decoded(self, latents: Tensor) -> Tensor:
        return stage_transformer.decode(self.vae, latents, SQUARE)


def asked_for(seed: int, rng: random.Random) -> Scene:
    """A scene of one object or two that silhouettes.py can tell from what is behind them."""
    two, white, night = (rng.random() < share for share in (TWO_OBJECTS, WHITE, NIGHTS))
    scene = sample(seed, *SQUARE, count=2 if two else 1)
    if white:  # which can be told there alone
        scene = replace(scene, floor=rng.choice(("wooden", "sandy")), light="sunset")
    elif night:
        scene = replace(scene, light="night")
    elif (scene.floor, scene.light) == ("grassy", "sunset"):
        scene = replace(scene, light="noon")
    hues = rng.sample([colour for colour in Background(scene.floor, scene.light).colours if colour != "white"], len(scene.objects))
    if white:
        hues[rng.randrange(len(hues))] = "white"
    objects = [replace(each, colour=hue) for each, hue in zip(scene.objects, hues)]
    if not two:
        objects = [replace(objects[0], shape=rng.choices(SHAPES, WEIGHTS)[0])]
    return replace(scene, objects=tuple(objects))


def defect(image: np.ndarray, scene: Scene, caption: captions.Caption) -> float:
    """The greatest defect of the outlines in an (H, W, 3) uint8 image, or `WRONG` where it does not show what the caption says."""
    background = Background(scene.floor, scene.light)
    masks = silhouettes.objects(image, background)
    masks.sort(key=lambda mask: np.nonzero(mask)[1].mean())  # from left to right, as the scene's objects are
    hues = [silhouettes.paint(image, mask, background) for mask in masks]
    wanted = [each.colour for each in scene.objects]
    if sorted(hues) != sorted(wanted) or all(caption.tells_position) and hues != wanted:
        return WRONG
    shapes = {each.colour: each.shape for each in scene.objects}
    return max(_outline_defect(mask, shapes[hue]) for mask, hue in zip(masks, hues))


def _outline_defect(mask: np.ndarray, shape: str) -> float:
    found = silhouettes.defect(mask, shape)
    if shape == "cube" and found < 1:
        found = 0.0  # which of two fits better tells more of the side that a cube shows than of its edges
    return max(found, silhouettes.dent(mask, shape) / DENT)
