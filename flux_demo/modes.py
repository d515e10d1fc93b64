"""MODES: the ways of asking FLUX for an image, as data. A new checkpoint of a known kind is one more row.

The page, the command line, the settings, the backends and the tests loop over this table and hold no list of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.request import Size, SizeLimits, python_number
from flux_demo.texts import Number


@dataclass(frozen=True)
class Option:
    """One number or switch that changes how a map is drawn."""

    name: str
    label: str  # the field's own term
    help: str  # what it does, in plain words
    default: float | bool
    minimum: float = 0
    maximum: float = 1
    step: float = 1

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)


@dataclass(frozen=True)
class Control:
    """How a photo becomes the map that a mode follows."""

    kind: str  # in recipes: never changes
    title: str  # "Edge map"
    sees: str  # what the map shows, in one sentence
    draw: str  # "module:function" that draws it; a name, because what it imports is slow to load
    options: tuple[Option, ...]  # keyword arguments of that function
    min_gap: float = 0  # the least difference between its two numbers
    needs_estimator: bool = False  # whether the function takes a depth estimator after the photo

    @property
    def bounds(self) -> tuple[Option, Option]:
        """Its two numbers, the lower one first."""
        lower, upper = (option for option in self.options if not option.is_switch)
        return lower, upper

    def crosses(self, options: Mapping[str, float | bool]) -> bool:
        """Whether the lower number is above the upper one, or too near to it."""
        low, high = (options.get(option.name, option.default) for option in self.bounds)
        return high - low < self.min_gap - 1e-9  # 0.06 - 0.05 is a little less than 0.01

    def complete(self, options: Mapping[str, float | bool]) -> dict[str, float | bool]:
        """Fill in defaults and check all values. Raises InvalidRequest naming the option."""
        known = {option.name: option for option in self.options}
        for name in options:
            if name not in known:
                raise InvalidRequest(f"A {self.kind} map has no option {shortened(name)}. Its options are {', '.join(known)}.")
        whole = {option.name: option.default for option in self.options}
        for name, value in options.items():
            option, value = known[name], python_number(value)
            if option.is_switch:
                if not isinstance(value, bool):
                    raise InvalidRequest("{name} is {value}, and it is a switch. Give true or false.", name=name, value=shortened(value))
            elif isinstance(value, bool) or not isinstance(value, int | float) or not option.minimum <= value <= option.maximum:
                why = "{name} is {value}, which the {kind} map cannot use. Give a number from {least} to {most}."
                least, most = f"{option.minimum:g}", f"{option.maximum:g}"
                raise InvalidRequest(why, name=name, value=shortened(value), kind=self.kind, least=least, most=most)
            whole[name] = value
        if self.crosses(whole):
            why = "With {lower} at {low}, {upper} must be at least {least}, and it is {high}. Change one of the two."
            lower, upper = (option.name for option in self.bounds)
            low, high = whole[lower], whole[upper]
            numbers = {name: Number(f"{value:.9g}") for name, value in (("low", low), ("high", high), ("least", low + self.min_gap))}
            raise InvalidRequest(why, lower=lower, upper=upper, **numbers)
        return whole


@dataclass(frozen=True)
class Mode:
    """One way of asking FLUX for an image."""

    name: str  # in addresses, files and recipes: never changes
    title: str  # on the tab
    repo: str  # the weights on Hugging Face
    nim: str  # what NVIDIA's API calls it
    guidance: float  # the makers' default
    control: Control | None = None
    lora: str | None = None  # a control LoRA for the text mode's model, in place of weights of its own
    steps: int = 28
    quality_steps: int = 50

    @property
    def model_variable(self) -> str:
        """The environment variable that names other weights for it."""
        return f"FLUX_DEMO_{self.name.upper()}_MODEL"


EDGES = Control(
    "canny",
    "Edge map",
    "White lines where the photo's colours change.",
    "flux_demo.maps.canny:draw",
    (
        Option("low", "Low threshold", "lower keeps fainter lines", 50, 0, 1000, 1),
        Option("high", "High threshold", "lower starts more lines", 200, 0, 1000, 1),
    ),
)
DEPTH = Control(
    "depth",
    "Depth map",
    "Bright is near, dark is far.",
    "flux_demo.maps.depth:draw",
    (
        Option("near", "Near clip", "closer turns white", 0.0, 0, 1, 0.01),
        Option("far", "Far clip", "farther turns black", 1.0, 0, 1, 0.01),
        Option("invert", "Invert depth", "dark is near", False),
    ),
    min_gap=0.01,
    needs_estimator=True,
)

# Thresholds, guidance and steps: black-forest-labs/flux, image_embedders.py and cli_control.py; 28 is diffusers' quick default.
MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("text", "Text", "black-forest-labs/FLUX.1-dev", "base", guidance=3.5),
        Mode(
            "canny",
            "Canny",
            "black-forest-labs/FLUX.1-Canny-dev",
            "canny",
            guidance=30.0,
            control=EDGES,
            lora="black-forest-labs/FLUX.1-Canny-dev-lora",
        ),
        Mode(
            "depth",
            "Depth",
            "black-forest-labs/FLUX.1-Depth-dev",
            "depth",
            guidance=10.0,
            control=DEPTH,
            lora="black-forest-labs/FLUX.1-Depth-dev-lora",
        ),
    )
}

# Sizes that FLUX on this machine, NVIDIA's API and its NIM all generate, about one megapixel each; the default first.
DEFAULT_SIZES = tuple(
    Size(*sides) for sides in ((1024, 1024), (1344, 768), (768, 1344), (1216, 832), (832, 1216), (1152, 896), (896, 1152))
)

MATCH = "match"  # the size that is nearest to the photo's shape
ESTIMATOR_REPO = "LiheYoung/depth-anything-large-hf"  # the estimator that FLUX.1-Depth-dev was made with
MAP_LIMITS = SizeLimits(range(64, 2049, 16), 4_200_000, DEFAULT_SIZES)  # of maps alone: what a route can generate is narrower


def find_mode(name: str) -> Mode:
    """The row of that name. Raises InvalidRequest naming the modes there are."""
    if not isinstance(name, str) or name not in MODES:
        raise InvalidRequest(f"{shortened(name)} is not a mode. The modes are {', '.join(MODES)}.")
    return MODES[name]
