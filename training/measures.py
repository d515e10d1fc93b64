"""Metrics of the evaluation: how well an image keeps to its edges, its depth and its source. Uses no network."""

import cv2
import numpy as np

TOLERANCE = 2  # pixels by which an edge may be off


def psnr(image: np.ndarray, decoded: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images of one shape, in dB."""
    error = np.mean((image.astype(np.float64) - decoded.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def edge_f1(map_given: np.ndarray, map_found: np.ndarray) -> float:
    """F1 of two (H, W) edge maps, nonzero on edges: an edge pixel counts as found within `TOLERANCE` pixels of one in the other map."""
    given, found = map_given > 0, map_found > 0
    if not given.any() or not found.any():
        return float(not given.any() and not found.any())
    precision = float((_distance(given)[found] <= TOLERANCE).mean())
    recall = float((_distance(found)[given] <= TOLERANCE).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def depth_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of two (H, W) depth maps after each row's median is subtracted from both, so that a receding floor earns nothing."""
    a, b = (plane - np.median(plane, axis=1, keepdims=True) for plane in (first.astype(np.float64), second.astype(np.float64)))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _distance(edges: np.ndarray) -> np.ndarray:
    """From each pixel to the nearest edge, in pixels."""
    return cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
