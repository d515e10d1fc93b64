"""What a file is that could not be opened as a photo, as far as its bytes show. Nothing of it is decoded."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flux_demo.maps.source import read
from flux_demo.texts import Text

OTHER_FORMATS = (
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"PK\3\4", "a ZIP archive or an office document"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
)
TGA_END = b"TRUEVISION-XFILE.\0"  # nothing at its beginning says what it is


def reason(source: Any, error: Exception, formats: Collection[str]) -> Text:
    """Why the file could not be opened; ``formats`` are Pillow's names of those that can be."""
    if isinstance(error, ImportError):
        return Text("HEIC needs the package pillow-heif, which is not installed")
    data = _data_of(source)
    if b"<svg" in data[:1000].lower():
        return Text("the file is {kind}", kind=Text("an SVG drawing"))
    for beginning, name in OTHER_FORMATS:
        if data.startswith(beginning):
            return Text("the file is {kind}", kind=Text(name))
    kinds = ["TGA"] if data.endswith(TGA_END) else _kinds(data[:16])
    if known := next((kind for kind in kinds if kind in formats), None):
        return Text("the {format} file is damaged, incomplete, or of a kind that cannot be read", format=known)
    if kinds:
        return Text("the file is in the format {format}, which cannot be read", format=kinds[0])
    if data[4:8] == b"ftyp":
        return Text("the file is {kind}", kind=Text("a video"))
    return Text("the file is damaged, incomplete, or in a format that cannot be read")


def _kinds(beginning: bytes) -> list[str]:
    """Pillow's names of the formats whose files begin so."""
    from PIL import Image

    Image.init()  # registers its formats, once
    found = []
    for kind in Image.ID:
        if kind == "CUR":  # a TGA may begin as a cursor does
            continue
        accepts = Image.OPEN[kind][1]
        try:
            if accepts and accepts(beginning) is True:
                found.append(kind)
        except Exception:  # a beginning that is shorter than a plugin expects
            continue
    return found


def _data_of(source: Any) -> bytes:
    try:
        return read(getattr(source, "fp", source))
    except Exception:  # closed meanwhile, or no file at all
        return b""
