"""How a run tells what it is doing: the phase as a value, and a sentence for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image


OnBytes = Callable[[int, int], None]
"""``on_bytes(done, total)`` while files are fetched or read. Raise Cancelled to stop."""


class Phase(StrEnum):
    """What a run is doing, in the order in which it happens."""

    QUEUED = "queued"  # other runs are ahead
    LOADING = "loading"  # models are read into memory
    ENCODING = "encoding"  # the text encoders read the prompt
    DENOISING = "denoising"
    DECODING = "decoding"  # the VAE turns latents into pixels
    WAITING = "waiting"  # for a service


@dataclass(frozen=True)
class Status:
    """The phase that a run is in, with a sentence that says so. The sentence is never read by the program."""

    phase: Phase
    text: str
    ahead: int | None = field(default=None, compare=False)  # while it waits: how many runs are before it

    def __str__(self) -> str:
        return self.text


class Step(NamedTuple):
    """A denoising step that is done."""

    done: int
    of: int
    preview: Image | None
    seconds_left: float | None = None  # where somebody counts: from the steps done so far, so not at the first


OnStep = Callable[[int, int, "Image | None"], None]
"""``on_step(done, of, preview)`` after each denoising step; the preview is a small RGB image, or None. Raise Cancelled to stop."""

OnStatus = Callable[[Status], None]
"""``on_status(status)`` when the phase or its sentence changes, and at least every 0.2 s where waiting can be stopped. Raise Cancelled to stop."""
