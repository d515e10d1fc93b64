"""Large files, fetched so that an interrupted download goes on within a file: huggingface_hub throws away what it has of one.

Its own functions do the transfer. Whatever goes wrong here is left to ``snapshot_download``, which then fetches the file its own way, or says why not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from flux_demo.background import HEARTBEAT_S
from flux_demo.errors import Cancelled

LARGE = 1_000_000  # bytes; smaller files are fetched again as quickly
SUFFIX = ".part"
SHA256, SHA1 = 64, 40  # hexadecimal digits


def fetch_large(name: str, files: Iterable[Any], blobs: Path, token: str | None, bar: type) -> None:
    """Put the large files of a dry run into the cache, where ``snapshot_download`` finds them. Whatever ``bar`` raises comes through."""
    for file in files:
        if file.will_download and (file.file_size or 0) >= LARGE:
            try:
                _fetch(name, file, blobs, token, bar)
            except Cancelled:
                raise
            except Exception:  # a network that fails, a full disk
                return


def clear(blobs: Path, spared: Container[str]) -> None:
    """Delete the parts of files, but for those with these hashes, and those that another process is fetching."""
    from filelock import FileLock, Timeout

    for part in {path.with_name(path.name.removesuffix(".lock")) for path in blobs.glob(f"*{SUFFIX}*")}:
        if part.name.removesuffix(SUFFIX) in spared:
            continue
        with suppress(Timeout, OSError), FileLock(f"{part}.lock", timeout=0):
            part.unlink(missing_ok=True)
            Path(f"{part}.lock").unlink(missing_ok=True)


def _fetch(name: str, file: Any, blobs: Path, token: str | None, bar: type) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import are_symlinks_supported

    url = hf_hub_url(name, file.filename, revision=file.commit_hash)
    found = get_hf_file_metadata(url, token=token)
    assert found.etag and found.size
    if len(found.etag) not in (SHA256, SHA1):
        return  # parts could not be checked
    blobs.mkdir(parents=True, exist_ok=True)
    # Without symlinks the cache keeps files under snapshots/: snapshot_download would copy a blob there.
    target = blobs / found.etag if are_symlinks_supported(blobs.parent) else Path(file.local_path)
    part = blobs / f"{found.etag}{SUFFIX}"
    with _locked(part, bar):
        if target.exists():
            return
        with part.open("ab") as partial:
            _append(url, partial, found.size, token, bar)
        if _hash(part, len(found.etag)) != found.etag:
            part.unlink()
            raise OSError("the parts do not fit together")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)


def _locked(part: Path, bar: type) -> AbstractContextManager:
    """The file's lock, once no other process has it: either the file is here then, or its fetch was stopped."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{part}.lock")
    while True:
        with suppress(Timeout):
            return lock.acquire(timeout=HEARTBEAT_S)
        bar().update(0)  # raises what ends a wait that nobody wants any more


def _append(url: str, target: BinaryIO, size: int, token: str | None, bar: type) -> None:
    """Append what is missing of the file."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    while (before := target.tell()) < size:
        location = get_hf_file_metadata(url, token=token).location
        headers = build_hf_headers(token=token)
        if urlsplit(location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the token is for the Hub, not for where it keeps its files
        try:
            http_get(location, target, resume_size=before, headers=headers, expected_size=size, tqdm_class=bar)
        except HfHubHTTPError:
            if target.tell() == before:
                raise  # otherwise the link has expired in the meantime


def _hash(file: Path, length: int) -> str:
    """As the Hub names a file: by the SHA-256 of its content or, where it is stored in git itself, as git does."""
    begun = hashlib.sha256() if length == SHA256 else hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: begun).hexdigest()
