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
    on_cpu: bool = False
    stream_body: bool = False  # the transformer's blocks come from main memory as they are needed
    kept: int = 0  # of its SHARES, those that stay on the device all the same
    pin_body: bool = False  # held in pinned memory; otherwise left in their files, for the system to keep in memory as it can
    stream_t5: bool = False
    modulation_on_device: bool = True
    tile_above: int | None = None  # pixels; larger pictures are decoded in tiles

    def tiles(self, pixels: int) -> bool:
        return self.tile_above is not None and pixels > self.tile_above

    @property
    def sentence(self) -> str:
        """What is where: on the page and in recipes."""
        if self.on_cpu:
            return f"{MODES_IN_WORDS[self.modes]} stay in main memory and run on the CPU."
        if self.stream_body:
            source = "from main memory" if self.pin_body else "from main memory, or from the disk where that is too small"
            kept = f"{self.kept / SHARES:.0%} of the model stays on the GPU; the rest is" if self.kept else "The model is"
            return f"{kept} streamed {source} while it runs, block by block."
        staying = MODES_IN_WORDS[self.modes]
        if self.stream_t5:
            return f"{staying} {_stay(self.modes)} on the GPU; the text encoder is streamed from main memory."
        modulation = "" if self.modulation_on_device else "; the modulation layers stay in their files"
        return f"{staying} and the text encoder stay on the GPU{modulation}."

    def sentence_for(self, pixels: int) -> str:
        """The sentence for an image of that many pixels."""
        return f"{self.sentence} The image was decoded in tiles to save memory." if self.tiles(pixels) else self.sentence

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
        return replace(self, kept=shares)


MODES_IN_WORDS = {1: "One mode", 2: "Two modes", 3: "All three modes"}


def _stay(modes: int) -> str:
    return "stays" if modes == 1 else "stay"


# From the roomiest to the tightest.
PLANS: Sequence[Plan] = (
    Plan("three", 3),
    Plan("three-lean", 3, modulation_on_device=False),
    Plan("two", 2, modulation_on_device=False),
    Plan("two-lean", 2, stream_t5=True, modulation_on_device=False),
    Plan("one", 1),
    Plan("one-lean", 1, modulation_on_device=False),
    Plan("body", 1, stream_t5=True, modulation_on_device=False),
    Plan("streamed", 1, stream_body=True, pin_body=True, stream_t5=True, modulation_on_device=False),
    Plan("mapped", 1, stream_body=True, stream_t5=True, modulation_on_device=False),
)
CPU_PLAN = Plan("cpu", 3, on_cpu=True)


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
