"""Where the files of one mode's FLUX lie. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Parts:
    model: str  # the name that people see: a Hub name, a folder's own name, or "mini"; never a path
    shared: Path  # folder with tokenizer, tokenizer_2, text_encoder, text_encoder_2 and vae
    transformer: Path  # folder of the transformer itself
    scheduler: Path  # folder of the scheduler itself
