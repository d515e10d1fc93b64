"""The arithmetic of the evaluation: how well a picture keeps to edges, depth and its source. Knows no network."""

import cv2
import numpy as np

WITHIN = 2  # pixels by which an edge may be off


def psnr(picture: np.ndarray, back: np.ndarray) -> float:
    """Two uint8 pictures of one shape, in dB."""
    error = np.mean((picture.astype(np.float64) - back.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def edge_f1(map_given: np.ndarray, map_found: np.ndarray) -> float:
    """Two (H, W) maps, nonzero on edges: the harmonic mean of how many of each have one of the other within `WITHIN` pixels."""
    given, found = map_given > 0, map_found > 0
    if not given.any() or not found.any():
        return float(not given.any() and not found.any())
    precision = float((_distance(given)[found] <= WITHIN).mean())
    recall = float((_distance(found)[given] <= WITHIN).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def depth_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of two (H, W) depth maps after each row's median is taken from both: a receding floor earns nothing."""
    a, b = (plane - np.median(plane, axis=1, keepdims=True) for plane in (first.astype(np.float64), second.astype(np.float64)))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0


def _distance(edges: np.ndarray) -> np.ndarray:
    """To the nearest edge, for each pixel."""
    return cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
