"""Flow matching as FLUX does it: what the transformer is asked, and the steps from noise to latents. Batched, for training and looks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.latents import HALF


@dataclass(frozen=True)
class Text:
    """Prompts as both encoders give them."""

    each: Tensor  # (B, L, 128) from T5
    pooled: Tensor  # (B, 128) from CLIP

    def repeated(self, count: int) -> "Text":
        """One prompt for a whole batch."""
        return Text(self.each.expand(count, -1, -1), self.pooled.expand(count, -1))


class Reader:
    """The frozen text encoders with their tokenizers."""

    def __init__(self, clip, t5, letters, pieces, device: str):
        self.clip, self.t5 = clip.to(device).eval(), t5.to(device).eval()
        self.letters, self.pieces, self.device = letters, pieces, device

    @torch.no_grad()
    def read(self, prompts: list[str], length: int = 64) -> Text:
        ids = self.pieces(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        letters = self.letters(prompts, padding=True, truncation=True, return_tensors="pt").input_ids
        return Text(self.t5(ids.to(self.device)).last_hidden_state, self.clip(letters.to(self.device)).pooler_output)


def image_ids(size: tuple[int, int], device) -> Tensor:
    """(tokens, 3). A half-size picture's tokens stand where they would in the whole one, so that what is learnt there holds here."""
    width, height = size
    spread, start = (2.0, 0.5) if size == HALF else (1.0, 0.0)
    ids = torch.zeros(height // 16, width // 16, 3, device=device)
    ids[..., 1] += torch.arange(height // 16, device=device)[:, None] * spread + start
    ids[..., 2] += torch.arange(width // 16, device=device)[None, :] * spread + start
    return ids.view(-1, 3)


def velocity(model, noisy: Tensor, control: Tensor | None, time: Tensor, text: Text, guidance: Tensor, size: tuple[int, int]) -> Tensor:
    """What the transformer says at `time` (B,) in 0–1: noise minus picture, (B, tokens, 64)."""
    seen = noisy if control is None else torch.cat((noisy, control), -1)
    text_ids = torch.zeros(text.each.shape[1], 3, device=noisy.device)
    return model(
        hidden_states=seen,
        encoder_hidden_states=text.each,
        pooled_projections=text.pooled,
        timestep=time,
        guidance=guidance,
        img_ids=image_ids(size, noisy.device),
        txt_ids=text_ids,
        return_dict=False,
    )[0]


def times(count: int, size: tuple[int, int], device) -> Tensor:
    """(count,) in 0–1: logit-normal, nearer to noise for more tokens, as the pipeline's own shifted schedule is."""
    middle = 0.1 if size == HALF else 0.5
    drawn = torch.sigmoid(torch.randn(count, device=device) + middle)
    return torch.where(torch.rand(count, device=device) < 0.1, torch.rand(count, device=device), drawn)


def schedule(steps: int) -> list[float]:
    """The pipeline's times for about 256 tokens (shift e^0.5), from 1 down to 0."""
    plain = [1 - i * (1 - 1 / steps) / max(steps - 1, 1) for i in range(steps)]
    return [math.exp(0.5) / (math.exp(0.5) + 1 / t - 1) for t in plain] + [0.0]


@torch.no_grad()
def draw(say: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int = 20) -> Tensor:
    """Euler steps along `say(latents, time)` from noise (B, tokens, 64) to packed latents."""
    latents = noise
    sigmas = schedule(steps)
    for now, then in zip(sigmas, sigmas[1:]):
        latents = latents + (then - now) * say(latents, torch.full((len(noise),), now, device=noise.device))
    return latents
