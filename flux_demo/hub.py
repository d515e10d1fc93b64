"""Model files from the Hugging Face Hub: whether they are here, how many bytes are missing, fetching them.

Looking in the cache asks no network and imports nothing heavy. Whatever the hub answers is put in words.
"""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from flux_demo import background
from flux_demo.errors import Cancelled, DownloadFailed

TIMEOUT_S = 10.0  # for the Hub's answers; the files themselves may take as long as they need

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Download:
    """What a fetch would bring."""

    name: str
    bytes_total: int
    bytes_left: int
    files: int  # that are not here yet


@dataclass(frozen=True)
class Cached:
    """What the cache holds of one model."""

    snapshot: Path  # folder whose files are links into the cache
    listing: Mapping[str, Mapping[str, Any]] | None  # every file of the repository with its size and hash; None in caches of older versions

    def lacks(self, patterns: Sequence[str]) -> bool:
        """Whether a file that matches the patterns is not here yet."""
        if self.listing is None:
            return not all(_is_there(self.snapshot, pattern) for pattern in patterns)
        return any(not (self.snapshot / name).is_file() for name in self.listing if _matches(name, patterns))

    def hashes(self, patterns: Sequence[str]) -> dict[str, str]:
        """Name and hash of every file in the repository that matches, here or not."""
        listing = self.listing or {}
        return {name: file.get("lfs_sha256") or file["blob_id"] for name, file in listing.items() if _matches(name, patterns)}


def local_folder(name: str, patterns: Sequence[str]) -> Path | None:
    """A folder that the person named, or the Hub's model of that name, if all that matches the patterns is here. Quick; asks no network."""
    given = Path(name).expanduser()
    if given.is_dir():
        return given if all(_is_there(given, pattern) for pattern in patterns) else None
    return next((found.snapshot for found in _snapshots(name) if not found.lacks(patterns)), None)


def cached(name: str) -> Cached | None:
    """What the cache holds of the Hub's model of that name, whole or not."""
    return next(_snapshots(name), None)


def _snapshots(name: str) -> Iterator[Cached]:
    """The newest version that the cache knows, then older ones: a look at the hub makes a version known before its files come."""
    home = _home(name)
    try:
        newest = (home / "refs" / "main").read_text("ascii").strip()
    except (OSError, ValueError):
        newest = ""
    try:
        folders = [folder for folder in (home / "snapshots").iterdir() if folder.is_dir()]
    except OSError:
        return
    for snapshot in sorted(folders, key=lambda folder: folder.name != newest):
        try:
            listing = json.loads((home / "trees" / f"{snapshot.name}.json").read_text("utf-8"))["files"]
        except (OSError, ValueError, KeyError):
            listing = None
        yield Cached(snapshot, listing)


def _home(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def missing(name: str, patterns: Sequence[str], token: str | None = None) -> Download:
    """How many bytes a fetch would bring. Asks the hub. Raises DownloadFailed."""
    if Path(name).expanduser().is_dir():
        raise DownloadFailed("This model is a folder of yours, so there is nothing to fetch. Copy the missing files into it.")
    from huggingface_hub import snapshot_download

    with worded(name):
        files = snapshot_download(
            name,
            allow_patterns=list(patterns),
            token=token,
            dry_run=True,
            tqdm_class=_silent_bar(threading.Event()),
            etag_timeout=TIMEOUT_S,
        )
    if not files:
        raise DownloadFailed(f"{name} holds none of the files that are needed. Name a model in diffusers' layout.")
    left = [file for file in files if file.will_download]
    return Download(name, sum(file.file_size or 0 for file in files), sum(file.file_size or 0 for file in left), len(left))


def fetch(name: str, patterns: Sequence[str], token: str | None = None, on_bytes: OnBytes | None = None) -> Path:
    """Fetch what is missing, going on where an earlier try ended, and return the folder.

    ``on_bytes(done, total)`` is called at least every 0.2 s and may raise Cancelled; what has come stays. Raises DownloadFailed.
    """
    size = missing(name, patterns, token)
    blobs = _home(name) / "blobs"
    complete_before = _bytes_in(blobs) - _bytes_in(blobs, "*.incomplete")
    stop = threading.Event()

    def report() -> None:
        if on_bytes:
            arrived = _bytes_in(blobs) - complete_before
            on_bytes(min(size.bytes_total, size.bytes_total - size.bytes_left + arrived), size.bytes_total)

    download = background.start(lambda: _download(name, patterns, token, stop), "fetch")
    try:
        with worded(name):
            folder = background.wait_for(download, report)
    finally:
        stop.set()  # ends the download if the caller was stopped
    if on_bytes:
        on_bytes(size.bytes_total, size.bytes_total)
    return folder


def same_files(name: str, other: str, patterns: Sequence[str], token: str | None = None) -> bool:
    """Whether two models on the hub hold the same files under the patterns, by their hashes. Asks the hub. Raises DownloadFailed."""
    return bool(hashes := hub_hashes(name, patterns, token)) and hashes == hub_hashes(other, patterns, token)


def hub_hashes(name: str, patterns: Sequence[str], token: str | None = None) -> dict[str, str]:
    """Name and hash of every file of a model on the hub. Raises DownloadFailed."""
    from huggingface_hub import HfApi

    with worded(name):
        found = HfApi(token=token).model_info(name, files_metadata=True, timeout=TIMEOUT_S)
    files = {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) for file in found.siblings or []}
    return {file: value or "" for file, value in files.items() if _matches(file, patterns)}


