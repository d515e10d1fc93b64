"""What each visitor made and typed, kept beside the images, so that a reload, a second tab or a restart brings it back.

A visitor is named by a random key that only their browser holds; here is only its hash. ``visitors.sqlite3`` is an index: a folder for each
visitor holds one small file for each image, the map that it followed or nothing, and with the recipes in the PNGs the index is rebuilt.
What was made on a page that strangers can reach is marked, in the index and by its folder: of the same outputs folder, only that goes after a day.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flux_demo.errors import InvalidPicture, InvalidRequest
from flux_demo.recipe import Recipe, read_recipe

FOLDER = ".visitors"
SHARED_FOLDER = f"{FOLDER}/shared"  # of the images that were made on a shared page
HISTORY_LENGTH = 200  # images a visitor can go back to; older files stay in the gallery
SHARED_S = 24 * 3600.0  # what was made or typed on a shared page is gone after a day
TABLES = """
CREATE TABLE IF NOT EXISTS images (visitor TEXT, file TEXT, created REAL, recipe TEXT, shared INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (visitor, file));
CREATE TABLE IF NOT EXISTS forms (visitor TEXT, mode TEXT, changed REAL, fields TEXT, shared INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (visitor, mode));
"""
# What was private stays so where the page is shared later.
SAVE_RECORD = """
INSERT INTO forms VALUES (?, ?, ?, ?, ?) ON CONFLICT (visitor, mode) DO
UPDATE SET changed = excluded.changed, fields = excluded.fields, shared = shared AND excluded.shared
"""
ADD_SHARED = "ALTER TABLE {} ADD COLUMN shared INTEGER NOT NULL DEFAULT 0"  # to an index of an older program
REFUSED = {  # what SQLite says of a disk, and what the system would
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}
T = TypeVar("T")


@dataclass(frozen=True)
class StoredImage:
    """An image of a visitor."""

    path: Path
    recipe: Recipe
    map_path: Path | None  # the map that it followed


def new_key() -> str:
    """A key for a browser to keep."""
    return secrets.token_urlsafe(24)


def is_key(value: Any) -> bool:
    """Whether a browser's key is one that ``new_key`` could have made: short ones could be guessed."""
    return isinstance(value, str) and len(value) == 32 and all(each.isalnum() or each in "-_" for each in value) and value.isascii()


