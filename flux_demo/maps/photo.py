"""The one loader: every image from outside, whether on the page, through the API, on the command line or from Python, is opened here.

It checks the size on disk, then the format, then the header, then the number of pixels, and only then decodes, two images at a time.
"""

from __future__ import annotations

import io
import os
import random
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from flux_demo.errors import InvalidPicture, InvalidRequest
from flux_demo.maps import png
from flux_demo.maps.colours import orientation_of, to_rgb, turned_upright
from flux_demo.maps.decoding import LARGE, give_back, turn
from flux_demo.maps.notes import SEVERAL
from flux_demo.maps.reduction import factor_of, reduced, reduced_webp
from flux_demo.maps.source import MAX_BYTES as MAX_BYTES
from flux_demo.maps.source import read
from flux_demo.maps.tones import DEEP
from flux_demo.maps.unreadable import reason
from flux_demo.texts import Number, distinct_numbers

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
MIN_SIDE = 8  # pixels; anything smaller is an icon or a tracking dot
MAX_ASPECT = 32  # the longer side divided by the shorter one
THERE = 0.9  # of a JPEG's rows, without which it counts as cut off

# By content, whatever the name says. Never one whose reader starts another program, as EPS and PDF do.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "JPEG2000", "PPM", "QOI", "ICO", "PSD")
HEIC = "HEIF"  # Pillow reads it only once pillow-heif has been loaded
SHOWN_BY_BROWSERS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "ICO")
READ = (*FORMATS, HEIC)
FRAMED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")  # may be animations, or have pages; a PSD's layers and an MPO's views are not that
JPEGS = ("JPEG", "MPO")  # MPO: several JPEGs in one file, of which the first is the photo


def open_photo(
    source: Image | str | os.PathLike | bytes | BinaryIO, check_size: Callable[[int, int], object] = lambda width, height: None
) -> Image:
    """Open an image as RGB: a path, bytes, a binary file or a PIL image, with the same result. Raises InvalidPicture.

    ``check_size(width, height)`` may raise InvalidRequest for an image, upright, that could not be used; no pixel is decoded before.

    It is turned upright by its EXIF, its colours are converted to sRGB by its profile, transparency is laid on white, greys of more
    than 8 bits are scaled (``maps.tones``), and of an animation the first frame is taken. A photo of more than 24 megapixels comes out smaller, each
    side still 2048 pixels or more. A plain RGB image without metadata is returned as it is.
    """
    from PIL import Image as PIL_Image

    refusal: InvalidRequest
    try:
        if isinstance(source, PIL_Image.Image):
            return _of_image(source, check_size)
        return _of_bytes(read(source, or_image=True), check_size)
    except InvalidRequest as error:
        refusal = error
    except (MemoryError, PIL_Image.DecompressionBombError):
        refusal = _too_many_pixels()
    except Exception as error:  # Pillow's plugins raise nearly anything on broken data: OSError, SyntaxError, struct.error, ...
        why = "The image cannot be opened: {reason}. Save it again as PNG or JPEG and try that file."
        refusal = InvalidPicture(why, reason=reason(source, error, READ))
    # Raised here, without the frames and the cause that still hold pixels.
    refusal.__context__ = None
    give_back()
    raise refusal.with_traceback(None) from None


def _of_image(given: Image, check_size: Callable[[int, int], object]) -> Image:
    if given.format is not None and given.format not in (*READ, *JPEGS):
        raise InvalidPicture(f"A photo cannot be an image in the format {given.format}. Save it as PNG or JPEG and try that file.")
    _check_header(*given.size)
    check_size(*_upright_size(given))
    with turn(given.width * given.height):
        try:
            given.load()
        except Exception:
            if not getattr(given, "fp", None):
                raise
        else:
            if given.mode == "RGB" and not given.info and given.width * given.height <= LARGE:
                return given  # nothing to do, and nothing travels on
            finished = _finished(given.copy(), given.info.get("icc_profile"), orientation_of(given))  # whoever gave it keeps it as it was
            return _marked(finished, bool(given.info.get(SEVERAL)) or (given.format in FRAMED and _at_first_of_several(given)))
    return _of_bytes(read(given.fp), check_size)  # type: ignore[attr-defined]  # as much of a damaged file as there is


