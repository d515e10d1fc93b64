"""Large photos come out smaller, and the same by every door."""

import io

import numpy as np
import pytest
from PIL import Image

from flux_demo.maps.photo import open_photo
from tests.maps.test_photo import encoded


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 80}), ("WEBP", {"method": 0, "quality": 50})])
def test_a_large_photo_is_the_same_as_a_file_and_as_a_pil_image(photo, kind, options):
    data = encoded(photo.resize((6001, 4097)), kind, **options)
    image, opened = Image.open(io.BytesIO(data)), open_photo(data)
    assert opened.size == (3001, 2049)
    for _ in ("as it was opened", "once its pixels are loaded"):
        assert open_photo(image).tobytes() == opened.tobytes()
        image.load()


@pytest.mark.parametrize(("mode", "transparent"), [("P", True), ("1", False)])
def test_a_large_picture_with_a_palette_is_averaged_like_its_colours(mode, transparent):
    stripes = Image.radial_gradient("L").resize((4101, 6000)).convert(mode)
    options = {"compress_level": 1} | ({"transparency": 0} if transparent else {})
    palette = stripes if mode == "1" else stripes.convert("RGB").quantize(16, dither=Image.Dither.NONE)
    file = encoded(palette, "PNG", **options)
    with Image.open(io.BytesIO(file)) as opened:
        colours = encoded(opened.convert("RGBA" if transparent else "RGB"), "PNG", compress_level=1)
    small = open_photo(file)
    assert small.size == (2051, 3000)
    assert np.abs(np.asarray(small, int) - np.asarray(open_photo(colours), int)).mean() < 0.01
