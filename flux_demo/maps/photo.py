"""The one loader: every image from outside, whether on the page, through the API or on the command line, is opened here.

It checks the size on disk, then the header, then the number of pixels, and only then decodes.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.errors import InvalidPicture

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 8  # pixels; anything smaller is an icon or a tracking dot
MAX_ASPECT = 32  # the longer side divided by the shorter one


def open_photo(source: str | os.PathLike | bytes) -> Image:
    """Open an image of any format that Pillow reads, as RGB. Raises InvalidPicture.

    It is turned upright by its EXIF, transparency is laid on white, 16-bit, greyscale and CMYK are converted, and of an animation the
    first frame is taken.
    """
    from PIL import Image, ImageOps

    data = _read(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd EXIF and large images; the limits are checked here
            with Image.open(io.BytesIO(data)) as opened:
                _check_header(*opened.size)
                opened.load()
                return _to_rgb(ImageOps.exif_transpose(opened))
    except InvalidPicture:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data: OSError, SyntaxError, struct.error, ...
        what = "an SVG drawing" if b"<svg" in data[:1000].lower() else "damaged, incomplete, or in a format that cannot be read"
        raise InvalidPicture(f"The image cannot be opened: the file is {what}. Save it again as PNG or JPEG and try that file.") from error


def _read(source: str | os.PathLike | bytes) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        path = Path(source)
        try:
            if not path.is_file():  # a device or a pipe could be read for ever
                raise InvalidPicture(f"There is no image file {path.name!r}. Check the name and try again.")
            if path.stat().st_size > MAX_BYTES:
                raise _too_many_bytes(path.stat().st_size)
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            raise InvalidPicture(f"The file {path.name[:80]!r} cannot be read. Check its name and its permissions.") from error
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(len(data))
    if not data:
        raise InvalidPicture("The image file is empty. Choose another file, or save it again.")
    return data


def _check_header(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(width * height)
    if min(width, height) < MIN_SIDE:
        raise InvalidPicture(
            f"The image is {width}x{height} pixels, which is too small. Choose one with at least {MIN_SIDE} pixels per side."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidPicture(f"The image is {width}x{height} pixels, which is too narrow. Crop it to a more even shape first.")


def _too_many_bytes(size: int) -> InvalidPicture:
    limit = MAX_BYTES // 2**20
    return InvalidPicture(f"The image file is {size / 2**20:.0f} MiB large, and the limit is {limit} MiB. Save it smaller, or as JPEG.")


def _too_many_pixels(pixels: int | None = None) -> InvalidPicture:
    has = f"has {pixels / 1e6:.0f} megapixels" if pixels else "is far too large"
    return InvalidPicture(f"The image {has}, and the limit is {MAX_PIXELS // 10**6} megapixels. Scale it down first.")


def _to_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    rgb = image.convert("RGB") if image.mode != "RGB" else image.copy()
    rgb.info = {}  # EXIF, location and comments are dropped
    return rgb


def _to_8_bit(image: Image) -> Image:
    """Scale 16-bit, 32-bit and float greyscale to 0–255. Pillow's own conversion turns everything above 255 white."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max(initial=0)
    white = 1.0 if image.mode == "F" and top <= 1 else 255.0 if top <= 255 and image.mode in ("I", "F") else max(65535.0, top)
    return Image.fromarray(np.clip(values / white * 255 + 0.5, 0, 255).astype(np.uint8))


def looks_like_map(photo: Image) -> str | None:
    """The kind of map that an RGB image looks like: "canny" (thin white lines on black), "depth" (smooth and grey), or None.

    A guess from simple statistics, to be reported and never acted on: line art and black-and-white photos can look the same.
    """
    import numpy as np
    from PIL import Image

    small = photo.copy()
    small.thumbnail((512, 512), resample=Image.Resampling.NEAREST)  # so that pure black and white stay pure
    pixels = np.asarray(small.convert("RGB"), dtype=np.int16)
    if (pixels.max(axis=2) - pixels.min(axis=2)).max() > 12:
        return None
    grey = pixels[..., 0]
    black, white = (grey < 32).mean(), (grey > 223).mean()
    if black + white > 0.97 and 0.002 < white < 0.35:
        return "canny"
    across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    smooth = (np.percentile(across, 90) <= 4) and (np.percentile(down, 90) <= 6)
    levels = len(np.unique(grey))
    return "depth" if smooth and levels > 24 and grey.max() - grey.min() > 96 else None


def open_png_text(source: str | os.PathLike | bytes) -> dict[str, str]:
    """The text chunks of a PNG file, wherever in the file they are; empty for another format. Raises InvalidPicture."""
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    data = _read(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as opened:
                _check_header(*opened.size)
                if not isinstance(opened, PngImageFile):
                    return {}
                opened.load()  # chunks may follow the pixels
                return {name: str(text) for name, text in opened.text.items()}
    except InvalidPicture:
        raise
    except Exception as error:  # as in open_photo
        raise InvalidPicture(
            "The image cannot be opened: the file is damaged or not an image. Choose the PNG file as it was saved."
        ) from error
