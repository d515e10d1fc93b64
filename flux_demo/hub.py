"""Model files from the Hugging Face Hub: whether they are here, how many bytes are missing, fetching them.

Looking into the cache needs no network. Whatever goes wrong at the Hub becomes a DownloadFailed with a sentence.
"""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from flux_demo import background, folders
from flux_demo.environment import hub_cache_variable
from flux_demo.errors import Cancelled, DownloadFailed
from flux_demo.hub_errors import translated_errors
from flux_demo.hub_parts import SUFFIX, clear, fetch_large
from flux_demo.progress import OnBytes
from flux_demo.settings import expanded

TIMEOUT_S = 10.0  # for the Hub's answers; the files themselves may take as long as they need

FILES = ("blobs/*", "snapshots/**/*")  # where the cache keeps a model's files: under snapshots/ if the disk has no symlinks


@dataclass(frozen=True)
class DownloadSize:
    """What a fetch would download."""

    name: str  # of the model on the Hub
    bytes_total: int  # of all files that are needed, here or not
    bytes_left: int  # of those that are not here yet, without what an earlier try brought of them
    files: int  # how many are not here yet


@dataclass(frozen=True)
class CachedSnapshot:
    """What the cache holds of one version of a model."""

    snapshot: Path  # folder whose files are links into the cache
    listing: Mapping[str, str] | None  # every file of the repository with its git hash; None where the cache has no listing

    def lacks(self, patterns: Sequence[str]) -> bool:
        """Whether a file that matches the patterns is not here yet."""
        if self.listing is None:
            return not all(_is_here(self.snapshot, pattern) for pattern in patterns)
        named = {pattern for pattern in patterns if _is_name(pattern)}
        return any(not (self.snapshot / name).is_file() for name in {*self.listing, *named} if _matches(name, patterns))

    def hashes(self, patterns: Sequence[str]) -> dict[str, str]:
        """Name and git hash of every file in the repository that matches, here or not."""
        return {name: value for name, value in (self.listing or {}).items() if _matches(name, patterns)}


def local_folder(name: str, patterns: Sequence[str]) -> Path | None:
    """The folder of that name, or the cached snapshot of the Hub's model of that name, if every file that matches the patterns is here.

    None if not. Quick, and needs no network.
    """
    given = expanded(name)
    if given.is_dir():
        return given if all(_is_here(given, pattern) for pattern in patterns) else None
    return next((found.snapshot for found in _snapshots(name) if not found.lacks(patterns)), None)


def cached_snapshot(name: str) -> CachedSnapshot | None:
    """What the cache holds of the Hub's model of that name, complete or not; None if nothing."""
    return next(_snapshots(name), None)


def _snapshots(name: str) -> Iterator[CachedSnapshot]:
    """The newest version that the cache knows of, then older ones, because a version becomes known before its files are downloaded. Not those of
    other branches, tags and pull requests.

    The folders refs/ and snapshots/ are the cache's documented layout. ``scan_cache_dir`` would read them too, with every other model's.
    """
    home = _home(name)
    try:
        commits = {
            ref.relative_to(home / "refs").as_posix(): ref.read_text("ascii").strip() for ref in (home / "refs").rglob("*") if ref.is_file()
        }
    except (OSError, ValueError):
        commits = {}
    newest = commits.pop("main", "")
    others = {*commits.values()} - {newest}
    try:
        folders = {
            folder: folder.stat().st_mtime for folder in (home / "snapshots").iterdir() if folder.is_dir() and folder.name not in others
        }
    except OSError:
        return
    for snapshot in sorted(folders, key=lambda folder: (folder.name == newest, folders[folder]), reverse=True):
        yield CachedSnapshot(snapshot, _listing(name, snapshot.name))


def _listing(name: str, commit: str) -> dict[str, str] | None:
    """Every file of a version of the model with its git hash, as the last download found it; None in caches of older libraries."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return {file.path: file.blob_id for file in get_cached_repo_tree(name, revision=commit)}
    except (CachedRepoTreeNotFoundError, ValueError):  # ValueError: a folder that is named like no model or no version
        return None


def cache_folder() -> Path:
    """Where the Hub's library keeps downloads. It reads HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME itself."""
    from huggingface_hub import constants

    return expanded(constants.HF_HUB_CACHE)


def cache_problem() -> str | None:
    """Why nothing can be downloaded into the folder, in two sentences; None if something can."""
    why = folders.problem(cache_folder())
    variable = hub_cache_variable()
    blamed = f", which {variable} names," if variable else ""
    return why and (
        f"Nothing can be downloaded into the folder of Hugging Face's files{blamed} because {why}. "
        f"Set {variable or 'HF_HOME'} to a folder that can be written to."
    )


def _home(name: str) -> Path:
    return cache_folder() / f"models--{name.replace('/', '--')}"


