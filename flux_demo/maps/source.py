"""What may be given as a photo, as bytes: a path, bytes, or a binary file. Checked on the disk before it is read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from flux_demo.errors import InvalidPicture

MAX_BYTES = 32 * 2**20


def read(source: Any, or_image: bool = False) -> bytes:
    """The bytes of an image file, at most 32 MiB. Raises InvalidPicture for anything else; ``or_image``: the caller takes a PIL image too."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str) and not source:  # which is the current folder for Path
        raise _not_given(None, or_image)
    elif isinstance(source, str | os.PathLike):
        data = _of_file(Path(source))
    elif callable(getattr(source, "read", None)):
        data = _of_open_file(source)
    else:
        raise _not_given(source, or_image)
    if len(data) > MAX_BYTES:
        raise _too_many_bytes()
    if not data:
        raise InvalidPicture("The image file is empty. Choose another file, or save it again.")
    return data


def refuse_address(name: str) -> None:
    """Raise InvalidPicture for an address in place of a path. ``Path`` has taken one of its slashes."""
    if found := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", name):  # and not C:/
        remedy = (
            "Write the path alone, without file://" if found[1].lower() == "file" else "Download the image, and give the path of the file"
        )
        raise InvalidPicture(f"Nothing is fetched from an address: images are read from files on this machine. {remedy}.")


def _not_given(instead: Any, or_image: bool) -> InvalidPicture:
    if instead is None and or_image:
        return InvalidPicture("No photo was given. Give a path, bytes, a binary file or a PIL image.")
    if instead is None:
        return InvalidPicture("No image file was given. Give a path, bytes or a binary file.")
    kind = f"{type(instead).__module__}.{type(instead).__qualname__}".removeprefix("builtins.")
    given = f"An object of the type {kind} was given instead of"
    if or_image:
        return InvalidPicture(f"{given} a photo. Give a path, bytes, a binary file or a PIL image (PIL.Image.fromarray makes one).")
    return InvalidPicture(f"{given} an image file. Give a path, bytes or a binary file.")


def _of_file(path: Path) -> bytes:
    try:
        if not path.is_file():  # a device or a pipe could be read for ever
            if path.is_dir():
                raise InvalidPicture(f"{str(path.name or path)[:80]!r} is a folder. Give the image file itself.")
            refuse_address(path.as_posix())
            if path.exists():
                raise InvalidPicture(f"{str(path)[:80]!r} is a device or a pipe, and not a file. Give the path of an image file.")
            raise InvalidPicture(f"There is no image file {path.name[:80]!r}. Check the name and try again.")
        if path.stat().st_size > MAX_BYTES:
            raise _too_many_bytes()
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidPicture(f"The file {path.name[:80]!r} cannot be read. Check its name and its permissions.") from error


def _of_open_file(file: Any) -> bytes:
    try:
        if file.seekable():
            file.seek(0)  # whoever wrote it left the position at its end
        data = file.read(MAX_BYTES + 1)
    except Exception as error:  # a stranger's object may raise anything
        raise InvalidPicture("The file that was given cannot be read. Open it in binary mode and give it again.") from error
    if not isinstance(data, bytes):
        raise InvalidPicture("The file that was given was opened as text. Open it in binary mode, as open(path, 'rb').")
    return data


def _too_many_bytes() -> InvalidPicture:
    return InvalidPicture("The image file is larger than {limit} MiB. Save it smaller, or as JPEG.", limit=MAX_BYTES // 2**20)