@contextmanager
def worded(name: str) -> Iterator[None]:
    """Put what the hub's library raises in words."""
    try:
        yield
    except (DownloadFailed, Cancelled):
        raise
    except Exception as error:
        raise DownloadFailed(_words(name, error)) from error


def _words(name: str, error: BaseException) -> str:
    from huggingface_hub import errors

    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)

    def met(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    page = f"https://huggingface.co/{name}"
    status = next(
        (link.response.status_code for link in chain if isinstance(link, errors.HfHubHTTPError) and link.response is not None), None
    )
    if met(errors.GatedRepoError):
        return f"{name} is given only to those who accepted its licence. Accept it on {page}, set HF_TOKEN to a token of that account, and try again."
    if met(errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE keeps the Hugging Face library from the network. Unset it and try again."
    if met(errors.HFValidationError):
        return f"{name!r} is no name of a model on Hugging Face, and no folder. Check the name in the settings."
    if status == 401 or met(errors.RepositoryNotFoundError):
        return f"Hugging Face does not show {name} to you. Check the name; if it is right, accept its licence on {page} and set HF_TOKEN to your token."
    if any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in chain):
        return f"The disk is full, and {name} is not whole yet. Make room, or set HF_HOME to a larger disk, and fetch again: it goes on where it ended."
    if status is not None:
        return f"Hugging Face answered with error {status} for {name}. Try again later: it goes on where it ended."
    return f"Hugging Face cannot be reached for {name}. Check the network and try again: it goes on where it ended."


def _download(name: str, patterns: Sequence[str], token: str | None, stop: threading.Event) -> Path:
    from huggingface_hub import snapshot_download

    bar = _silent_bar(stop)
    return Path(snapshot_download(name, allow_patterns=list(patterns), token=token, tqdm_class=bar, etag_timeout=TIMEOUT_S))


def _silent_bar(stop: threading.Event) -> type:
    """A progress bar that shows nothing, and ends the download once ``stop`` is set."""
    from huggingface_hub.utils import logging
    from tqdm.auto import tqdm

    logging.set_verbosity_error()

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise Cancelled

    return Silent


def _bytes_in(folder: Path, pattern: str = "*") -> int:
    total = 0
    for file in folder.glob(pattern) if folder.is_dir() else ():
        try:
            total += file.stat().st_size
        except OSError:  # renamed meanwhile
            continue
    return total


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _is_there(folder: Path, pattern: str) -> bool:
    """Whether what the pattern names is here: a file, or a folder that is not empty and whose index, if it has one, names only files that are here."""
    if not any(file.is_file() for file in folder.glob(pattern)):
        return False
    for index in folder.glob(f"{Path(pattern).parent.as_posix()}/*.index.json"):
        try:
            shards = shards_of(index)
        except ValueError:
            return False
        if not all(shard.is_file() for shard in shards):
            return False
    return True


def shards_of(index: Path) -> list[Path]:
    """The files beside an index (``*.index.json``) that it names, here or not. Raises ValueError for one that cannot be read."""
    try:
        names = {Path(name).name for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index.name} cannot be read") from error
    return sorted(index.parent / name for name in names)
