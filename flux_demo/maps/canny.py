"""Photo -> edge map, as the makers of FLUX.1-Canny-dev draw it: OpenCV's Canny on the RGB photo at the output size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_demo.maps.fit import Fitted

if TYPE_CHECKING:
    from PIL.Image import Image


def draw(fitted: Fitted, low: float = 50, high: float = 200) -> Image:
    """White lines on black, RGB. The thresholds are OpenCV's, for gradients of 8-bit colours; the defaults are black-forest-labs/flux's."""
    import cv2
    from PIL import Image

    edges = fitted.blank_outside(cv2.Canny(fitted.pixels, low, high))
    return Image.fromarray(cv2.cvtColor(edges, cv2.COLOR_GRAY2RGB))
