"""Files of a work folder: written whole or not at all, so that a stage can be stopped at any time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is at `path` once its block ends without an error. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")  # several processes may work in one folder
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_parts(work: Path) -> None:
    """Remove what a run that was killed left half written."""
    for partial in work.rglob("*.part"):
        partial.unlink(missing_ok=True)