def _of_bytes(data: bytes, check_size: Callable[[int, int], object]) -> Image:
    profile, several = None, False
    if data.startswith(png.SIGNATURE):
        several = png.is_animated(data)
        data, profile = png.pixels_only(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd EXIF and large images; the limits are checked here
        opened = _opened(data)
        format_ = opened.format
        _check_header(*opened.size)
        check_size(*_upright_size(opened))
        with turn(opened.width * opened.height):
            decoded = _decoded(opened, data)
            finished = _finished(decoded, profile or opened.info.get("icc_profile"), orientation_of(opened))
            return _marked(finished, several or (format_ in FRAMED and _at_first_of_several(_opened(data))))


def _upright_size(image: Image) -> tuple[int, int]:
    lies_on_its_side = image.format != "TIFF" and orientation_of(image) in (5, 6, 7, 8)  # Pillow gives a TIFF's size upright
    return image.size[::-1] if lies_on_its_side else image.size  # type: ignore[return-value]


def _decoded(opened: Image, data: bytes) -> Image:
    """The loaded image; a large WebP is smaller already."""
    if opened.format == "WEBP" and factor_of(opened) > 1:
        return reduced_webp(data, opened)
    try:
        opened.load()
    except OSError:
        if opened.format not in JPEGS:
            raise
        return _without_its_end(data)
    return opened


def _opened(data: bytes) -> Image:
    from PIL import Image as PIL_Image

    PIL_Image.init()  # registers its formats, once
    formats: tuple[str, ...] = FORMATS
    if data[4:8] == b"ftyp":  # HEIC or AVIF, whose beginnings are alike
        import pillow_heif
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each of its threads holds a whole image
        pillow_heif.register_heif_opener()
        formats = (*FORMATS, HEIC)
    return PIL_Image.open(io.BytesIO(data), formats=formats)


def _finished(image: Image, profile: Any, orientation: int) -> Image:
    """A new image, RGB and nothing else: EXIF, location and comments are dropped. The given one is closed, which frees its memory."""
    small = image if image.mode in DEEP and image.mode != "F" else reduced(image)
    rgb = reduced(to_rgb(small, profile if isinstance(profile, bytes) else None))
    upright = turned_upright(rgb, orientation)
    upright = upright.copy() if upright is image else upright
    image.close()
    upright.info = {}
    return upright


def _at_first_of_several(opened: Image) -> bool:
    """Whether this is the first frame, or page, and there are more. To ask a GIF reads on, to a part that may be damaged."""
    try:
        return opened.tell() == 0 and bool(getattr(opened, "is_animated", False))
    except Exception:
        return False


def _marked(photo: Image, several: bool) -> Image:
    """The photo, which remembers that it was one of several: it may be opened here again."""
    photo.info |= {SEVERAL: True} if several else {}
    return photo


def _without_its_end(data: bytes) -> Image:
    """A JPEG that lacks its end, if nearly all its rows are there. Raises InvalidPicture if they are not.

    It is decoded twice, with nothing and with noise after its end: the rows that are the same are those of the file.
    """
    from PIL import Image as PIL_Image
    from PIL import ImageChops

    noise = bytes(value % 255 for value in random.Random(1).randbytes(2**18))  # no 0xFF, which would begin a marker
    images = []
    data = data.rstrip(b"\xff")  # the beginning of the marker that is missing
    for end in (b"", noise):
        with PIL_Image.open(io.BytesIO(data + end + b"\xff\xd9"), formats=("JPEG",)) as opened:
            opened.load()
            images.append(opened.copy())
    differ = ImageChops.difference(*images).getbbox()
    there = (differ[1] if differ else images[0].height) / images[0].height
    if there < THERE:
        raise InvalidPicture(
            "The image is cut off: only {share} of its rows are complete. Copy or download it again.", share=Number(f"{there:.0%}")
        )
    return images[0]


def _check_header(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(width * height)
    if min(width, height) < MIN_SIDE:
        why = "The image is {size} pixels, which is too small. Choose one with at least {least} pixels per side."
        raise InvalidPicture(why, size=f"{width}x{height}", least=MIN_SIDE)
    if max(width, height) > MAX_ASPECT * min(width, height):
        why = "The image is {size} pixels, which is too narrow. Crop it to a more even shape first."
        raise InvalidPicture(why, size=f"{width}x{height}")


def _too_many_pixels(pixels: int | None = None) -> InvalidPicture:
    if pixels is None:
        why = "The image is far too large, and the limit is {limit} megapixels. Scale it down first."
        return InvalidPicture(why, limit=MAX_PIXELS // 10**6)
    why = "The image has {megapixels} megapixels, and the limit is {limit} megapixels. Scale it down first."
    megapixels, limit = distinct_numbers(pixels / 1e6, MAX_PIXELS / 1e6, 0)
    return InvalidPicture(why, megapixels=megapixels, limit=limit)


def looks_like_map(photo: Image) -> str | None:
    """The kind of map that an RGB image looks like: "canny" (thin white lines on black), "inverted canny" (black on white), "depth" (smooth
    and grey, whichever way), or None.

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
    if black + white > 0.97 and 0.002 < black < 0.35:
        return "inverted canny"
    across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    smooth = (np.percentile(across, 90) <= 4) and (np.percentile(down, 90) <= 6)
    levels = len(np.unique(grey))
    return "depth" if smooth and levels > 24 and grey.max() - grey.min() > 96 else None


def browsers_show(source: str | os.PathLike | bytes) -> bool:
    """Whether every browser shows a file as it is and upright, by its content; of a file that is not an image, True. Raises InvalidPicture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _opened(read(source)) as opened:
                turned = opened.format == "WEBP" and orientation_of(opened) != 1  # Chromium does not look for it there
                return opened.format in SHOWN_BY_BROWSERS and not turned
        except InvalidPicture:
            raise
        except Exception:  # as in open_photo, which says what is wrong with it
            return True


def open_png_text(source: str | os.PathLike | bytes | BinaryIO) -> dict[str, str]:
    """The text chunks of a PNG file, wherever in the file they are; empty for another format. No pixel is decoded. Raises InvalidPicture."""
    data = read(source)
    if data.startswith(png.SIGNATURE):
        return png.texts(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(data) as opened:
                _check_header(*opened.size)
                return {}
    except InvalidPicture:
        raise
    except Exception as error:  # as in open_photo
        why = "The image cannot be opened: {reason}. Choose the PNG file as it was saved."
        raise InvalidPicture(why, reason=reason(source, error, READ)) from error