def download_size(name: str, patterns: Sequence[str], token: str | None = None) -> DownloadSize:
    """What a fetch would download. Asks the Hub, unless the model is a folder here. Raises DownloadFailed."""
    if (given := expanded(name)).is_dir():
        if local_folder(name, patterns):
            return DownloadSize(
                name, sum(file.stat().st_size for pattern in patterns for file in given.glob(pattern) if file.is_file()), 0, 0
            )
        raise DownloadFailed("This model is a local folder, so there is nothing to fetch. Copy the missing files into it.")
    if problem := cache_problem():
        raise DownloadFailed(problem)
    from huggingface_hub import snapshot_download

    with translated_errors(name, token):
        files = snapshot_download(
            name,
            allow_patterns=list(patterns),
            token=token,
            dry_run=True,
            tqdm_class=_silent_bar(threading.Event()),
            etag_timeout=TIMEOUT_S,
        )
    if not files:
        raise DownloadFailed(f"{name} holds none of the files that are needed. Choose a model in diffusers' layout.")
    if lost := [pattern for pattern in patterns if _is_name(pattern) and pattern not in {file.filename for file in files}]:
        raise DownloadFailed(f"{name} holds no {lost[0]}, which is needed. Choose another model.")
    left = [file for file in files if file.will_download]
    bytes_left = sum(file.file_size or 0 for file in left) - _bytes_of_parts(name, patterns, token)
    return DownloadSize(name, sum(file.file_size or 0 for file in files), max(bytes_left, len(left)), len(left))


def fetch(name: str, patterns: Sequence[str], token: str | None = None, on_bytes: OnBytes | None = None) -> Path:
    """Download what is missing, continuing where an earlier try stopped, and return the folder.

    ``on_bytes`` is called at least every 0.2 s; when it raises Cancelled, what has arrived is kept. Raises DownloadFailed.
    """
    size = download_size(name, patterns, token)
    home = _home(name)
    complete_before = _bytes_in(home, *FILES) - _bytes_in(home, "blobs/*.incomplete")
    stop = threading.Event()

    def report() -> None:
        if on_bytes:
            arrived = _bytes_in(home, *FILES) - complete_before
            on_bytes(min(size.bytes_total, size.bytes_total - size.bytes_left + arrived), size.bytes_total)

    download = background.start(lambda: _download(name, patterns, token, stop), "fetch")
    try:
        folder = background.wait_for(download, report)
    finally:
        stop.set()  # also ends the download when on_bytes raised
    if on_bytes:
        on_bytes(size.bytes_total, size.bytes_total)
    return folder


def same_files(name: str, other: str, patterns: Sequence[str], token: str | None = None) -> bool:
    """Whether two models on the Hub have the same files under the patterns, by their hashes. Asks the Hub. Raises DownloadFailed."""
    return bool(hashes := hub_hashes(name, patterns, token)) and hashes == hub_hashes(other, patterns, token)


def hub_hashes(name: str, patterns: Sequence[str], token: str | None = None) -> dict[str, str]:
    """Name and hash of every file of a model on the Hub that matches the patterns. Asks the Hub. Raises DownloadFailed."""
    from huggingface_hub import HfApi

    with translated_errors(name, token):
        found = HfApi(token=token).model_info(name, files_metadata=True, timeout=TIMEOUT_S)
    files = {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) for file in found.siblings or []}
    return {file: value or "" for file, value in files.items() if _matches(file, patterns)}


def _bytes_of_parts(name: str, patterns: Sequence[str], token: str | None) -> int:
    """What an earlier try brought of the files that match."""
    blobs = _home(name) / "blobs"
    wanted = hub_hashes(name, patterns, token).values() if any(blobs.glob(f"*{SUFFIX}")) else ()
    return sum(_bytes_in(blobs, f"{value}{SUFFIX}") for value in {*wanted})


def _clear_parts(name: str, patterns: Sequence[str], token: str | None) -> None:
    """Delete the parts of files that are complete now, and of older versions; those of this version's other files may be continued."""
    blobs = _home(name) / "blobs"
    if any(blobs.glob(f"*{SUFFIX}*")):
        with suppress(DownloadFailed):
            hashes = hub_hashes(name, ["*"], token)
            complete = {value for file, value in hashes.items() if _matches(file, patterns)}
            clear(blobs, {*hashes.values()} - complete)


def _download(name: str, patterns: Sequence[str], token: str | None, stop: threading.Event) -> Path:
    from huggingface_hub import snapshot_download

    def ask(**options: Any) -> Any:
        return snapshot_download(name, allow_patterns=list(patterns), token=token, tqdm_class=bar, etag_timeout=TIMEOUT_S, **options)

    bar = _silent_bar(stop)
    with translated_errors(name, token):
        fetch_large(name, ask(dry_run=True), _home(name) / "blobs", token, bar)
        folder = Path(ask())
    _clear_parts(name, patterns, token)
    return folder


def _silent_bar(stop: threading.Event) -> type:
    """A class of progress bars that show nothing, and end the download once ``stop`` is set."""
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


def _bytes_in(folder: Path, *patterns: str) -> int:
    """Of the files that match, links not counted."""
    total = 0
    for file in (file for pattern in patterns for file in folder.glob(pattern)):
        try:
            found = file.lstat()
        except OSError:  # renamed in the meantime
            continue
        total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _is_name(pattern: str) -> bool:
    """Whether the pattern has no wildcard: there must be a file of that name."""
    return "*" not in pattern


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _is_here(folder: Path, pattern: str) -> bool:
    """Whether a file matches the pattern, and every file that an index beside it names is here."""
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
    """The files that an index (``*.index.json``) names, beside it, whether they exist or not. Raises ValueError if it cannot be read."""
    try:
        names = {Path(name).name for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index.name} cannot be read") from error
    return sorted(index.parent / name for name in names)
