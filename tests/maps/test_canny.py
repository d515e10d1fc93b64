"""Edge maps are OpenCV's own, on the RGB photo at output size."""

import cv2
import numpy as np
import pytest
from PIL import Image

from flux_demo.maps.canny import draw
from flux_demo.maps.fit import fit
from flux_demo.request import Size


@pytest.mark.parametrize("low, high", [(50, 200), (10, 30), (300, 700), (0.5, 99.5)])
def test_the_map_is_opencvs_on_the_rgb_photo_at_output_size(photo, low, high):
    drawn = np.asarray(draw(fit(photo, Size(*photo.size)), low, high))
    expected = cv2.Canny(np.asarray(photo), low, high)
    assert all((drawn[..., channel] == expected).all() for channel in range(3))


def test_edges_in_colour_alone_are_found():
    photo = Image.new("RGB", (64, 64), (200, 0, 0))
    photo.paste((0, 102, 0), (32, 0, 64, 64))  # the same grey as the red, by Rec. 601
    assert np.asarray(draw(fit(photo, Size(64, 64)))).max() == 255


def test_the_four_sides_of_a_square_are_found():
    square = Image.new("RGB", (128, 128), "white")
    square.paste("black", (40, 40, 90, 90))
    rows, columns = np.nonzero(np.asarray(draw(fit(square, Size(128, 128))))[..., 0])
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([40, 90, 40, 90], abs=1)


def test_padding_draws_no_frame():
    noise = Image.effect_noise((300, 100), 80).convert("RGB")
    drawn = np.asarray(draw(fit(noise, Size(256, 256), "pad")))
    assert drawn[:85].max() == 0 and drawn[-85:].max() == 0 and drawn[90:160].max() == 255
