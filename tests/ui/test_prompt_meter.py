"""How long a prompt is, said below it."""

from flux_demo.modes import MODES
from flux_demo.ui.prompt_meter import measure


def test_what_the_model_does_not_read_is_counted_and_named(studio):
    said = [measure(studio, MODES["text"], " ".join(["red"] * words)) for words in range(60, 67)]
    first = next(number for number, each in enumerate(said) if "ignored" in each)
    assert said[first - 1 : first + 2] == [
        "64 of 64 tokens",
        "64 of 64 tokens: the last one is ignored, “red”",
        "64 of 64 tokens: the last 2 are ignored, from “red red”",
    ]
