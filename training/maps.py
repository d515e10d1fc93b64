"""Edge maps for training, with varied thresholds, and drawings that are not scenes at all."""

import cv2
import numpy as np

from flux_demo.modes import EDGES

LOW, HIGH = (option.default for option in EDGES.options)


def edges(image: np.ndarray, low: float = LOW, high: float = HIGH) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W, 3) uint8: white lines on black, as the app draws them."""
    return np.repeat(cv2.Canny(np.ascontiguousarray(image), low, high)[..., None], 3, axis=2)


def varied_thresholds(rng: np.random.Generator) -> tuple[float, float]:
    """Half of the time the app's defaults, else others that a person might set."""
    if rng.random() < 0.5:
        return LOW, HIGH
    low = rng.uniform(10, 150)
    return low, low + rng.uniform(20, 200)


def drawing(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: flat shapes, lines and letters over a gradient. It prepares the network for maps of photos, which are not scenes."""
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    canvas = np.ascontiguousarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR))
    for _ in range(rng.integers(1, 8)):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        x, y = (int(v) for v in (rng.integers(0, width), rng.integers(0, height)))
        reach = int(rng.integers(6, max(width, height) // 2))
        kind = rng.integers(0, 4)
        if kind == 0:
            cv2.ellipse(
                canvas, (x, y), (reach, int(rng.integers(4, reach + 1))), float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
            )
        elif kind == 1:
            points = rng.integers(-reach, reach + 1, (int(rng.integers(3, 7)), 2)) + (x, y)
            cv2.fillPoly(canvas, [points.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 2:
            end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            cv2.line(canvas, (x, y), end, colour, int(rng.integers(1, 8)), cv2.LINE_AA)
        else:
            cv2.putText(
                canvas,
                "".join(chr(c) for c in rng.integers(65, 123, 3)),
                (x, y),
                cv2.FONT_HERSHEY_SIMPLEX,
                float(rng.uniform(0.5, 3)),
                colour,
                int(rng.integers(1, 6)),
                cv2.LINE_AA,
            )
    return canvas
