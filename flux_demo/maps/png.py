"""The chunks of a PNG file, read without decoding a pixel. Knows nothing of Pillow, whose limits on text make good images unreadable."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Whatever else a file carries, its pixels do not need it: texts of megabytes, times, a second copy as an animation.
NEEDED = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"})
MAX_PROFILE = 8 * 2**20  # bytes of an ICC profile, unpacked
MAX_TEXT = 2**20  # bytes of one text, unpacked: a recipe has a few thousand
MAX_TEXTS = 256


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Type, content, and the whole of each chunk, as far as the file goes; a last one that is cut off is shorter than it says."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, view[at + 8 : at + 8 + size], view[at : at + 12 + size]
        at += 12 + size


def pixels_only(data: bytes) -> tuple[bytes, bytes | None]:
    """The same image without what its pixels do not need, and its ICC profile."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    profile = None
    for name, content, whole in chunks(data):
        if name in NEEDED:
            kept.append(whole)
        elif name == b"iCCP" and profile is None:
            _, _, packed = bytes(content).partition(b"\0")
            profile = _unpacked(packed[1:], MAX_PROFILE)
    return b"".join(kept), profile


def size(data: bytes) -> tuple[int, int]:
    """Width and height, which stand first in every PNG file."""
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def is_animated(data: bytes) -> bool:
    """Whether there are more frames than the one that every reader shows."""
    return any(name == b"acTL" and bytes(content[:4]) > b"\0\0\0\1" for name, content, _ in chunks(data))


def is_whole(data: bytes) -> bool:
    """Whether no chunk is damaged, up to the one that ends the image."""
    for name, _, whole in chunks(data):
        if _is_damaged(whole):
            return False
        if name == b"IEND":
            return True
    return False


def texts(data: bytes) -> dict[str, str]:
    """The text chunks, wherever in the file they are. A damaged one, and one of more than a megabyte, is left out."""
    found: dict[str, str] = {}
    for name, content, whole in chunks(data):
        if name not in (b"tEXt", b"zTXt", b"iTXt") or len(found) >= MAX_TEXTS:
            continue
        if _is_damaged(whole):
            continue
        keyword, _, rest = bytes(content).partition(b"\0")
        text = _text(name, rest)
        if text is not None:
            found.setdefault(keyword.decode("latin-1"), text)
    return found


def _is_damaged(whole: memoryview) -> bool:
    return len(whole) < 12 or zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big")


def _text(name: bytes, rest: bytes) -> str | None:
    if name == b"tEXt":
        return rest.decode("latin-1") if len(rest) <= MAX_TEXT else None
    if name == b"zTXt":
        unpacked = _unpacked(rest[1:], MAX_TEXT)
        return None if unpacked is None else unpacked.decode("latin-1")
    packed, rest = rest[:1] == b"\1", rest[2:]
    content = rest.split(b"\0", 2)[-1]  # after language and translated keyword
    unpacked = _unpacked(content, MAX_TEXT) if packed else content
    return None if unpacked is None or len(unpacked) > MAX_TEXT else unpacked.decode("utf-8", "replace")


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    """What zlib packed, if it is at most ``limit`` bytes and not damaged."""
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(packed, limit)
        return data if unpacking.eof else None
    except zlib.error:
        return None
