"""PNGs of other programs, in AUTOMATIC1111's form."""

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flux_demo.parameters import SharedSettings, parse_parameters, read_parameters
from flux_demo.recipe import NoRecipe
from flux_demo.request import Size

FORGE = (
    "a lighthouse, mist\nsecond line\nNegative prompt: blurry, low\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
    'Distilled CFG Scale: 3.5, Seed: 4294967295, Size: 896x1152, Model hash: abc, Model: flux1-dev, Lora hashes: "a: 1, b: 2", Version: f2.0'
)


def test_what_is_shared_is_read():
    assert parse_parameters(FORGE) == SharedSettings("a lighthouse, mist\nsecond line", 4294967295, 20, 3.5, Size(896, 1152), True)


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


def test_a_file_without_them_is_refused(tmp_path):
    path = tmp_path / "image.png"
    for text in ("", "only a prompt"):
        chunks = PngInfo()
        chunks.add_text("parameters", text)
        Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
        with pytest.raises(NoRecipe):
            read_parameters(path)
