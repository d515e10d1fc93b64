"""PNGs of other programs, in AUTOMATIC1111's form."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flux_demo.cli import run
from flux_demo.parameters import SharedSettings, parse_parameters, read_parameters
from flux_demo.recipe import NoRecipe
from flux_demo.request import Size

FORGE = (
    "a lighthouse, mist\nsecond line\nNegative prompt: blurry, low\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
    'Distilled CFG Scale: 3.5, Seed: 4294967295, Size: 896x1152, Model hash: abc, Model: flux1-dev, Lora hashes: "a: 1, b: 2", Version: f2.0'
)


def test_what_is_shared_is_read():
    assert parse_parameters(FORGE) == SharedSettings("a lighthouse, mist\nsecond line", 4294967295, 20, 3.5, Size(896, 1152), True)


def test_lines_that_an_extension_adds_after_the_settings_are_left_out():
    """As Dynamic Prompts does."""
    assert parse_parameters(f"{FORGE}\nTemplate: a {{red|blue}} cat\nNegative Template: blurry") == parse_parameters(FORGE)


def test_spaces_without_end_are_read_in_no_time():
    assert parse_parameters("a cat\nSteps: 1," + " " * 100_000 + "x").steps == 1  # a slow reading would not end today


def test_without_a_prompt_the_negative_one_is_not_taken_for_it():
    assert parse_parameters("Negative prompt: blurry\nSteps: 20") == SharedSettings("", steps=20, has_negative_prompt=True)


def test_line_ends_of_windows_are_those_of_any_system():
    assert parse_parameters(FORGE.replace("\n", "\r\n")) == parse_parameters(FORGE)


def test_an_empty_negative_prompt_is_none():
    """As ComfyUI's nodes write it for FLUX."""
    assert parse_parameters("a cat\nNegative prompt: \nSteps: 20") == SharedSettings("a cat", steps=20)


def test_a_prompt_that_is_too_long_is_read_whole():
    """It is refused in words where it is used."""
    assert len(parse_parameters(f"{'word ' * 3000}cat\nSteps: 20").prompt) == 15_003


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("Steps: many, Seed: -1, CFG scale: nan, Size: 500x500", SharedSettings("a cat", unusable=("size", "steps"))),
        ("Steps: 5, CFG scale: 7", SharedSettings("a cat", steps=5)),
        ("Steps: 20, Distilled CFG Scale: 3.50000001", SharedSettings("a cat", steps=20, guidance=3.50000001)),
        ("Steps: 20, Distilled CFG Scale: inf", SharedSettings("a cat", steps=20, unusable=("guidance",))),
        ("Steps: 99999999999999999999, Seed: 99999999999", SharedSettings("a cat", unusable=("seed", "steps"))),
    ],
)
def test_what_cannot_be_used_is_left_out(settings, expected):
    assert parse_parameters(f"a cat\n{settings}") == expected


def test_the_recipe_command_prints_what_another_programs_image_shares(tmp_path, monkeypatch, capsys):
    chunks = PngInfo()
    chunks.add_text("parameters", FORGE.replace("Steps: 20", "Steps: 20000"))
    Image.new("RGB", (8, 8)).save(tmp_path / "forge.png", pnginfo=chunks)
    assert run(["recipe", str(tmp_path / "forge.png")]) == 0
    printed = capsys.readouterr()
    size = {"width": 896, "height": 1152}
    assert json.loads(printed.out) == {
        "mode": "text",
        "prompt": "a lighthouse, mist\nsecond line",
        "seed": 4294967295,
        "guidance": 3.5,
        **size,
    }
    assert "Another program wrote these settings" in printed.err and "negative prompt is left out" in printed.err
    assert "What cannot be used here is left out: steps." in printed.err


def test_a_file_without_them_is_refused(tmp_path):
    path = tmp_path / "image.png"
    for text in ("", "only a prompt"):
        chunks = PngInfo()
        chunks.add_text("parameters", text)
        Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
        with pytest.raises(NoRecipe):
            read_parameters(path)
