"""What is asked for and what a backend returns: frozen values whose fields are checked when they are built. What depends on the mode
or the route is checked by ``Studio.generate``.

Standard library only. ``PIL.Image`` is the one image type between modules, and is imported only where a value holds one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flux_demo import display
from flux_demo.errors import InvalidRequest, shortened
from flux_demo.prompts import check_prompt
from flux_demo.seeds import MAX_SEED, check_seed, random_seed
from flux_demo.texts import Number, Text, distinct_numbers

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE_STEP = 16  # pixels; the VAE divides a side by 8, the transformer's patches by 2 more
SIDES = re.compile(r"\s*(\d{1,20})(?:\s*px)?(?:\s*[x×*,]\s*|\s+)(\d{1,20})(?:\s*px)?\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Size:
    """Width and height in pixels, each a positive multiple of 16."""

    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = python_number(getattr(self, name))
            object.__setattr__(self, name, side)
            if type(side) is not int or side <= 0 or side % SIDE_STEP:
                why = "The {name} is {side}, and FLUX needs sides that are multiples of {step} pixels. {nearest}"
                raise InvalidRequest(why, name=Text(name), side=shortened(side), step=SIDE_STEP, nearest=_legal_neighbours(side))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``"1024x768"``, also with spaces, ×, * or px as people write it. Raises InvalidRequest."""
        return cls(*_sides(text, "1024x768"))


@dataclass(frozen=True)
class SizeLimits:
    """The sizes that one route can generate."""

    sides: range  # pixels, for width and height each
    max_pixels: int
    sizes: tuple[Size, ...]  # those that are offered, the default first
    heights: range | None = None  # where ``sides`` are the widths alone

    def check(self, size: Size) -> None:
        """Raise InvalidRequest, with a size that is possible, unless this one is."""
        self._size(size.width, size.height)

    def parse(self, text: str) -> Size:
        """``Size.parse``, limited to these sizes. Every error names a possible one."""
        return self._size(*_sides(text, str(self.sizes[0])))

    def nearest(self, width: int, height: int) -> Size:
        """The offered size whose shape is nearest to width : height."""
        return min(self.sizes, key=lambda size: abs(math.log(size.width / size.height) - math.log(width / height)))

    def _size(self, width: int, height: int) -> Size:
        for name, side, sides in (("width", width, self.sides), ("height", height, self.heights or self.sides)):
            if side not in sides:
                least, most, step = sides[0], sides[-1], sides.step
                why = "A {name} of {side} pixels cannot be generated here. It may be {least} to {most} in steps of {step}, for example {example}."
                raise InvalidRequest(why, name=Text(name), side=side, least=least, most=most, step=step, example=self.sizes[0])
        if (size := Size(width, height)).pixels > self.max_pixels:
            megapixels, limit = distinct_numbers(size.pixels / 1e6, self.max_pixels / 1e6, 1)
            why = "{size} is {megapixels} megapixels, and the limit here is {limit}. Choose a smaller size, for example {example}."
            raise InvalidRequest(why, size=size, megapixels=megapixels, limit=limit, example=self.sizes[0])
        return size


@dataclass(frozen=True)
class ControlMap:
    """The image that FLUX follows, RGB, exactly as large as the image to generate."""

    kind: str  # "canny" or "depth"
    image: Image = field(hash=False)  # RGB, 8 bit
    options: Mapping[str, float | bool] = field(default_factory=dict, hash=False)  # how it was drawn: {"low": 50, "high": 200}
    fit: str | None = None  # how the photo was fitted: "crop", "pad", "stretch"; None for a ready-made map
    estimator: str | None = None  # the model that estimated the depth; None for edges and ready-made maps
    notes: tuple[str, ...] = ()  # sentences for the person about how the photo became this map

    def __post_init__(self) -> None:
        from PIL.Image import Image

        if not isinstance(self.image, Image):
            raise InvalidRequest(f"The map is {shortened(self.image)}, and not a PIL image. Draw it with Studio.preview or Studio.as_map.")
        if self.image.mode != "RGB":
            raise InvalidRequest(f"The map's mode is {self.image.mode}, and FLUX follows RGB. Convert it to RGB first.")
        Size(*self.image.size)

    @property
    def size(self) -> Size:
        return Size(*self.image.size)

    @property
    def is_empty(self) -> bool:
        """Whether every pixel has the same colour, so that there is nothing to follow."""
        return self.image.getcolors(1) is not None

    @property
    def sha256(self) -> str:
        """Hash of the map's RGB bytes, row by row: the map's name in a recipe."""
        return hashlib.sha256(self.image.tobytes()).hexdigest()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return display.png(self.image)

    def _repr_html_(self) -> str:
        facts = {
            "options": dict(self.options),
            "fit": self.fit,
            "estimator": self.estimator,
            "sha256": self.sha256,
            "notes": list(self.notes),
        }
        return display.figure(self._repr_png_(), f"{self.kind} map, {self.size}", "How it was drawn", facts)


