"""Folders in which files are to be kept, whether they exist yet or not: why none can be, and how much room there is."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from flux_demo.texts import Text

FULL = (errno.ENOSPC, errno.EDQUOT)


def problem(folder: Path) -> str | None:
    """Why no file can be made in the folder, as a clause in the system's words; None if one can. Leaves nothing behind.

    It tries to: for a folder such as /proc/new, permissions and free space prove nothing.
    """
    try:
        # Not tempfile: on Windows it takes a folder without write permission for one in which every name is taken.
        file = _existing(folder) / f".{secrets.token_hex(8)}"
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        file.unlink()
        return None
    except OSError as error:
        return f"no file can be made there ({reason(error)})"
    except ValueError:  # a NUL in the name
        return "its name is not one that a folder can have"


def free_bytes(folder: Path) -> int | None:
    """Free bytes on the disk where the folder is, or would be created; None if it cannot be, or the system does not say."""
    try:
        existing = _existing(folder)
        return shutil.disk_usage(existing).free if existing.is_dir() else None
    except (OSError, ValueError):
        return None


def reason(error: OSError) -> str:
    """Why the system refused, as a clause in its own words."""
    return (error.strerror or "the system does not say why").lower()


def advice(error: OSError, otherwise: str, **values: Any) -> Text:
    """What to do about a file that could not be written: a sentence. Space is freed only where it is what is missing."""
    remedy = Text(otherwise, **values)
    return Text("Free some space there. If you cannot: {remedy}", remedy=remedy) if error.errno in FULL else remedy


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists. Raises OSError for a name that no disk takes, and for a drive that is not there."""
    nearest = folder.absolute()
    while True:
        try:
            os.lstat(nearest)
            return nearest
        except (FileNotFoundError, NotADirectoryError):
            if nearest.parent == nearest:  # on Windows: a drive or a server that is not there
                raise
            nearest = nearest.parent
