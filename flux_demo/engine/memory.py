"""What fits where: arithmetic only, from the memory that is free to a plan with its reason.

A run has three phases: reading the prompt (T5), taking the noise away (the transformer), and seeing the picture (the VAE). A plan says
what is on the device in each. No plan changes the picture, but decoding in tiles does, a little; it is taken only where a large picture would not fit
otherwise, and said.

The sizes are those of FLUX.1 in bfloat16, reckoned from its configuration; what a run needs beside the weights is taken from published
peaks, and is more than its tensors alone, which ``benchmarks/memory.py`` counts: kernels want room of their own. All are estimates
until they have been measured on each card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

GIB = 2**30
MEGAPIXEL = 1024 * 1024

# Weights, GiB
BODY = 16.12  # the transformer without its modulation
MODULATION = 6.05
T5 = 8.87
BODY_PINNED = 27.5  # in main memory: torch gives pinned weights room in powers of two
SHARES = 19  # the body's blocks are shared out in so many equal parts, each a double block and two single ones
SMALL = 0.5  # CLIP, VAE, and the transformer's layers that run once per picture

# What a run needs beside them, GiB; the first two for each megapixel of the picture
DENOISING = 1.1
DECODING = 4.7
DECODING_TILED = 1.5  # whatever the size
STREAMED_BODY = 1.0  # the blocks in flight: one at work, one coming
STREAMED_T5 = 1.2
READING = 0.3  # T5's own work
RESERVE = 0.5  # fragments, and the display
MAIN_MEMORY = 3.0  # Python, torch and the CUDA libraries


@dataclass(frozen=True)
class Plan:
    """Where each part of FLUX is while a picture is made."""

    name: str
    modes: int  # how many modes' transformers stay on the device
    sentence: str  # what is where: on the page and in recipes
    stream_body: bool = False  # the transformer's blocks come from main memory as they are needed
    kept: int = 0  # of its SHARES, those that stay on the device all the same
    pin_body: bool = False  # held in pinned memory; otherwise left in their files, for the system to keep in memory as it can
    stream_t5: bool = False
    modulation_on_device: bool = True
    tile_above: int | None = None  # pixels; larger pictures are decoded in tiles

    def tiles(self, pixels: int) -> bool:
        return self.tile_above is not None and pixels > self.tile_above

    def say(self, pixels: int) -> str:
        """The sentence for a picture of that many pixels."""
        return f"{self.sentence} The picture is too large for the rest and was decoded in tiles." if self.tiles(pixels) else self.sentence

    @property
    def device_bytes(self) -> int:
        """Weights that stay on the device."""
        body = BODY * self.kept / SHARES if self.stream_body else self.modes * (BODY + self.modulation_on_device * MODULATION)
        return _bytes(SMALL + body + (0 if self.stream_t5 else T5))

    def work_bytes(self, tiled: bool = False) -> int:
        """The most that a picture of one megapixel needs beside them."""
        reading = STREAMED_T5 if self.stream_t5 else READING
        return _bytes(max(reading, DENOISING + self.stream_body * STREAMED_BODY, DECODING_TILED if tiled else DECODING))

    def needs(self, tiled: bool = False) -> int:
        """Free bytes on the device that it takes."""
        return self.device_bytes + self.work_bytes(tiled) + _bytes(RESERVE)

    @property
    def memory_bytes(self) -> int:
        """Main memory that it needs. Weights on the device are read past it, and others stay in their files until they are wanted."""
        return _bytes(MAIN_MEMORY + self.pin_body * BODY_PINNED * (1 - self.kept / SHARES) + self.stream_t5 * T5)

    def keeping(self, shares: int) -> Plan:
        """The plan with so many shares of the streamed body on the device."""
        rest = self.sentence.replace("The model is", f"{shares / SHARES:.0%} of the model stays on the GPU; the rest is", 1)
        return replace(self, kept=shares, sentence=rest) if shares else self


# From the roomiest to the tightest.
PLANS: Sequence[Plan] = (
    Plan("three", 3, "All three modes and the text encoder stay on the GPU."),
    Plan(
        "three-lean",
        3,
        "All three modes and the text encoder stay on the GPU; the modulation waits in its files.",
        modulation_on_device=False,
    ),
    Plan("two", 2, "Two modes and the text encoder stay on the GPU; the modulation waits in its files.", modulation_on_device=False),
    Plan(
        "two-lean",
        2,
        "Two modes stay on the GPU; the text encoder is streamed from main memory.",
        stream_t5=True,
        modulation_on_device=False,
    ),
    Plan("one", 1, "One mode and the text encoder stay on the GPU."),
    Plan("one-lean", 1, "One mode and the text encoder stay on the GPU; the modulation waits in its files.", modulation_on_device=False),
    Plan(
        "body", 1, "One mode stays on the GPU; the text encoder is streamed from main memory.", stream_t5=True, modulation_on_device=False
    ),
    Plan(
        "streamed",
        1,
        "The model is streamed from main memory while it works, block by block.",
        stream_body=True,
        pin_body=True,
        stream_t5=True,
        modulation_on_device=False,
    ),
    Plan(
        "mapped",
        1,
        "The model is streamed block by block while it works; what main memory cannot hold is read from the disk each time.",
        stream_body=True,
        stream_t5=True,
        modulation_on_device=False,
    ),
)
CPU_PLAN = Plan("cpu", 3, "All three modes stay in main memory and run on the CPU.")


def plan(free_bytes: int, memory_bytes: int, below: Plan | None = None) -> Plan | None:
    """The roomiest plan for a GPU with so much free memory in a machine with so much main memory (0: unknown); None if none fits.

    ``below`` is a plan that was tried and did not fit: only tighter ones are taken.
    """
    for row in PLANS:
        for shares in sorted({_shares(row, free_bytes, memory_bytes), 0}, reverse=True):
            candidate = row.keeping(shares)
            fits_main_memory = not memory_bytes or candidate.memory_bytes <= memory_bytes
            fits = fits_main_memory and free_bytes >= candidate.needs(tiled=candidate.stream_body)
            if fits and (below is None or candidate.needs() < below.needs()):
                room = free_bytes - candidate.device_bytes - _bytes(RESERVE)
                return replace(candidate, tile_above=int(room / _bytes(DECODING) * MEGAPIXEL))
    return None


def _shares(row: Plan, free_bytes: int, memory_bytes: int) -> int:
    """How much of a streamed body is worth keeping on the device, where a picture of a megapixel must still be decoded whole.

    Copies from pinned memory are hidden behind the work, so there it is the little that main memory is short of, if that helps; where
    files are read again at every step, all that there is room for.
    """
    if not row.stream_body:
        return 0
    most = max(0, min(SHARES - 1, int((free_bytes - row.needs()) / _bytes(BODY / SHARES))))
    if not row.pin_body:
        return most
    short = max(0, row.memory_bytes - memory_bytes) if memory_bytes else 0
    fewest = ceil(short / _bytes(BODY_PINNED / SHARES))
    return fewest if fewest <= most else 0


def why_none(free_bytes: int, memory_bytes: int) -> str:
    """What is too small, in words, where ``plan`` found nothing."""
    least = PLANS[-1].needs(tiled=True)
    if free_bytes < least:
        return f"{_gb(free_bytes)} of GPU memory are free, and FLUX needs at least {_gb(least)}. Close other programs that use the GPU."
    wanted = min(row.memory_bytes for row in PLANS if free_bytes >= row.needs(tiled=row.stream_body))
    return (
        f"This GPU needs {_gb(wanted)} of main memory to stream FLUX from, and the machine has {_gb(memory_bytes)}. "
        "Use a machine with more memory, or another backend."
    )


def _bytes(gib: float) -> int:
    return int(gib * GIB)


def _gb(count: int) -> str:
    return f"{count / 1e9:.0f} GB"
