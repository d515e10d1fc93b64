"""A photo meets the output size by cropping, padding or stretching."""

import numpy as np
import pytest
from PIL import Image

from flux_demo.errors import InvalidRequest
from flux_demo.maps.fit import fit
from flux_demo.request import Size


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [Size(64, 64), Size(320, 16), Size(16, 320), Size(1024, 768)])
def test_the_result_has_exactly_the_output_size(photo, how, size):
    fitted = fit(photo, size, how)
    assert fitted.pixels.shape == (size.height, size.width, 3) and fitted.pixels.dtype == np.uint8


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
def test_a_photo_of_the_output_size_is_left_alone(photo, how):
    assert fit(photo, Size(*photo.size), how).pixels.tobytes() == photo.tobytes()


def test_crop_keeps_the_middle_and_its_shape():
    stripes = Image.new("RGB", (300, 100), "red")
    stripes.paste("blue", (100, 0, 200, 100))
    assert set(map(tuple, fit(stripes, Size(96, 96), "crop").pixels.reshape(-1, 3))) == {(0, 0, 255)}


def test_pad_shows_everything_and_says_where():
    fitted = fit(Image.new("RGB", (300, 100), "red"), Size(96, 96), "pad")
    assert fitted.box == (0, 32, 96, 64)
    assert fitted.pixels[0, 0].tolist() == [255, 0, 0]  # the border is continued, so that no edge appears
    drawn = fitted.blank_outside(np.full((96, 96), 255, np.uint8))
    assert drawn[:32].max() == 0 and drawn[64:].max() == 0 and drawn[32:64].min() == 255


def test_stretch_fills_both_sides():
    half = Image.new("RGB", (200, 100), "red")
    half.paste("blue", (100, 0, 200, 100))
    pixels = fit(half, Size(96, 96), "stretch").pixels
    assert pixels[50, 10].tolist() == [255, 0, 0] and pixels[50, 85].tolist() == [0, 0, 255]


def test_an_extreme_shape_still_leaves_a_pixel():
    assert fit(Image.new("RGB", (2000, 70)), Size(16, 1024), "pad").box[2] == 16


def test_an_unknown_fit_is_answered_with_the_list(photo):
    with pytest.raises(InvalidRequest, match="crop, pad or stretch"):
        fit(photo, Size(64, 64), "zoom")
