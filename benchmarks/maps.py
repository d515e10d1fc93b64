"""A Canny map of a 12-megapixel photo, from the decoded photo to the served PNG, against the bare OpenCV calls in the same run.

    python -m benchmarks.maps

Both start from the same Pillow image, crop it to the output's shape, and end with PNG bytes in a file; the two maps have the same pixels.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageOps

from benchmarks.record import record
from flux_demo import Settings, Studio

LIMIT = 1.2
SIDES = (4000, 3000)
OUTPUT = (1152, 896)  # what "match" chooses for this shape where a megapixel is generated


def drawn_photo() -> Image.Image:
    """12 megapixels with edges, smooth areas and a camera's noise."""
    noise = np.random.default_rng(0).normal(0, 6, (SIDES[1], SIDES[0], 3))
    across = np.linspace(60, 200, SIDES[0])[None, :, None]
    photo = Image.fromarray(np.clip(across + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(photo)
    for i in range(60):
        x, y, size = (i * 733) % 3600, (i * 947) % 2600, 80 + (i * 37) % 500
        draw.ellipse((x, y, x + size, y + size // 2), outline=((i * 41) % 256, (i * 83) % 256, 90), width=12)
    return photo


def bare(photo: Image.Image, target: Path) -> None:
    """The calls that any program needs."""
    width, height = OUTPUT
    pixels = np.asarray(photo)
    kept = round(SIDES[1] * width / height)  # the photo is wider than the map, so its middle is kept
    left = (SIDES[0] - kept) // 2
    resized = cv2.resize(pixels[:, left : left + kept], OUTPUT, interpolation=cv2.INTER_AREA)
    edges = cv2.cvtColor(cv2.Canny(resized, 50, 200), cv2.COLOR_GRAY2RGB)
    target.write_bytes(cv2.imencode(".png", edges, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes())


def loader_times(photo: Image.Image, rounds: int) -> dict[str, float]:
    """The loader on the photo as a JPEG with an sRGB profile, against Pillow's own opening, turning and copying."""
    from flux_demo.maps.photo import open_photo

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    times: dict[str, list[float]] = {"pillow": [], "srgb": []}
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=90, icc_profile=srgb)
    data = buffer.getvalue()

    def pillow() -> None:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            ImageOps.exif_transpose(opened).copy()

    for _ in range(rounds):
        for name, call in (("pillow", pillow), ("srgb", lambda: open_photo(data))):
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "pillow_seconds": round(medians["pillow"], 4),
        "ours_seconds": round(medians["srgb"], 4),
        "ratio": round(medians["srgb"] / medians["pillow"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    from flux_demo.ui.files import DrawnFrom, keep_map

    photo = drawn_photo()
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio.from_settings(Settings(backend="mini", outputs=folder))
        source = DrawnFrom(None, None, None, False, ())

        def ours(photo: Image.Image) -> Path:
            return Path(keep_map(studio.preview("canny", photo, "x".join(map(str, OUTPUT))), source).path)

        target = Path(folder) / "bare.png"
        bare(photo, target)
        assert np.array_equal(np.asarray(Image.open(target)), np.asarray(Image.open(ours(photo)))), "the two maps differ"
        for _ in range(rounds):
            started = time.perf_counter()
            bare(photo, target)
            times["bare"].append(time.perf_counter() - started)
            fresh = photo.copy()  # the studio remembers how it fitted a photo
            started = time.perf_counter()
            ours(fresh)
            times["ours"].append(time.perf_counter() - started)
        loader = loader_times(photo, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "photo": "x".join(map(str, SIDES)),
        "map": "x".join(map(str, OUTPUT)),
        "rounds": rounds,
        "bare_seconds": round(medians["bare"], 4),
        "ours_seconds": round(medians["ours"], 4),
        "ratio": round(medians["ours"] / medians["bare"], 3),
        "limit": LIMIT,
        "loader": loader,
    }
    record("maps", result)


if __name__ == "__main__":
    main()
