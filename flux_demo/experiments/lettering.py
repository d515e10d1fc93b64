"""Text on images in the shipped fonts, each script in the one that has it; wrapped and shortened to a width."""

from __future__ import annotations

import string
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from flux_demo.settings import ASSETS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

FONTS = ASSETS / "fonts"
BASE = "NotoSans"  # Latin, Greek, Cyrillic, and what no other font has
# First and last code point, and the font that has them.
SCRIPTS: tuple[tuple[int, int, str], ...] = (
    (0x0530, 0x058F, "NotoSansArmenian"),
    (0x0590, 0x05FF, "NotoSansHebrew"),
    (0x0600, 0x077F, "NotoSansArabic"),
    (0x08A0, 0x08FF, "NotoSansArabic"),
    (0x0900, 0x097F, "NotoSansDevanagari"),
    (0x0980, 0x09FF, "NotoSansBengali"),
    (0x0A00, 0x0A7F, "NotoSansGurmukhi"),
    (0x0A80, 0x0AFF, "NotoSansGujarati"),
    (0x0B80, 0x0BFF, "NotoSansTamil"),
    (0x0C00, 0x0C7F, "NotoSansTelugu"),
    (0x0C80, 0x0CFF, "NotoSansKannada"),
    (0x0D00, 0x0D7F, "NotoSansMalayalam"),
    (0x0D80, 0x0DFF, "NotoSansSinhala"),
    (0x0E00, 0x0E7F, "NotoSansThai"),
    (0x0E80, 0x0EFF, "NotoSansLao"),
    (0x1000, 0x109F, "NotoSansMyanmar"),
    (0x10A0, 0x10FF, "NotoSansGeorgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "NotoSansEthiopic"),
    (0x1780, 0x17FF, "NotoSansKhmer"),
    (0x2100, 0x2BFF, "DejaVuSans"),
    (0x2E80, 0x312F, "DroidSansFallback"),
    (0x3130, 0x318F, "Hangul"),
    (0x3190, 0x9FFF, "DroidSansFallback"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "DroidSansFallback"),
    (0xFB1D, 0xFB4F, "NotoSansHebrew"),
    (0xFB50, 0xFDFF, "NotoSansArabic"),
    (0xFE30, 0xFE4F, "DroidSansFallback"),
    (0xFE70, 0xFEFF, "NotoSansArabic"),
    (0xFF00, 0xFFEF, "DroidSansFallback"),
    (0x1F000, 0x1FAFF, "DejaVuSans"),
)
ELLIPSIS = "…"
SHARED = frozenset(" «»·–—‘’“”…" + string.digits + string.punctuation)  # every file of Noto Sans has them
OF_OTHERS = ("Cf", "Mn")  # Unicode's categories of what joins or directs letters, and of marks on them


def width(text: str, size: int) -> float:
    """Pixels that a line takes."""
    return sum(_font(name, size).getlength(part) for name, part in _runs(text))


def draw(on: ImageDraw, at: tuple[float, float], text: str, size: int, fill: str) -> None:
    """Write one line with its baseline's left end at ``at``."""
    x, y = at
    for name, part in _runs(text):
        font = _font(name, size)
        on.text((x, y), part, font=font, fill=fill, anchor="ls")
        x += font.getlength(part)


def wrapped(text: str, size: int, room: float, lines: int) -> list[str]:
    """At most ``lines`` lines that fit into ``room`` pixels; what is too long ends in an ellipsis."""
    found: list[str] = []
    rest = " ".join(text.split())
    while rest:
        if width(rest, size) <= room:
            return [*found, rest]
        if len(found) == lines - 1:
            return [*found, rest[: _fitting(rest, size, room, ELLIPSIS)].rstrip() + ELLIPSIS]
        end = max(1, _fitting(rest, size, room))
        space = rest.rfind(" ", 1, end + 1)
        end = space if space > 0 else end  # scripts without spaces break anywhere
        found.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return found


def _fitting(text: str, size: int, room: float, tail: str = "") -> int:
    """How many characters of the text fit, with ``tail`` after them."""
    low, high = 0, min(len(text), 2000)
    while low < high:
        middle = (low + high + 1) // 2
        if width(text[:middle] + tail, size) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _runs(text: str) -> list[tuple[str, str]]:
    """Parts of one font each; what the fonts share stays with the part before it, so that a sentence of one script is laid out as a whole."""
    runs: list[tuple[str, str]] = []
    for character in text:
        name = _font_for(ord(character))
        before = runs[-1][0] if runs else ""
        shared = character in SHARED and before.startswith(BASE)
        belongs = name == BASE and unicodedata.category(character) in OF_OTHERS
        if runs and (before == name or shared or belongs):
            runs[-1] = (before, runs[-1][1] + character)
        else:
            runs.append((name, character))
    return runs


@lru_cache(maxsize=4096)
def _font_for(code: int) -> str:
    return next((name for first, last, name in SCRIPTS if first <= code <= last), BASE)


@lru_cache(maxsize=128)
def _font(name: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(FONTS / f"{name}.woff2", size)
    except OSError:  # a FreeType built without Brotli
        return ImageFont.load_default(size)  # type: ignore[return-value]
