"""What fits where: arithmetic only, from the memory that is free to a plan.

A run has three phases: encoding the prompt (T5), denoising (the transformer), and decoding (the VAE). A plan says what is on the device in
each. Plans for a GPU do not change the image, except that the VAE does, a little, where it works in tiles: only where a large image would not fit
otherwise, and the person is told.

The weights' sizes are those of the files that are loaded; FLUX is FLUX.1 in bfloat16. What a run needs beside the weights is taken from published
peaks, and is more than its tensors alone, which ``benchmarks/memory.py`` counts: kernels need workspace too. All are estimates
until they have been measured on each card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flux_demo.texts import distinct_numbers

GIB = 2**30
MEGAPIXEL = 1024 * 1024

MODES_IN_WORDS = {1: "One mode", 2: "Two modes", 3: "All three modes"}
SHARES = 19  # equal parts of a streamed body's blocks; FLUX.1's are a double block and two single ones each


@dataclass(frozen=True)
class WeightSizes:
    """What the weights of one mode take once they are loaded, GiB."""

    body: float  # the transformer without its modulation
    modulation: float
    t5: float
    small: float  # CLIP and VAE
    pinned: float  # the body in pinned memory, where torch rounds each block up to a power of two
    kind: str = "BF16"  # the type that most of the transformer is stored in
    quantised: bool = False  # its layers unpack their weights each time they are used
    in_files: bool = True  # what stays in main memory can be left in its files

    @property
    def transformer(self) -> float:
        return self.body + self.modulation


BODY, MODULATION, T5 = 16.12, 6.05, 8.87
FLUX = WeightSizes(BODY, MODULATION, T5, small=0.5, pinned=19.0)

# What a run needs beside them, GiB; the first two for each megapixel of the image
DENOISING = 1.1
DECODING = 4.7
DECODING_TILED = 1.5  # whatever the size
TILE = 512  # pixels; the VAE's own tiles are 1024, which saves nothing for an image of 1024
ALL_SCORES = 4.5  # of one attention at 1024x1024, in float32, twice: where there is no fused attention
STREAMED_BODY = 1.0  # the blocks in flight: one at work, one coming
STREAMED_T5 = 1.2
ENCODING = 0.3  # T5's own work
COMPILING = 0.45  # a double block's weights once more, beside a run, where none of its kind stays
RESERVE = 0.5  # fragments, and the display
DEQUANTISING = 0.5  # one layer, unpacked
MAIN_MEMORY = 3.0  # Python, torch and the CUDA libraries
ON_CPU = 6.0  # a run on the CPU, decoding included


@dataclass(frozen=True)
class Plan:
    """Where each part of FLUX is while an image is generated."""

    name: str
    modes: int  # how many modes' transformers stay on the device
    on_cpu: bool = False
    sizes: WeightSizes = FLUX
    precision: str | None = None  # on the CPU: what it computes in
    stream_body: bool = False  # the transformer's blocks come from main memory as they are needed
    kept_shares: int = 0  # of its SHARES, those that stay on the device all the same
    pin_body: bool = False  # held in pinned memory; otherwise left in their files, for the system to keep in memory as it can
    pin_blocks: bool = True  # what is not held in pinned memory is pinned on its way to the device, block by block
    stream_t5: bool = False
    modulation_on_device: bool = True
    fused_attention: bool = True  # False on a card without units for bfloat16; its convolutions need more too, so it decodes in tiles only
    tile_above: int | None = None  # pixels; larger images are decoded, and their maps encoded, in tiles
    card: str | None = None  # the GPU's name, where there are several

    def tiles(self, pixels: int) -> bool:
        return self.tile_above is not None and pixels > self.tile_above

    @property
    def sentence(self) -> str:
        """What is where: on the page and in recipes."""
        which = f" Of several GPUs it runs on the {self.card}, which had the most free memory." if self.card else ""
        slow = "" if self.pin_blocks or not self.stream_t5 else " No main memory can be pinned here, so streaming is slower."
        return f"{self._placement}{slow}{which}"

    @property
    def without_pinning(self) -> Plan:
        """The plan where no main memory can be pinned."""
        return replace(self, pin_body=False, pin_blocks=False)

    @property
    def _placement(self) -> str:
        modes = f"{MODES_IN_WORDS[self.modes]} ({self.sizes.kind})" if self.sizes.quantised else MODES_IN_WORDS[self.modes]
        if self.on_cpu:
            slow = f" in {self.precision}: minutes per image at full size" if self.precision else ""
            return f"{modes} {_stay(self.modes)} in main memory and {_run(self.modes)} on the CPU{slow}."
        if self.stream_body:
            source = "from main memory" if self.pin_body else "from main memory, or from the disk if that is too small"
            model = f"the model ({self.sizes.kind})" if self.sizes.quantised else "the model"
            whole = model.replace("the", "The", 1)
            kept = f"{self.kept_shares / SHARES:.0%} of {model} stays on the GPU; the rest is" if self.kept_shares else f"{whole} is"
            return f"{kept} streamed block by block while it runs, {source}."
        if self.stream_t5:
            return f"{modes} {_stay(self.modes)} on the GPU; the text encoder is streamed from main memory."
        modulation = "" if self.modulation_on_device else "; the modulation layers stay in their files"
        return f"{modes} and the text encoder stay on the GPU{modulation}."

    def sentence_for(self, pixels: int, *, follows_map: bool = False) -> str:
        """The sentence for an image of that many pixels."""
        if not self.tiles(pixels):
            return self.sentence
        also = "The map was encoded, and the image decoded," if follows_map else "The image was decoded"
        return f"{self.sentence} {also} in tiles to save memory."

    @property
    def device_bytes(self) -> int:
        """Weights that stay on the device."""
        sizes, modulation = self.sizes, self.modulation_on_device * self.sizes.modulation
        body = sizes.body * self.kept_shares / SHARES if self.stream_body else self.modes * (sizes.body + modulation)
        return _bytes(sizes.small + body + (0 if self.stream_t5 else sizes.t5))

    def work_bytes(self, tiled: bool = False) -> int:
        """The most that an image of one megapixel needs beside them."""
        encoding = STREAMED_T5 if self.stream_t5 else ENCODING
        denoising = DENOISING + self.stream_body * STREAMED_BODY + self.sizes.quantised * DEQUANTISING + self.compiling_gib
        denoising += (not self.fused_attention) * ALL_SCORES
        return _bytes(max(encoding, denoising, DECODING_TILED if tiled else DECODING))

    @property
    def compiling_gib(self) -> float:
        """GiB that the preset ``compiled`` may need while it compiles. A quantised model cannot be compiled."""
        return COMPILING if self.stream_body and not self.kept_shares and not self.sizes.quantised else 0

    def needs(self, tiled: bool = False) -> int:
        """Free bytes on the device that it takes."""
        return self.device_bytes + self.work_bytes(tiled) + _bytes(RESERVE)

    @property
    def memory_bytes(self) -> int:
        """Main memory that it needs. Weights on the device are read past it, and others stay in their files until they are wanted, if they can."""
        sizes = self.sizes
        if self.on_cpu:
            return _bytes(ON_CPU + self.modes * sizes.transformer + sizes.t5 + sizes.small)
        streamed = self.stream_body * (1 - self.kept_shares / SHARES)
        body = streamed * (sizes.pinned if self.pin_body else 0 if sizes.in_files else sizes.body)
        modulation = 0 if self.modulation_on_device or sizes.in_files else self.modes * sizes.modulation
        return _bytes(MAIN_MEMORY + body + modulation + self.stream_t5 * sizes.t5)

    def with_kept_shares(self, shares: int) -> Plan:
        """The plan with so many shares of the streamed body on the device."""
        return replace(self, kept_shares=shares)


def _stay(modes: int) -> str:
    return "stays" if modes == 1 else "stay"


def _run(modes: int) -> str:
    return "runs" if modes == 1 else "run"


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


def plan(
    free_bytes: int,
    memory_bytes: int,
    below: Plan | None = None,
    *,
    sizes: WeightSizes = FLUX,
    pinnable_bytes: int | None = None,
    shared: bool = False,
    fused_attention: bool = True,
) -> Plan | None:
    """The roomiest plan for a GPU with so much free memory in a machine with so much main memory (0: unknown); None if none fits.

    ``below`` is a plan that was tried and did not fit: only tighter ones are taken. ``pinnable_bytes``: main memory that may be pinned, if not all;
    0 where nothing can be pinned, as on WSL2. ``shared``: both memories are one, so what is taken of the one is missing in the other.
    ``fused_attention``: see Plan; without it, a plan may have room only for images of less than a megapixel.
    """
    for row, tiled in _in_order(sizes, fused_attention):
        row = replace(row, sizes=sizes, pin_blocks=pinnable_bytes != 0, fused_attention=fused_attention)
        free = free_bytes - shared * row.memory_bytes
        most = _shares(row, free)
        if below is not None:  # a step that is worth loading again for
            most = min(most, below.kept_shares // 2 if below.stream_body else SHARES // 2)
        for shares in sorted({most, 0}, reverse=True):
            candidate = row.with_kept_shares(shares)
            main_memory = (
                memory_bytes if pinnable_bytes is None or not row.pin_body else min(memory_bytes or pinnable_bytes, pinnable_bytes)
            )
            known = memory_bytes or (row.pin_body and pinnable_bytes is not None)
            fits_main_memory = not known or candidate.memory_bytes <= main_memory
            fits = fits_main_memory and free >= candidate.needs(tiled=tiled)
            if fits and (below is None or candidate.needs(tiled) < below.needs(tiled)):
                room = free - candidate.device_bytes - _bytes(RESERVE + candidate.compiling_gib)
                return replace(candidate, tile_above=int(room / _bytes(DECODING) * MEGAPIXEL) if fused_attention else TILE * TILE)
    if fused_attention:
        return None
    # Smaller images may still fit, beside as little as can be.
    least = replace(PLANS[-1], sizes=sizes, kept_shares=1)
    above = below if below and below.stream_body and not below.kept_shares else least
    found = plan(free_bytes, memory_bytes, replace(above, fused_attention=True), sizes=sizes, pinnable_bytes=pinnable_bytes, shared=shared)
    return found and replace(found, fused_attention=False, tile_above=TILE * TILE)


def cpu_plan(memory_bytes: int, sizes: WeightSizes, precision: str) -> Plan | None:
    """As many modes as main memory (0: unknown) has room for; None if it has none."""
    plans = [Plan("cpu", modes, on_cpu=True, sizes=sizes, precision=precision) for modes in (3, 2, 1)]
    return next((each for each in plans if not memory_bytes or each.memory_bytes <= memory_bytes), None)


def _in_order(sizes: WeightSizes, fused_attention: bool) -> Sequence[tuple[Plan, bool]]:
    """The rows, and whether each may be taken where an image of a megapixel must be decoded in tiles. A quantised model is kept on the
    device, and decoded in tiles, rather than streamed.
    """
    if not fused_attention:
        return [(row, True) for row in PLANS]
    resident = [row for row in PLANS if not row.stream_body]
    tiled = [(row, True) for row in resident if row.modes == 1] if sizes.quantised else []
    return [*((row, False) for row in resident), *tiled, *((row, True) for row in PLANS if row.stream_body)]


def _shares(row: Plan, free_bytes: int) -> int:
    """How much of a streamed body stays on the device: all that fits beside an image of a megapixel, decoded whole unless the model is
    quantised.
    """
    if not row.stream_body:
        return 0
    room = free_bytes - row.needs(tiled=row.sizes.quantised or not row.fused_attention)
    return max(0, min(SHARES - 1, int(room / _bytes(row.sizes.body / SHARES))))


def why_none(free_bytes: int, memory_bytes: int, sizes: WeightSizes = FLUX, *, shared: bool = False) -> str:
    """What is too small, in words, where ``plan`` found nothing."""
    rows = [replace(row, sizes=sizes) for row in PLANS]
    if shared:
        least = min(row.needs(tiled=True) + row.memory_bytes for row in rows)
        free, needed = _in_gb(free_bytes, least)
        return (
            f"GPU and processor share their memory here: {free} of it is free, and FLUX needs at least {needed}. "
            "Close other programs, or use another backend."
        )
    least = rows[-1].needs(tiled=True)
    if free_bytes < least:
        free, needed = _in_gb(free_bytes, least)
        return f"{free} of GPU memory is free, and FLUX needs at least {needed}. Close other programs that use the GPU."
    wanted = min(row.memory_bytes for row in rows if free_bytes >= row.needs(tiled=row.stream_body))
    needed, there = _in_gb(wanted, memory_bytes)
    return (
        f"This GPU needs {needed} of main memory to stream FLUX from, and the machine has {there}. "
        "Use a machine with more memory, or another backend."
    )


def why_none_on_cpu(memory_bytes: int, sizes: WeightSizes) -> str:
    """The same for the CPU."""
    needed, there = _in_gb(Plan("cpu", 1, on_cpu=True, sizes=sizes).memory_bytes, memory_bytes)
    return (
        f"On the CPU this model needs {needed} of main memory, and the machine has {there}. "
        "Use a smaller GGUF file, or a machine with more memory."
    )


def _bytes(gib: float) -> int:
    return int(gib * GIB)


def _in_gb(count: int, other: int) -> tuple[str, ...]:
    return tuple(f"{number} GB" for number in distinct_numbers(count / 1e9, other / 1e9, 0))
