"""A prompt becomes what the transformer reads: T5's embeddings of its tokens, and one pooled embedding from CLIP.

Encoded once and kept: a new seed, another size or another mode uses the same prompt again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MAX_CACHED = 64  # prompts; FLUX.1-dev's embeddings take 4.2 MB each


@dataclass(frozen=True)
class PromptEmbeds:
    """A prompt as FLUX reads it."""

    embeds: Tensor  # (1, max_sequence_length, T5 width), padding included: FLUX attends to it
    pooled: Tensor  # (1, CLIP width)

    def to(self, device: torch.device) -> PromptEmbeds:
        return PromptEmbeds(self.embeds.to(device), self.pooled.to(device))


@dataclass
class TextEncoders:
    """The two text encoders, for all modes that share them, and the prompts that they encoded."""

    clip_tokenizer: Any
    clip: Any
    t5_tokenizer: Any
    t5: Any
    max_sequence_length: int  # tokens that T5 reads: 512 for FLUX.1-dev
    _cached: OrderedDict[str, PromptEmbeds] = field(default_factory=OrderedDict, repr=False)

    def has_encoded(self, prompt: str) -> bool:
        return prompt in self._cached

    @torch.no_grad()
    def encode(self, prompt: str, device: torch.device) -> PromptEmbeds:
        """The prompt's embeddings on that device. The last 64 are kept, in main memory."""
        if prompt not in self._cached:
            self._cached[prompt] = PromptEmbeds(self._t5_embeds(prompt, device), self._clip_embeds(prompt, device)).to(torch.device("cpu"))
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        self._cached.move_to_end(prompt)
        return self._cached[prompt].to(device)

    def tokens_ignored(self, prompt: str) -> int:
        """How many of the prompt's T5 tokens are beyond ``max_sequence_length``, and so have no effect."""
        return max(0, len(self.t5_tokenizer(prompt, verbose=False).input_ids) - self.max_sequence_length)

    def _t5_embeds(self, prompt: str, device: torch.device) -> Tensor:
        ids = _tokenize(self.t5_tokenizer, prompt, self.max_sequence_length)
        return self.t5(ids.to(device), output_hidden_states=False)[0].to(dtype=self.t5.dtype, device=device)

    def _clip_embeds(self, prompt: str, device: torch.device) -> Tensor:
        ids = _tokenize(self.clip_tokenizer, prompt, self.clip_tokenizer.model_max_length)
        return self.clip(ids.to(device), output_hidden_states=False).pooler_output.to(dtype=self.clip.dtype, device=device)


def _tokenize(tokenizer: Any, prompt: str, length: int) -> Tensor:
    return tokenizer([prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
