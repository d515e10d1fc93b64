"""How a message names a value."""

import re

import pytest

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.modes import find_mode


@pytest.mark.parametrize(
    "value",
    [
        "a" * 100,
        "it's " * 30,
        '"' * 50 + "'",
        "\0" * 50,
        "\ud800" * 60,
        ["a" * 100] * 9,
        {"a" * 50: "b" * 60, "c": 1},
        ("x" * 39,),
        [10**60] * 3,
        b"x" * 90,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_long_value_is_named_in_forty_characters_and_nothing_stays_open(value):
    text = shortened(value)
    assert len(text) <= 40 and "..." in text
    without = re.sub(r"""(['"])(\\.|(?!\1).)*\1""", "", text)  # what stands in quotation marks
    assert not {"'", '"'} & set(without) and all(without.count(left) == without.count(right) for left, right in ("[]", "{}", "()"))


def test_a_value_that_fails_to_say_what_it_is_spoils_no_message():
    class Broken:
        def __repr__(self):
            raise AttributeError("half built")

    assert shortened(Broken()) == shortened([Broken()]) == "This value"
    with pytest.raises(InvalidRequest, match=r"^This value is not a mode\."):
        find_mode(Broken())


@pytest.mark.parametrize("value", ["a" * 38, 5, None, [1, 2], {"a": 1}, 1.5])
def test_a_short_value_is_named_as_it_is(value):
    assert shortened(value) == repr(value)
