"""High-bit, signed and float greys brought to 8 bits by the range that they really use, whatever the container could hold.

One rule. Black is 0, or the lowest value where there are values below 0. White, counted from black, is for whole numbers the top of the 8,
10, 12, 14, 16, 24 or 32 bits that are used, and for floats 1, or the highest value where that is above 1 or below 1/16.
So 12 bits in a 16-bit file, millimetres and 0–255 are visible, and 16 bits that are used as such are divided by 257.

Greys may be any measure. Colours are pictures: Pillow reads them as browsers do, by the range of the container, and nothing here touches them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of more than 8 bits
BITS = (8, 10, 12, 14, 16, 24, 32)  # that cameras, scanners and depth sensors write
DIMMEST = 1 / 16  # of floats that are meant to end at 1
STRIP = 4 * 10**6  # pixels that are unpacked at a time, so that a large image needs no second copy


def to_8_bits(image: Image) -> Image:
    """A greyscale image of mode L, 0–255, from one of the deep modes. NaN is black."""
    import numpy as np
    from PIL import Image as PIL_Image

    low, high = 0.0, -math.inf
    for _, values in _strips(image):
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    white = _white(high - low, whole=image.mode != "F")
    grey = PIL_Image.new("L", image.size)
    for top, values in _strips(image):
        scaled = np.nan_to_num((values - low) * (255 / white), nan=0.0, posinf=255.0, neginf=0.0)
        grey.paste(PIL_Image.fromarray((np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)), (0, top))
    return grey


def _white(span: float, whole: bool) -> float:
    """The value, counted from black, that becomes white."""
    if not 0 < span < math.inf:
        return 1.0
    if whole:
        return float(next(2**bits - 1 for bits in BITS if span < 2**bits))
    return 1.0 if DIMMEST <= span <= 1 else span


def _strips(image: Image) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values, (rows, width) float64, of one strip after the other."""
    import numpy as np

    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows)))
        yield top, np.asarray(strip).astype(np.float64)
