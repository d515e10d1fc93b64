"""What is said of a map, in words."""

import pytest
from PIL import Image, ImageDraw

from flux_demo.maps.notes import EMPTY
from flux_demo.request import ControlMap
from flux_demo.ui.map_notes import Facts, photo_note


def note(kind, image, options=(), as_map=False, looks_like=None):
    control = ControlMap(kind, image, dict(options), "crop", None)
    return photo_note(Facts(*image.size, looks_like, False), control, "crop", as_map, None)


def black_with_a_dot(grey):
    image = Image.new("RGB", (64, 64))
    ImageDraw.Draw(image).point((5, 5), (grey,) * 3)
    return image


@pytest.mark.parametrize(("options", "advice"), [({}, "raise the far clip"), ({"invert": True}, "lower the near clip")])
def test_a_nearly_black_depth_map_says_what_to_do(options, advice):
    assert f"Almost all black: {advice}." in note("depth", black_with_a_dot(255), options)
    assert "Almost all black" not in note("depth", Image.new("RGB", (64, 64), "grey"), options)


@pytest.mark.parametrize("colour", ["black", "grey", "white"])
@pytest.mark.parametrize("as_map", [True, False])
def test_a_map_of_one_colour_is_said_to_be_empty(colour, as_map):
    assert EMPTY in note("depth", Image.new("RGB", (64, 64), colour), as_map=as_map)


@pytest.mark.parametrize(
    ("kind", "colour", "looks_like", "odd"),
    [("canny", "red", None, True), ("canny", "white", "canny", False), ("depth", "red", None, True), ("depth", "grey", None, False)],
)
def test_a_ready_made_map_that_does_not_look_like_one_is_noticed(kind, colour, looks_like, odd):
    assert ("does not look like" in note(kind, Image.new("RGB", (64, 64), colour), as_map=True, looks_like=looks_like)) is odd
