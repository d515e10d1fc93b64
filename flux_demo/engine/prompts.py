"""A text becomes what the transformer reads: T5's row of tokens, and one vector from CLIP.

Encoded once and kept: a new seed, another size or another mode asks for the same text again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

KEPT = 64  # texts; FLUX.1-dev's take 4.2 MB each


@dataclass(frozen=True)
class Prompt:
    """A text as FLUX reads it."""

    tokens: Tensor  # (1, text tokens, T5 width), padding included: FLUX attends to it
    pooled: Tensor  # (1, CLIP width)

    def to(self, device: torch.device) -> Prompt:
        return Prompt(self.tokens.to(device), self.pooled.to(device))


@dataclass
class Encoders:
    """The two text encoders, for all modes that share them, and the texts they have read."""

    clip_tokenizer: Any
    clip: Any
    t5_tokenizer: Any
    t5: Any
    text_tokens: int  # 512 for FLUX.1-dev
    _read: OrderedDict[str, Prompt] = field(default_factory=OrderedDict, repr=False)

    def knows(self, text: str) -> bool:
        return text in self._read

    @torch.no_grad()
    def encode(self, text: str, device: torch.device) -> Prompt:
        """The prompt on that device. The last 64 are kept, in main memory."""
        if text not in self._read:
            self._read[text] = Prompt(self._row(text, device), self._vector(text, device)).to(torch.device("cpu"))
            while len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(text)
        return self._read[text].to(device)

    def unread(self, text: str) -> int:
        """How many tokens of the text lie beyond what T5 is given, and so have no effect."""
        return max(0, len(self.t5_tokenizer(text, verbose=False).input_ids) - self.text_tokens)

    def _row(self, text: str, device: torch.device) -> Tensor:
        ids = _tokenize(self.t5_tokenizer, text, self.text_tokens)
        return self.t5(ids.to(device), output_hidden_states=False)[0].to(dtype=self.t5.dtype, device=device)

    def _vector(self, text: str, device: torch.device) -> Tensor:
        ids = _tokenize(self.clip_tokenizer, text, self.clip_tokenizer.model_max_length)
        return self.clip(ids.to(device), output_hidden_states=False).pooler_output.to(dtype=self.clip.dtype, device=device)


def _tokenize(tokenizer: Any, text: str, length: int) -> Tensor:
    return tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