@dataclass(frozen=True)
class GenerationRequest:
    """One image to generate. What is left out (None) takes the route's default; a seed that is left out is random."""

    mode: str  # "text", "canny", "depth"
    prompt: str  # 1 to 10,000 characters of any script
    seed: int | None = None  # 0 to 4294967295
    steps: int | None = None
    guidance: float | None = None
    size: Size | None = None  # with a map always the map's size
    control: ControlMap | None = None
    sample: int | None = None  # 0 to 3: one of NVIDIA's own sample images in place of a map, on the hosted API only
    preset: str | None = None  # a row of engine.presets

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        for name in ("seed", "steps", "guidance"):
            object.__setattr__(self, name, python_number(getattr(self, name)))
        if self.seed is not None:
            check_seed(self.seed)
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise InvalidRequest("{value} is not a valid number of steps. Give a whole number, 1 or more.", value=shortened(self.steps))
        if self.guidance is not None and not _is_finite(self.guidance):
            raise InvalidRequest("{value} is not a valid guidance. Give a number, for example 3.5.", value=shortened(self.guidance))
        if not isinstance(self.preset, str | None):
            raise InvalidRequest(f"{shortened(self.preset)} is not a preset. Give its name as text, or leave it out.")
        if isinstance(self.size, str):
            object.__setattr__(self, "size", Size.parse(self.size))
        elif not isinstance(self.size, Size | None):
            raise InvalidRequest(f"{shortened(self.size)} is not a size. Give Size(1024, 768), or 1024x768 as text.")
        if not isinstance(self.control, ControlMap | None):
            raise InvalidRequest("What the request would follow is not a map. Draw it with Studio.preview or Studio.as_map.")
        if self.control is not None:
            if self.size is None:
                object.__setattr__(self, "size", self.control.size)
            elif self.size != self.control.size:
                why = "The map is {map} and the image would be {image}. Ask for the map's size, or draw the map again."
                raise InvalidRequest(why, map=self.control.size, image=self.size)


