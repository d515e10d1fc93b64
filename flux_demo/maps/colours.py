"""A decoded image of any mode, as the RGB that a browser shows: sRGB, transparency on white, upright."""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flux_demo.maps.tones import DEEP, to_8_bits

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
UNNOTICED = 1  # levels of 255 by which a profile may differ from sRGB and still be taken for it


def to_rgb(image: Image, profile: bytes | None) -> Image:
    """A new RGB image of a loaded one, its colours taken to sRGB. A profile that is damaged, or of other colours, is ignored."""
    from PIL import Image as PIL_Image

    if image.mode in DEEP:
        if isinstance(image.info.get("transparency"), int):
            image.info.pop("transparency")  # a value of the deep range: no grey of 8 bits stands for it
        image = to_8_bits(image)
    if image.has_transparency_data:
        layer = _in_srgb(image.convert("RGBA"), profile)
        return PIL_Image.composite(layer.convert("RGB"), PIL_Image.new("RGB", layer.size, "white"), layer.getchannel("A"))
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _in_srgb(image, profile).convert("RGB")


def turned_upright(image: Image, orientation: int) -> Image:
    """The image turned upright, as its EXIF orientation says."""
    from PIL.Image import Transpose

    turns = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE}
    turns |= {6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
    return image.transpose(turns[orientation]) if orientation in turns else image


def orientation_of(image: Image) -> int:
    """The one number of the EXIF that pixels need, 1 to 8; 1 where there is none or it cannot be read. The rest is not looked at."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return _orientation(exif.removeprefix(b"Exif\0\0"))
    tags: Any = getattr(image, "tag_v2", None)  # of a TIFF
    try:
        return int(tags[ORIENTATION]) if tags is not None else 1
    except (KeyError, TypeError, ValueError, IndexError, struct.error):
        return 1


def _orientation(tiff: bytes) -> int:
    """The orientation in a TIFF structure, as EXIF is one, however damaged its other entries are."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        assert order
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * min(count, 200), 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, entry + 8)
                return value
    except (AssertionError, struct.error):
        pass
    return 1


def _in_srgb(image: Image, profile: bytes | None) -> Image:
    """An image of mode L, RGB, RGBA or CMYK with its colours taken to sRGB: RGB, RGBA, or the image itself where there is nothing to do."""
    from PIL import ImageCms

    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if space == "GRAY" and image.mode in ("RGB", "RGBA") and _is_grey(image):
            return _greys_in_srgb(image, source)
        if {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK"}[image.mode] != space or is_srgb(profile):
            return image
        wanted = "RGBA" if image.mode == "RGBA" else "RGB"
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), intent, outputMode=wanted) or image
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError, TypeError):
        return image


def _is_grey(image: Image) -> bool:
    from PIL import ImageChops

    red, green, blue = image.split()[:3]
    return ImageChops.difference(red, green).getbbox() is None and ImageChops.difference(green, blue).getbbox() is None


def _greys_in_srgb(image: Image, source: Any) -> Image:
    """Greys that were unpacked to RGB or RGBA, as of a grey image with transparency."""
    from PIL import Image as PIL_Image
    from PIL import ImageCms

    grey = ImageCms.profileToProfile(image.getchannel("R"), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert grey is not None
    return PIL_Image.merge("RGBA", (*grey.split(), image.getchannel("A"))) if image.mode == "RGBA" else grey


@lru_cache(maxsize=32)
def is_srgb(profile: bytes) -> bool:
    """Whether an RGB profile shows every colour as sRGB does, tried on a few hundred of them: most photos' profiles do."""
    from PIL import Image as PIL_Image
    from PIL import ImageChops, ImageCms

    levels = bytes(
        value for red in range(0, 256, 51) for green in range(0, 256, 51) for blue in range(0, 256, 15) for value in (red, green, blue)
    )
    patch = PIL_Image.frombytes("RGB", (len(levels) // 3, 1), levels)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != "RGB":
        return False
    shown = ImageCms.profileToProfile(patch, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert shown is not None
    return max(ImageChops.difference(patch, shown).tobytes()) <= UNNOTICED
