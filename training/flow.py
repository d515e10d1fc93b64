"""Flow matching as FLUX does it: calls of the transformer, and the steps from noise to latents. Batched, for training and its samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.latents import HALF


@dataclass(frozen=True)
class PromptEmbeds:
    """Prompts as the two text encoders return them."""

    embeds: Tensor  # (B, L, 128) from T5
    pooled: Tensor  # (B, 128) from CLIP

    def expanded(self, count: int) -> "PromptEmbeds":
        """One prompt for a batch of `count`."""
        return PromptEmbeds(self.embeds.expand(count, -1, -1), self.pooled.expand(count, -1))


@dataclass(frozen=True)
class Tokens:
    """Prompts as both tokenizers return them."""

    t5: Tensor  # (B, L)
    clip: Tensor  # (B, at most 77)


class TextEncoders:
    """The frozen text encoders with their tokenizers."""

    def __init__(self, clip, t5, clip_tokenizer, t5_tokenizer, device: str):
        self.clip, self.t5 = clip.to(device).eval(), t5.to(device).eval()
        self.clip_tokenizer, self.t5_tokenizer, self.device = clip_tokenizer, t5_tokenizer, device

    def tokenize(self, prompts: list[str], length: int = 64) -> Tokens:
        t5_ids = self.t5_tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        return Tokens(t5_ids, self.clip_tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").input_ids)

    @torch.no_grad()
    def embed(self, tokens: Tokens) -> PromptEmbeds:
        embeds = self.t5(tokens.t5.to(self.device)).last_hidden_state
        return PromptEmbeds(embeds, self.clip(tokens.clip.to(self.device)).pooler_output)

    def encode(self, prompts: list[str], length: int = 64) -> PromptEmbeds:
        return self.embed(self.tokenize(prompts, length))


def image_ids(size: tuple[int, int], device) -> Tensor:
    """Position ids (tokens, 3). Tokens of a half-size image stand where they would in the full-size one, so that what is learnt carries over."""
    width, height = size
    spread, start = (2.0, 0.5) if size == HALF else (1.0, 0.0)
    ids = torch.zeros(height // 16, width // 16, 3, device=device)
    ids[..., 1] += torch.arange(height // 16, device=device)[:, None] * spread + start
    ids[..., 2] += torch.arange(width // 16, device=device)[None, :] * spread + start
    return ids.view(-1, 3)


def velocity(
    model, noisy: Tensor, control: Tensor | None, time: Tensor, prompts: PromptEmbeds, guidance: Tensor, size: tuple[int, int]
) -> Tensor:
    """The transformer's output at `time` (B,) in 0–1: noise minus image, (B, tokens, 64)."""
    inputs = noisy if control is None else torch.cat((noisy, control), -1)
    text_ids = torch.zeros(prompts.embeds.shape[1], 3, device=noisy.device)
    return model(
        hidden_states=inputs,
        encoder_hidden_states=prompts.embeds,
        pooled_projections=prompts.pooled,
        timestep=time,
        guidance=guidance,
        img_ids=image_ids(size, noisy.device),
        txt_ids=text_ids,
        return_dict=False,
    )[0]


def random_times(count: int, size: tuple[int, int], device, nearer_to_noise: float = 0.0) -> Tensor:
    """(count,) in 0–1: logit-normal, closer to noise for more tokens, like the pipeline's own shifted schedule; a tenth are uniform.
    ``nearer_to_noise`` is added to the mean of the logit.
    """
    mean = (0.1 if size == HALF else 0.5) + nearer_to_noise
    times = torch.sigmoid(torch.randn(count, device=device) + mean)
    return torch.where(torch.rand(count, device=device) < 0.1, torch.rand(count, device=device), times)


def sigmas(steps: int) -> list[float]:
    """The pipeline's times for about 256 tokens (shift e^0.5), from 1 down to 0."""
    linear = [1 - i * (1 - 1 / steps) / max(steps - 1, 1) for i in range(steps)]
    return [math.exp(0.5) / (math.exp(0.5) + 1 / t - 1) for t in linear] + [0.0]


@torch.no_grad()
def generate(velocity_at: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int = 20) -> Tensor:
    """Euler steps along `velocity_at(latents, time)`, from noise (B, tokens, 64) to packed latents."""
    latents = noise
    times = sigmas(steps)
    for time, following in zip(times, times[1:]):
        latents = latents + (following - time) * velocity_at(latents, torch.full((len(noise),), time, device=noise.device))
    return latents