@dataclass(frozen=True)
class Dials:
    """The values that a route accepts, and its defaults."""

    steps: int
    guidance: float
    step_range: range
    guidance_range: tuple[float, float]
    size_limits: SizeLimits
    guidance_open: bool = False  # True: the lower end of guidance_range is not itself allowed
    first_seed: int = 0
    quality_steps: int | None = None  # what the model's makers use for best quality
    own_photos: bool = True  # False: only the service's own sample images can be followed
    sample_pictures: int = 0  # how many sample images the service has
    can_stop: bool = True  # False: a request cannot be cancelled once it has been sent
    presets: tuple[str, ...] = ()  # rows of engine.presets, the default first
    unusable_presets: Mapping[str, str] = field(default_factory=dict)  # those that cannot be used, with the sentences that say why

    def complete(self, request: GenerationRequest) -> GenerationRequest:
        """Fill in what was left out and check the whole against these dials. Raises InvalidRequest naming the dial."""
        whole = replace(
            request,
            seed=random_seed() if request.seed is None else request.seed,
            steps=self.steps if request.steps is None else request.steps,
            guidance=self.guidance if request.guidance is None else request.guidance,
            size=self.size_limits.sizes[0] if request.size is None else request.size,
            preset=(self.presets[0] if self.presets else None) if request.preset is None else request.preset,
        )
        self.check(whole)
        return whole

    def check(self, request: GenerationRequest) -> None:
        """Raise InvalidRequest naming the first value of a complete request that is out of range."""
        assert request.size and request.steps and request.guidance is not None and request.seed is not None
        self.size_limits.check(request.size)
        if request.steps not in self.step_range:
            why = "{steps} steps cannot be run here. Ask for {least} to {most} steps."
            raise InvalidRequest(why, steps=shortened(request.steps), least=self.step_range[0], most=self.step_range[-1])
        low, high = self.guidance_range
        if not low <= request.guidance <= high or (self.guidance_open and request.guidance == low):
            why = "A guidance of {guidance} cannot be used here. Ask for a value from {low} to {high}."
            if self.guidance_open:
                why = "A guidance of {guidance} cannot be used here. Ask for a value above {low} and at most {high}."
            raise InvalidRequest(why, guidance=Number(shortened(request.guidance)), low=Number(f"{low:g}"), high=Number(f"{high:g}"))
        if request.seed < self.first_seed:
            why = "Seed {seed} means a random seed on this service. Give a seed from {first} to {last}, or none."
            raise InvalidRequest(why, seed=request.seed, first=self.first_seed, last=MAX_SEED)
        if request.preset is not None and request.preset in self.unusable_presets:
            raise InvalidRequest(self.unusable_presets[request.preset])
        if request.preset is not None and request.preset not in self.presets:
            known = ", ".join(self.presets) or "none, the service decides"
            raise InvalidRequest(f"{shortened(request.preset)} is not a preset here. Presets of this backend: {known}.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ranges as first, last and step; sizes as text."""
        limits = self.size_limits
        return {
            "steps": self.steps,
            "quality_steps": self.quality_steps,
            "step_range": [self.step_range[0], self.step_range[-1]],
            "guidance": self.guidance,
            "guidance_range": list(self.guidance_range),
            "guidance_open": self.guidance_open,
            "sizes": [str(size) for size in limits.sizes],
            "sides": [limits.sides[0], limits.sides[-1], limits.sides.step],
            **({"heights": [limits.heights[0], limits.heights[-1], limits.heights.step]} if limits.heights else {}),
            "max_pixels": limits.max_pixels,
            "seed_range": [self.first_seed, MAX_SEED],
            "own_photos": self.own_photos,
            "sample_pictures": self.sample_pictures,
            "can_stop": self.can_stop,
            "presets": list(self.presets),
        }


@dataclass(frozen=True)
class BackendOutput:
    """What a backend made of a request, and how. The gallery turns it into a GeneratedImage."""

    image: Image  # RGB, the request's size
    model: str  # a Hub name, "mini", or the service's name for it; never a path
    preset: str | None = None
    plan: str | None = None  # how memory was used, in one sentence
    libraries: Mapping[str, str] = field(default_factory=dict)  # {"torch": "2.13.0"}
    safety: str | None = None  # which content filter checked it, and its verdict
    seed: int | None = None  # the seed that a service says it used; None: the request's
    notes: tuple[str, ...] = ()  # sentences for the person about this run
    unused: tuple[str, ...] = ()  # of "guidance", "seed", "steps": those that the service is not known to have used


def python_number(value: Any) -> Any:
    """A NumPy or torch number as a Python number, which can be checked and written as JSON; anything else unchanged."""
    return value.item() if getattr(value, "shape", None) == () else value


def _legal_neighbours(side: Any) -> str:
    if type(side) is not int or side <= 0:
        return Text("Give a positive number, for example 1024.")
    below, above = side // SIDE_STEP * SIDE_STEP, -(-side // SIDE_STEP) * SIDE_STEP
    nearest = Text("The nearest are {below} and {above}.", below=below, above=above)
    return nearest if below else Text("The nearest is {above}.", above=above)


def _sides(text: Any, example: str) -> tuple[int, int]:
    """Width and height in a text. Raises InvalidRequest."""
    if not (found := SIDES.fullmatch(str(text))):
        why = "The size {size} cannot be read. Write it as WIDTHxHEIGHT, for example {example}."
        raise InvalidRequest(why, size=shortened(text), example=example)
    return int(found[1]), int(found[2])


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False
