"""Where an image or a map is written: checked before the work begins, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from flux_demo import folders
from flux_demo.errors import InvalidRequest
from flux_demo.gallery import GeneratedImage, write_new, write_whole
from flux_demo.studio import Studio

MAX_NAME = 255  # bytes of a file's name, on nearly every disk


def check_target(output: str | None, photo: str | None = None) -> Path | None:
    """The file that ``-o`` names; None without ``-o``. Raises InvalidRequest if it cannot be written or is the photo itself."""
    if output is None:
        return None
    if not output.strip():
        raise InvalidRequest("-o names no file. Give it the name of a .png file, or leave it out.")
    target = Path(output)
    if len(os.fsencode(target.name)) > MAX_NAME:
        raise InvalidRequest(f"{target.name[:40]}… is too long for a file's name. Give -o a shorter one.")
    if os.path.isdir(target):
        raise InvalidRequest(f"{str(target)!r} is a folder. Give -o the name of a file in it.")
    if target.suffix.lower() != ".png":
        raise InvalidRequest(f"{target.name!r} does not end in .png, and images are written as PNG. Give -o a name that does.")
    if not os.path.isdir(target.parent):
        raise InvalidRequest(f"There is no folder {str(target.parent)!r} to write to. Create it first, or give -o another path.")
    why = folders.problem(target.parent)
    if not why and os.path.exists(target) and not os.access(target, os.W_OK):
        why = "permission is missing"
    if why:
        raise InvalidRequest(f"{str(target)!r} cannot be written: {why}. Give -o another path.")
    keep_photo(photo, [target])
    return target


def keep_photo(photo: str | None, targets: Iterable[Path]) -> None:
    """Raise InvalidRequest if one of the files that may be written is the photo itself."""
    if photo is None or not os.path.exists(photo):
        return
    for target in targets:
        if os.path.exists(target) and os.path.samefile(target, photo):
            raise InvalidRequest(f"{target.name!r} is the photo itself, which would be lost. Give -o another name.")


def write_beside(photo: str, mode: str, fill: Callable[[BinaryIO], object]) -> Path:
    """``write`` under an unused name in the current folder: ``photo-canny.png``, then ``photo-canny-2.png``; a long one is shortened.

    Raises InvalidRequest.
    """
    stem = f"{shortened_stem(photo, MAX_NAME - len(f'-{mode}-9999.png'))}-{mode}"
    try:
        return write_new(Path(), stem, fill)
    except FileExistsError as error:
        raise InvalidRequest(f"There are too many files named {stem}-….png here. Give the map a name with -o.") from error
    except OSError as error:
        raise _refusal(Path(f"{stem}.png"), error) from error


def shortened_stem(path: str, limit: int) -> str:
    """A file's name without its ending: as many whole characters as fit into ``limit`` bytes."""
    stem = Path(path).stem
    while len(os.fsencode(stem)) > limit:
        stem = stem[:-1]
    return stem


def path_as_named(image: GeneratedImage, studio: Studio) -> Path:
    """The image's path, starting with the outputs folder as the person named it: shorter than the whole path."""
    return studio.settings.outputs_folder / image.path.name


def write(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through ``fill(file)``, whole or not at all. Raises InvalidRequest when the disk refuses."""
    try:
        write_whole(target, fill)
    except OSError as error:
        raise _refusal(target, error) from error


def reserve(target: Path) -> bool:
    """Make an empty file; False if there is one of that name. Of several programs one gets it. Raises InvalidRequest when the disk refuses."""
    try:
        target.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise _refusal(target, error) from error
    return True


def _refusal(target: Path, error: OSError) -> InvalidRequest:
    why = "the disk is full" if error.errno in folders.FULL else (error.strerror or "the disk refuses it").lower()
    return InvalidRequest(f"{target.name!r} cannot be written: {why}. {folders.advice(error, 'Give -o another path.')}")
