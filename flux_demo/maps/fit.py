"""Brings a photo to the output size: cropped, padded or stretched. Never silently: the map shows what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.maps.notes import photo_notes
from flux_demo.request import Size

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Fitted:
    """A photo at the output size."""

    pixels: np.ndarray  # (height, width, 3) uint8, 0–255, RGB, contiguous
    box: tuple[int, int, int, int]  # left, top, right, bottom of the photo in it; what is outside is padding
    notes: tuple[str, ...] = ()  # what the person may not expect

    def blank_outside(self, drawn: np.ndarray) -> np.ndarray:
        """A map, (height, width) or (height, width, 3), with the padding made black."""
        left, top, right, bottom = self.box
        if (left, top, right, bottom) == (0, 0, drawn.shape[1], drawn.shape[0]):
            return drawn
        blank = drawn * 0
        blank[top:bottom, left:right] = drawn[top:bottom, left:right]
        return blank


def check_fit(how: Any) -> None:
    """Raise InvalidRequest unless this is one of FITS."""
    if not isinstance(how, str) or how not in FITS:
        raise InvalidRequest(
            "{fit} is not a way to fit a photo. Choose {fits}.", fit=shortened(how), fits=f"{', '.join(FITS[:-1])} or {FITS[-1]}"
        )


def centre_crop(width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """What crop keeps of a photo: left, top, width and height in its pixels."""
    if width * size.height > height * size.width:
        kept = max(1, round(height * size.width / size.height))
        return (width - kept) // 2, 0, kept, height
    kept = max(1, round(width * size.height / size.width))
    return 0, (height - kept) // 2, width, kept


def fit(photo: Image, size: Size, how: str = "crop") -> Fitted:
    """Bring an RGB photo to ``size``. Raises InvalidRequest for an unknown way.

    Crop keeps the middle; pad keeps everything and repeats the border pixels, so that no edge appears where the photo ends; stretch
    distorts. Shrinking averages areas, as a lens would; enlarging is bicubic.
    """
    import cv2
    import numpy as np

    check_fit(how)
    pixels = np.asarray(photo)
    if how == "crop":
        pixels = _middle(pixels, size)
    inner = _inner(pixels, size) if how == "pad" else (size.width, size.height)
    if (pixels.shape[1], pixels.shape[0]) != inner:
        shrinking = pixels.shape[1] >= inner[0] and pixels.shape[0] >= inner[1]
        pixels = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    left, top = (size.width - inner[0]) // 2, (size.height - inner[1]) // 2
    right, bottom = size.width - left - inner[0], size.height - top - inner[1]
    if left or top or right or bottom:
        pixels = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return Fitted(np.ascontiguousarray(pixels), (left, top, left + inner[0], top + inner[1]), photo_notes(photo, size, how))


def _middle(pixels: np.ndarray, size: Size) -> np.ndarray:
    """The largest centred part that has the output's shape."""
    left, top, width, height = centre_crop(pixels.shape[1], pixels.shape[0], size)
    return pixels[top : top + height, left : left + width]


def _inner(pixels: np.ndarray, size: Size) -> tuple[int, int]:
    """Width and height of the whole photo inside the output, its shape kept."""
    height, width = pixels.shape[:2]
    scale = min(size.width / width, size.height / height)
    return min(size.width, max(1, round(width * scale))), min(size.height, max(1, round(height * scale)))
