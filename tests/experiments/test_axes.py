import json

import numpy as np
import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.experiments.axes import axis_names, parse_axes
from flux_demo.modes import MODES
from flux_demo.request import Size

TEXT, CANNY, DEPTH = MODES["text"], MODES["canny"], MODES["depth"]


@pytest.mark.parametrize(
    ("mode", "text", "values"),
    [
        (TEXT, "seed=1,2,3", (1, 2, 3)),
        (TEXT, "seed=1..4", (1, 2, 3, 4)),
        (TEXT, "seed=0", (0,)),
        (TEXT, "guidance=10..30/5", (10, 15, 20, 25, 30)),
        (TEXT, "guidance=2.5..3.5/0.1", (2.5, 2.6, 2.7, 2.8, 2.9, 3, 3.1, 3.2, 3.3, 3.4, 3.5)),
        (TEXT, "steps=4, 8..10 ,28", (4, 8, 9, 10, 28)),
        (TEXT, "size=1024x768,512 × 512", (Size(1024, 768), Size(512, 512))),
        (CANNY, "size=match", ("match",)),
        (CANNY, "fit=crop,pad", ("crop", "pad")),
        (DEPTH, "near=0..0.2/0.1", (0, 0.1, 0.2)),
        (DEPTH, "invert=false,true", (False, True)),
        (TEXT, "prompt=a {red|blue} {cube|}", ("a red cube", "a red", "a blue cube", "a blue")),
        (TEXT, "prompt=a cube, a ball", ("a cube, a ball",)),
    ],
)
def test_values_are_read_as_people_write_them(mode, text, values):
    (axis,) = parse_axes(mode, [text])
    assert axis.values == values
    assert len(axis.labels) == len(values)


def test_a_template_is_labelled_with_what_was_chosen():
    (axis,) = parse_axes(TEXT, ["prompt=a {red|light blue} cube at {dawn|dusk}"])
    assert axis.labels == ("red, dawn", "red, dusk", "light blue, dawn", "light blue, dusk")


def test_a_file_holds_a_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa red cube, on grass\n\n  ein blauer Würfel \r\n", "utf-8")
    assert parse_axes(TEXT, [f"prompt={file}"])[0].values == ("a red cube, on grass", "ein blauer Würfel")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("colour=1", "cannot be varied"),
        ("low=1", "cannot be varied in the text mode"),
        ("seed", "NAME=VALUES"),
        ("seed=4..1", "is empty"),
        ("seed=1..4/0", "is empty"),
        ("seed=", "gap"),
        ("seed=1,,2", "gap"),
        ("seed=1,1", "twice"),
        ("seed=cat", "valid seed"),
        ("guidance=nan", "not a number"),
        ("guidance=1_0", "not a number"),
        ("seed=0..999999999", "the limit is 10,000"),
        ("prompt=" + "{a|b}" * 20, "the limit is 10,000"),
        ("size=1000x1000", "multiples of 16"),
        ("prompt=nowhere.txt", "no file of prompts"),
        ("prompt=~no-such-user/prompts.txt", "no file of prompts"),
        ("prompt={a|{b|c}}", "inside alternatives"),
        ("prompt=a folder/no where.txt", "no file of prompts"),
    ],
)
def test_what_is_no_axis_is_refused_in_two_sentences(text, sentence):
    with pytest.raises(InvalidRequest, match=sentence) as refusal:
        parse_axes(TEXT, [text])
    assert str(refusal.value).count(". ") >= 1


def test_an_axis_takes_the_numbers_of_numpy():
    seeds, guidance = parse_axes(TEXT, {"seed": np.arange(3), "guidance": np.array([2.5, 3.5], np.float32)})
    assert (seeds.values, guidance.labels) == ((0, 1, 2), ("2.5", "3.5"))
    assert json.dumps(seeds.values) == "[0, 1, 2]"


def test_an_axis_is_given_once():
    with pytest.raises(InvalidRequest, match="given twice"):
        parse_axes(TEXT, ["seed=1", "seed=2"])


def test_every_option_of_a_map_is_an_axis():
    for mode in MODES.values():
        if mode.control:
            assert {option.name for option in mode.control.options} <= set(axis_names(mode))
