"""Model files from the Hugging Face Hub: whether they are here, how many bytes are missing, fetching them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """What a fetch would bring."""

    name: str
    bytes_total: int
    bytes_left: int
    files: int  # that are still missing


def local_folder(name: str, patterns: Sequence[str]) -> Path | None:
    """A folder that the person named, or the Hub's model of that name if it lies whole in the cache. Never asks the network."""
    given = Path(name).expanduser()
    if given.is_dir():
        return given
    return None
