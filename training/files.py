"""Files of a work folder: written whole or not at all, so that a stage can be stopped at any time."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from flux_demo.gallery import PART, write_whole


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through `fill(file)`. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, fill)


def remove_parts(work: Path) -> None:
    """Remove what a run that was killed left half written."""
    for part in work.rglob(PART):
        part.unlink(missing_ok=True)
