"""The heading of an image says when the form has other settings by now."""

from dataclasses import replace

import pytest

from flux_demo.ui.files import DrawnFrom, ShownMap
from flux_demo.ui.history import Entry
from flux_demo.ui.image_heading import heading_of
from tests.test_recipe import RECIPE

FORM = {"prompt": "a cube", "seed": "5", "steps": 20, "guidance": 3.5, "count": 3, "preset": "exact", "sample": 2}


def entry(seed=5):
    return Entry(
        "/x.png",
        replace(
            RECIPE,
            mode="text",
            prompt="a cube",
            width=64,
            height=64,
            seed=seed,
            steps=20,
            guidance=3.5,
            preset="exact",
            sample=2,
            control=None,
        ),
        "mini",
    )


@pytest.mark.parametrize(
    ("seed", "changed", "marked"),
    [
        (5, {}, False),
        (7, {}, False),  # the third of three
        (8, {}, True),
        (8, {"count": 4}, False),
        (4, {}, True),
        (9, {"seed": ""}, False),
        (None, {}, False),
        (5, {"seed": "no number"}, True),
        (5, {"prompt": "a cone"}, True),
        (5, {"steps": 21}, True),
        (5, {"guidance": 4}, True),
        (5, {"steps": None}, False),
        (5, {"size": "64x64"}, False),
        (5, {"size": "match"}, False),
        (5, {"size": "128x64"}, True),
        (5, {"size": "large"}, True),
        (5, {"preset": "compiled"}, True),
        (5, {"sample": 1}, True),
    ],
)
def test_an_image_is_marked_if_a_click_would_not_give_it_again(seed, changed, marked):
    assert ("from earlier settings" in heading_of(entry(seed), FORM | changed)) is marked


@pytest.mark.parametrize(("drawn_at", "marked"), [("64x64", True), ("match", False), (None, False)])
def test_a_size_that_is_to_match_the_photo_is_another_setting_than_a_size(drawn_at, marked):
    """Of an image from before a restart, nobody knows."""
    shown = ShownMap("/map.png", DrawnFrom(None, drawn_at, "crop", False, ()), "canny", {}, "crop", None, "0" * 64)
    assert ("from earlier settings" in heading_of(replace(entry(), shown=shown), FORM | {"size": "match"})) is marked


def test_of_a_form_that_is_not_known_nothing_is_said():
    assert "earlier" not in heading_of(entry(), {})
