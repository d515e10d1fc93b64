"""The folder for uploads and for what the browser fetches: private to this process, cleared while it runs, removed at the end."""

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from flux_demo import folders
from flux_demo.errors import InvalidRequest

KEPT_S = 3600.0  # how long a file stays that no history names
EVERY_S = 300.0  # between two clearings
PREFIX = "flux_demo-"
LOCK = ".lock"  # held while the process lives, so that the next one can tell what was left behind


_locks: dict[Path, Any] = {}  # the folders of this process, each with its open lock file
_served: Counter[Path] = Counter()  # by folder, how many pages are served from it


def private_folder() -> Path:
    """This process's own folder, mode 0700, made at the first call and named to Gradio as its upload folder.

    Raises InvalidRequest when the folder that GRADIO_TEMP_DIR names cannot hold it.
    """
    named = Path(get_upload_folder())
    if named in _locks and named.is_dir():
        return named
    # Without GRADIO_TEMP_DIR Gradio takes a folder that all users of the machine share, and that belongs to whoever came first.
    system = Path(tempfile.gettempdir())
    parent = system if named == (system / "gradio").resolve() else named
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        _locks[folder] = _lock(folder / LOCK)
    except OSError as error:
        raise InvalidRequest(
            f"Uploads cannot be kept: the temporary folder refuses them ({folders.reason(error)}). "
            "Set GRADIO_TEMP_DIR to a folder of your own that can be written."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(remove, folder)
    return folder


def make_again(folder: Path) -> None:
    """Make the folder again, private as before, if the system's own clearing has removed it: Gradio would let all users of the machine read it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """While a page is served from a folder. The last of them that ends removes it."""
    _served[folder] += 1
    try:
        yield
    finally:
        _served[folder] -= 1
        if not _served[folder]:
            remove(folder)


def remove(folder: Path | None = None) -> None:
    """Remove a folder of this process, or all of them. The program calls it too where it ends without Python's own exit."""
    for each in [folder] if folder else list(_locks):
        shutil.rmtree(each, ignore_errors=True)
        if file := _locks.pop(each, None):
            file.close()
        if Path(get_upload_folder()) == each:
            os.environ["GRADIO_TEMP_DIR"] = str(each.parent)  # a page that is built later gets a folder of its own there


def clear(folder: Path, kept: Iterable[str], older_than_s: float = KEPT_S) -> set[str]:
    """Delete the files that are older than that and not among ``kept``, and the folders that this leaves empty. Returns what is gone."""
    spared = {os.path.realpath(path) for path in kept}
    before = time.time() - older_than_s
    gone = set()
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = os.path.join(directory, name)
            try:
                if name != LOCK and os.path.realpath(path) not in spared and _changed(path) < before:
                    os.unlink(path)
                    gone.add(path)
            except OSError:  # gone already, or open on a system that does not delete such files: the next clearing finds it
                continue
        try:
            if directory != str(folder) and _changed(directory) < before:
                os.rmdir(directory)
        except OSError:  # not empty
            continue
    return gone


def paths_in(value: Any, folder: Path) -> set[str]:
    """Every path under ``folder`` that a value of a session names, however deep: a history, an entry, a map that is shown."""
    found: set[str] = set()
    left, seen = [value], set()
    while left:
        each = left.pop()
        if isinstance(each, str):
            if each.startswith(f"{folder}{os.sep}"):
                found.add(each)
        elif isinstance(each, Path):
            left.append(str(each))
        elif id(each) not in seen:
            seen.add(id(each))
            if isinstance(each, dict):
                left += each.values()
            elif isinstance(each, list | tuple | set):
                left += each
            elif is_dataclass(each) and not isinstance(each, type):
                left += [getattr(each, row.name) for row in fields(each)]
    return found


def clear_often(clearing: Callable[[], object], stopped: threading.Event) -> None:
    """Call ``clearing`` every few minutes until ``stopped``, in a thread of its own; an error of one time does not end it."""

    def work() -> None:
        while not stopped.wait(EVERY_S):
            try:
                clearing()
            except Exception:  # the next time tries again; what could not be cleared is removed at the end
                continue

    threading.Thread(target=work, name="clear-temporary", daemon=True).start()


def _changed(path: str) -> float:
    """When a file came here; a copy may keep the older time of its content."""
    found = os.lstat(path)
    return max(found.st_mtime, found.st_ctime)


def _lock(path: Path) -> Any:
    """An open file that is locked for as long as this process lives."""
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - it stays open
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: what is open cannot be deleted there, which tells as much
        pass
    except OSError:
        file.close()
        raise
    return file


def _remove_left_behind(parent: Path) -> None:
    """Remove the folders of processes that were killed, and only those: a living one holds its lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            lock = folder / LOCK
            if folder in _locks or folder.is_symlink() or folder.stat().st_uid != _user() or not lock.is_file():
                continue
            _lock(lock).close()
            lock.unlink()  # Windows, without locks, refuses this while its process lives
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another user's, or in use
            continue


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