class VisitorStore:
    """The visitors of one folder of images. Safe to use from several threads. Raises OSError when the disk refuses, but
    ``save_record`` and ``update_record`` do not: that is no reason to disturb a person who is typing."""

    def __init__(self, outputs: Path, shared: bool = False) -> None:
        self._outputs, self._shared = outputs, shared
        self._lock = threading.RLock()
        self._unclaimed = new_key()
        self._database: sqlite3.Connection | None = None

    def add(self, key: str, image: Path, recipe: Recipe, map_png: Path | None = None) -> None:
        """Keep an image, which is in the folder already, for a visitor, with the map that it followed."""
        visitor = _hashed(key)
        marker = self._marker(visitor, image.name, self._shared)
        marker.parent.mkdir(parents=True, exist_ok=True)
        if map_png:
            shutil.copyfile(map_png, marker)
        else:
            marker.touch()
        row = (visitor, image.name, image.stat().st_mtime, recipe.to_json(), self._shared)
        self._run(lambda database: database.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", row))

    def add_unclaimed(self, image: Path, recipe: Recipe) -> None:
        """Note an image of a program, which has no history: on a shared page it goes after a day as well. A full disk is no reason to withhold it."""
        if self._shared:
            with suppress(OSError):
                self.add(self._unclaimed, image, recipe)

    def names(self, key: str) -> list[str]:
        """The names of all the visitor's images whose files are there, also of those that are too many to go back to."""
        visitor = _hashed(key)
        self.forget_old()
        rows = self._run(lambda database: database.execute("SELECT file FROM images WHERE visitor = ?", (visitor,)).fetchall())
        return [name for (name,) in rows if (self._outputs / name).is_file()]

    def images(self, key: str, most: int = HISTORY_LENGTH) -> list[StoredImage]:
        """The visitor's newest images, newest first, or all with -1; those whose files are gone are left out."""
        visitor = _hashed(key)
        self.forget_old()
        query = "SELECT file, recipe, shared FROM images WHERE visitor = ? ORDER BY created DESC, file DESC LIMIT ?"
        rows = self._run(lambda database: database.execute(query, (visitor, most)).fetchall())
        found = []
        for name, recipe, shared in rows:
            path, marker = self._outputs / name, self._marker(visitor, name, shared)
            if path.is_file():
                has_map = marker.is_file() and marker.stat().st_size > 0
                found.append(StoredImage(path, Recipe.from_dict(json.loads(recipe)), marker if has_map else None))
        return found

    def remove(self, key: str, names: list[str]) -> None:
        """Delete images of this visitor, files and all. Names of others' images are ignored.

        Raises OSError where one cannot be deleted, once the others are.
        """
        visitor = _hashed(key)
        rows = self._run(lambda database: database.execute("SELECT file FROM images WHERE visitor = ?", (visitor,)).fetchall())
        mine = {name for (name,) in rows}
        if refused := self._delete([(visitor, name) for name in names if name in mine]):
            raise refused

    def forget_old(self) -> None:
        """Delete what was made and typed on a shared page more than a day ago, also where the page is private again.

        What cannot be deleted is left to the next time.
        """
        before = time.time() - SHARED_S
        old = self._run(
            lambda database: database.execute("SELECT visitor, file FROM images WHERE shared AND created < ?", (before,)).fetchall()
        )
        with suppress(OSError):
            self._delete(old)
            self._run(lambda database: database.execute("DELETE FROM forms WHERE shared AND changed < ?", (before,)))

    def forget_unlisted(self) -> None:
        """Delete images of a shared page that the index lacks, because it was locked or full when they were made, after a day as well."""
        before = time.time() - SHARED_S
        with suppress(OSError):
            self._delete([each.parts[-2:] for each in (self._outputs / SHARED_FOLDER).glob("*/*") if each.lstat().st_mtime < before])

    def save_record(self, key: str, name: str, fields: dict[str, Any]) -> None:
        """Keep what stands in a tab's form, or what else is kept under a name; "" is the page itself. A full disk is no reason to disturb whoever types."""
        row = (_hashed(key), name, time.time(), json.dumps(fields), self._shared)
        with suppress(OSError):
            self._run(lambda database: database.execute(SAVE_RECORD, row))

    def update_record(self, key: str, name: str, fields: dict[str, Any]) -> None:
        """Keep some fields anew, and the others as they were."""
        with self._lock, suppress(OSError):
            self.save_record(key, name, self.record(key, name) | fields)

    def record(self, key: str, name: str) -> dict[str, Any]:
        """What was kept; empty if nothing was."""
        query = "SELECT fields FROM forms WHERE visitor = ? AND mode = ?"
        row = self._run(lambda database: database.execute(query, (_hashed(key), name)).fetchone())
        return json.loads(row[0]) if row else {}

    def saved_at(self, key: str, name: str) -> float:
        """When it was kept last, in seconds since 1970; 0 if never."""
        query = "SELECT changed FROM forms WHERE visitor = ? AND mode = ?"
        row = self._run(lambda database: database.execute(query, (_hashed(key), name)).fetchone())
        return row[0] if row else 0.0

    def keep_file(self, key: str, name: str, file: Path | None) -> None:
        """Keep a file of the page under a name, or forget it; on a shared page none is kept, since any stranger could fill the disk with them."""
        known = self.file(key, name)
        if file is not None and not self._shared:
            if known and (known.stat().st_size, known.stat().st_mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns):
                return
            folder = self._folder(_hashed(key))
            folder.mkdir(parents=True, exist_ok=True)
            copy = folder / f"{name}{file.suffix.lower()[:8] or '.photo'}"  # browsers show an image by its file's ending
            shutil.copy2(file, copy)
            if copy == known:
                return
        if known:
            known.unlink(missing_ok=True)

    def file(self, key: str, name: str) -> Path | None:
        """The file that was kept."""
        return next(self._folder(_hashed(key)).glob(f"{name}.*"), None)

    def _delete(self, images: Sequence[tuple[str, ...]]) -> OSError | None:
        """Delete images, each a visitor and a name, files and all. Of those that the disk does not delete the rows stay, and the last error is returned."""
        gone, refused = [], None
        for visitor, name in images:
            try:
                (self._outputs / name).unlink(missing_ok=True)
                for shared in (False, True):
                    self._marker(visitor, name, shared).unlink(missing_ok=True)
            except OSError as error:
                refused = error
            else:
                gone.append((visitor, name))
        self._run(lambda database: database.executemany("DELETE FROM images WHERE visitor = ? AND file = ?", gone))
        return refused

    def _marker(self, visitor: str, name: str, shared: bool) -> Path:
        """The small file of an image."""
        return self._outputs / (SHARED_FOLDER if shared else FOLDER) / visitor / name

    def _folder(self, visitor: str) -> Path:
        return self._outputs / FOLDER / visitor

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query in a transaction; a database that is damaged is built again from the images first."""
        with self._lock:
            try:
                with self._open() as database:
                    return query(database)
            except sqlite3.OperationalError as error:  # a full disk, a lock: not damage
                number = REFUSED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # the rest of the code is a detail
                if number is None:
                    raise
                raise OSError(number, os.strerror(number)) from error
            except sqlite3.DatabaseError:
                self._put_aside()
                with self._open() as database:
                    return query(database)

    def _open(self) -> sqlite3.Connection:
        file = self._outputs / FOLDER / "visitors.sqlite3"
        if self._database is None or not file.exists():
            self._close()
            file.parent.mkdir(parents=True, exist_ok=True)
            rebuild = not file.exists() or file.stat().st_size == 0
            self._database = sqlite3.connect(file, check_same_thread=False, timeout=10)
            # Otherwise each click and each pause in typing waits for the disk. What a power cut damages is built again from the images.
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.executescript(TABLES)
            for table in ("images", "forms"):
                if "shared" not in {name for _, name, *_ in self._database.execute(f"PRAGMA table_info({table})")}:
                    self._database.execute(ADD_SHARED.format(table))
            if rebuild:
                self._rebuild(self._database)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def _put_aside(self) -> None:
        self._close()
        file = self._outputs / FOLDER / "visitors.sqlite3"
        file.replace(file.with_name(f"visitors-damaged-{int(time.time())}.sqlite3"))

    def _rebuild(self, database: sqlite3.Connection) -> None:
        """Read the visitors' folders and the recipes in the PNGs. Forms cannot be brought back so."""
        markers = [
            (marker, shared) for shared, folder in enumerate((FOLDER, SHARED_FOLDER)) for marker in (self._outputs / folder).glob("*/*.png")
        ]
        for marker, shared in markers:
            image = self._outputs / marker.name
            try:
                row = (marker.parent.name, marker.name, image.stat().st_mtime, read_recipe(image).to_json(), shared)
            except (OSError, InvalidPicture):
                continue
            database.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", row)
        database.commit()


def _hashed(key: str) -> str:
    if not is_key(key):
        raise InvalidRequest("The page does not know whose images to show. Reload it.")
    return hashlib.sha256(key.encode()).hexdigest()[:32]
