"""Control maps for training: edges of pictures with varied thresholds, and things that are not scenes at all."""

import cv2
import numpy as np

CANNY = (50, 200)  # what the app draws with unless the person moves the sliders


def edges(picture: np.ndarray, low: float = CANNY[0], high: float = CANNY[1]) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W, 3) uint8, white lines on black, as the app draws them."""
    return np.repeat(cv2.Canny(np.ascontiguousarray(picture), low, high)[..., None], 3, axis=2)


def varied_edges(picture: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """As `edges`, half of the time with thresholds as a person may set them."""
    if draw.random() < 0.5:
        return edges(picture)
    low = draw.uniform(10, 150)
    return edges(picture, low, low + draw.uniform(20, 200))


def drawing(width: int, height: int, draw: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: flat shapes, lines and blots over a gradient. No scene, so that a photo's map is not all new."""
    corners = draw.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    canvas = np.ascontiguousarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR))
    for _ in range(draw.integers(1, 8)):
        colour = tuple(int(c) for c in draw.integers(0, 256, 3))
        x, y = (int(v) for v in (draw.integers(0, width), draw.integers(0, height)))
        reach = int(draw.integers(6, max(width, height) // 2))
        kind = draw.integers(0, 4)
        if kind == 0:
            cv2.ellipse(
                canvas, (x, y), (reach, int(draw.integers(4, reach + 1))), float(draw.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
            )
        elif kind == 1:
            points = draw.integers(-reach, reach + 1, (int(draw.integers(3, 7)), 2)) + (x, y)
            cv2.fillPoly(canvas, [points.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 2:
            end = (int(draw.integers(0, width)), int(draw.integers(0, height)))
            cv2.line(canvas, (x, y), end, colour, int(draw.integers(1, 8)), cv2.LINE_AA)
        else:
            cv2.putText(
                canvas,
                "".join(chr(c) for c in draw.integers(65, 123, 3)),
                (x, y),
                cv2.FONT_HERSHEY_SIMPLEX,
                float(draw.uniform(0.5, 3)),
                colour,
                int(draw.integers(1, 6)),
                cv2.LINE_AA,
            )
    return canvas


def stray_lines(edge_map: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An edge map with a few lines of no scene: the picture must not fall apart over them."""
    height, width = edge_map.shape[:2]
    return np.maximum(edge_map, edges(drawing(width, height, draw), 100, 250) * (draw.random((height, width, 1)) < 0.9))
