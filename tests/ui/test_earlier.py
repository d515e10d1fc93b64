"""The heading of an image says when the form has other settings by now."""

import pytest

from flux_demo.recipe import Recipe
from flux_demo.ui.earlier import head_over
from flux_demo.ui.history import Entry

FORM = {"prompt": "a cube", "seed": "5", "steps": 20, "guidance": 3.5, "count": 3}


def entry(seed=5):
    return Entry(
        "/x.png",
        Recipe("1", "text", "a cube", 64, 64, seed, 20, 3.5, "mini", "mini", None, None, None, 1.0, "2026-01-01T00:00:00+00:00"),
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
    ],
)
def test_an_image_is_marked_if_a_click_would_not_give_it_again(seed, changed, marked):
    assert ("from earlier settings" in head_over(entry(seed), FORM | changed)) is marked


def test_of_a_form_that_is_not_known_nothing_is_said():
    assert "earlier" not in head_over(entry(), {})
