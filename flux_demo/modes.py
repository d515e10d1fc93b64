"""MODES: the ways of asking FLUX for a picture, as data. A new checkpoint of a known kind is one more row.

The page, the command line, the backends and the tests loop over this table and hold no list of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flux_demo.errors import InvalidRequest
from flux_demo.request import Size


@dataclass(frozen=True)
class Option:
    """One number or switch that changes how a map is drawn."""

    name: str
    label: str  # the words a person would say
    help: str  # the field's own term
    default: float | bool
    minimum: float = 0
    maximum: float = 1
    step: float = 1
    short: str | None = None  # the label where two sliders stand side by side

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)


@dataclass(frozen=True)
class Control:
    """How a photo becomes the map that a mode follows."""

    kind: str  # "canny", "depth"
    title: str  # "Edges"
    sees: str  # what the map shows, in one sentence
    options: tuple[Option, ...]

    def complete(self, options: Mapping[str, float | bool]) -> dict[str, float | bool]:
        """Fill in defaults and check each value. Raises InvalidRequest naming the option."""
        known = {option.name: option for option in self.options}
        for name in options:
            if name not in known:
                raise InvalidRequest(f"A {self.kind} map has no option {name!r}. Its options are {', '.join(known)}.")
        whole = {option.name: option.default for option in self.options}
        for name, value in options.items():
            option = known[name]
            if option.is_switch:
                if not isinstance(value, bool):
                    raise InvalidRequest(f"{name} is {value!r}, and it is a switch. Give true or false.")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not option.minimum <= value <= option.maximum:
                raise InvalidRequest(
                    f"{name} is {value!r}, which the {self.kind} map cannot use. Give a number from {option.minimum:g} to {option.maximum:g}."
                )
            whole[name] = value
        return whole


@dataclass(frozen=True)
class Mode:
    """One way of asking FLUX for a picture."""

    name: str  # in addresses, files and recipes: never changes
    title: str  # on the tab
    repo: str  # the weights on Hugging Face
    nim: str  # what NVIDIA's API calls it
    guidance: float  # the makers' default
    control: Control | None = None
    steps: int = 28
    quality_steps: int = 50


# Thresholds, guidance and steps: black-forest-labs/flux, image_embedders.py and cli_control.py; 28 is diffusers' quick default.
MODES: Mapping[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("text", "Text", "black-forest-labs/FLUX.1-dev", "base", guidance=3.5),
        Mode(
            "canny",
            "Edges",
            "black-forest-labs/FLUX.1-Canny-dev",
            "canny",
            guidance=30.0,
            control=Control(
                "canny",
                "Edges",
                "White lines where the photo's colours change",
                (
                    Option("low", "Weak edges", "Canny's lower threshold", 50, 0, 1000, 1, "weak"),
                    Option("high", "Strong edges", "Canny's upper threshold", 200, 0, 1000, 1, "strong"),
                ),
            ),
        ),
        Mode(
            "depth",
            "Depth",
            "black-forest-labs/FLUX.1-Depth-dev",
            "depth",
            guidance=10.0,
            control=Control(
                "depth",
                "Depth",
                "Bright is near, dark is far",
                (
                    Option("near", "Near", "white up to here; 0 is nearest", 0.0, 0, 1, 0.01, "near"),
                    Option("far", "Far", "black from here; 1 is farthest", 1.0, 0, 1, 0.01, "far"),
                    Option("invert", "Swap near and far", "dark is near, for maps drawn the other way round", False),
                ),
            ),
        ),
    )
}

# The shapes that the local model, NVIDIA's API and its NIM all draw, about one megapixel each; the default first.
SIZES = tuple(Size(*sides) for sides in ((1024, 1024), (1344, 768), (768, 1344), (1216, 832), (832, 1216), (1152, 896), (896, 1152)))

ESTIMATOR_REPO = "LiheYoung/depth-anything-large-hf"  # the estimator that FLUX.1-Depth-dev was made with


def find_mode(name: str) -> Mode:
    """The row of that name. Raises InvalidRequest naming the modes there are."""
    if name not in MODES:
        raise InvalidRequest(f"There is no mode {name!r}. The modes are {', '.join(MODES)}.")
    return MODES[name]
