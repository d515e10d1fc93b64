"""Any photo fits into any legal size, in each of the ways."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_demo.maps.fit import FITS, fit
from flux_demo.request import Size

SIDES = st.integers(8, 300)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(4, 40), st.integers(4, 40), st.sampled_from(FITS))
def test_any_photo_fits_into_any_size(width, height, across, down, how):
    size = Size(16 * across, 16 * down)
    fitted = fit(Image.new("RGB", (width, height), (10, 200, 30)), size, how)
    assert fitted.pixels.shape == (size.height, size.width, 3) and fitted.pixels.flags["C_CONTIGUOUS"]
    left, top, right, bottom = fitted.box
    assert 0 <= left < right <= size.width and 0 <= top < bottom <= size.height
    assert (np.abs(fitted.pixels.astype(int) - (10, 200, 30)) <= 1).all()
    if how != "pad":
        assert fitted.box == (0, 0, size.width, size.height)
