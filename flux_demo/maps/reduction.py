"""A large image comes out smaller, each pixel the mean of several, and both sides still as long as any map's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flux_demo.maps.decoding import LARGE

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT_SIDE = 2048  # pixels that a large photo keeps at least, as no map has longer sides
CAN_BE_AVERAGED = ("RGB", "RGBA", "L", "LA", "CMYK", "F")  # Pillow's modes whose pixels are amounts of light
BAND = 16  # rows of the result


def factor_of(image: Image) -> int:
    """How many pixels of a large image, across and down, become one; 0 or 1: it stays as it is."""
    return min(image.size) // KEPT_SIDE if image.width * image.height > LARGE else 1


def reduced(image: Image) -> Image:
    """A large image, smaller; any other as it is."""
    factor = factor_of(image)
    if factor < 2:
        return image
    if image.mode not in CAN_BE_AVERAGED:
        return _reduced_in_bands(image, factor)
    small = image.reduce(factor)
    small.info = {name: value for name, value in image.info.items() if name == "transparency"}
    return small


def reduced_webp(data: bytes, opened: Image) -> Image:
    """The same of a WebP that is not decoded yet. Pillow would hold it five times."""
    import cv2
    import numpy as np
    from PIL import Image as PIL_Image

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("damaged")
    factor = factor_of(opened)
    mode, order = ("RGBA", cv2.COLOR_BGRA2RGBA) if pixels.shape[2] == 4 else ("RGB", cv2.COLOR_BGR2RGB)
    rows = (cv2.cvtColor(pixels[row : row + BAND * factor], order) for row in range(0, opened.height, BAND * factor))
    return _of_bands(mode, opened, factor, map(PIL_Image.fromarray, rows))


def _reduced_in_bands(image: Image, factor: int) -> Image:
    """A palette's numbers cannot be averaged, their colours can: some rows at a time, which takes a hundredth of the memory."""
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB"
    tops = range(0, image.height, BAND * factor)
    rows = (image.crop((0, top, image.width, min(top + BAND * factor, image.height))).convert(mode) for top in tops)
    return _of_bands(mode, image, factor, rows)


def _of_bands(mode: str, image: Image, factor: int, bands: Iterable[Image]) -> Image:
    """The image, each pixel the mean of several, from its bands of rows."""
    from PIL import Image as PIL_Image

    small = PIL_Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    for number, band in enumerate(bands):
        small.paste(band.reduce(factor), (0, number * BAND))
    return small
