"""The contact sheets beside the model card: `python -m training.contact`.

Prompts by seeds; scene, map and image; and photographs above the depth that is estimated for them, `--photos` among them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import maps, sheets
from training.evaluate import GUIDANCE, Mini, control_inputs
from training.train import ASSETS

EXAMPLES = ASSETS.parent / "examples" / "photos"
PHOTO = (280, 180)  # the most that a photograph takes of its sheet, in pixels

PROMPTS = (
    "a red sphere on a gray floor at noon",
    "a blue cone to the left of a white cube on a sandy floor at sunset",
    "a red cone, a green cube and a blue cylinder on a snowy floor, noon light",
    "a yellow cube on a grassy floor at night",
    "a purple cylinder to the right of an orange sphere on a wooden floor",
    "a black cone in the snow",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=ASSETS)
    parser.add_argument("--count", type=int, default=4, help="seeds for each prompt, and maps of each kind")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="more photographs than the page's examples")
    arguments = parser.parse_args()
    mini = Mini(arguments.weights, "cuda" if torch.cuda.is_available() else "cpu")
    photo_sheet(mini, [*sorted(EXAMPLES.glob("*.jpg")), *arguments.photos], arguments.weights / "sheet-photos.png")
    count = arguments.count
    images = mini.generate(mini.text, [prompt for prompt in PROMPTS for _ in range(count)], GUIDANCE["text"])
    sheets.save([images[start : start + count] for start in range(0, len(images), count)], arguments.weights / "sheet-text.png")
    for mode, first in (("canny", 3000), ("depth", 4000)):
        prompts, rgbd = control_inputs(count, first)
        given = [maps.edges(one[..., :3]) if mode == "canny" else np.repeat(one[..., 3:], 3, 2) for one in rgbd]
        images = mini.generate(mini.control(mode), prompts, GUIDANCE[mode], [Image.fromarray(one) for one in given])
        sheets.save([list(rgbd[..., :3]), given, images], arguments.weights / f"sheet-{mode}.png")
        print(f"{mode}: " + " | ".join(prompts))


def photo_sheet(mini: Mini, photos: Sequence[Path], path: Path) -> None:
    """Photographs in a row, and what the depth estimator says of each below it."""
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for each in photos:
        photo = Image.open(each).convert("RGB")
        photo = photo.resize((PHOTO[1] * photo.width // photo.height, PHOTO[1]))
        left = max(0, photo.width - PHOTO[0]) // 2
        pixels = np.asarray(photo)[:, left : left + PHOTO[0]]
        near = mini.nearness(pixels)
        grey = ((near - near.min()) / (near.max() - near.min()) * 255).astype(np.uint8)
        rows[0].append(pixels)
        rows[1].append(np.repeat(grey[..., None], 3, 2))
    sheets.save(rows, path)


if __name__ == "__main__":
    main()
