"""Large files, fetched so that an interrupted download goes on within a file: huggingface_hub throws away what it has of one.

Its own functions do the transfer. Whatever goes wrong here is left to ``snapshot_download``, which then fetches the file its own way, or says why not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flux_demo.errors import Cancelled

LARGE = 1_000_000  # bytes; smaller files are fetched again as quickly
SUFFIX = ".part"


def fetch_large(name: str, files: Iterable[Any], blobs: Path, token: str | None, bar: type) -> None:
    """Put the large files of a dry run among the cache's blobs, where ``snapshot_download`` finds them. Whatever ``bar`` raises comes through."""
    for file in files:
        if file.will_download and (file.file_size or 0) >= LARGE:
            try:
                _fetch(name, file.filename, file.commit_hash, blobs, token, bar)
            except Cancelled:
                raise
            except Exception:  # a network that fails, a full disk, another process that fetches the same file
                return
    _clear(blobs)


def _clear(blobs: Path) -> None:
    """Delete the parts of older versions of the model, but for those that another process is fetching."""
    from filelock import FileLock, Timeout

    for part in {path.with_name(path.name.removesuffix(".lock")) for path in blobs.glob(f"*{SUFFIX}*")}:
        with suppress(Timeout, OSError), FileLock(f"{part}.lock", timeout=0):
            part.unlink(missing_ok=True)
            Path(f"{part}.lock").unlink(missing_ok=True)


def _fetch(name: str, filename: str, commit: str, blobs: Path, token: str | None, bar: type) -> None:
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(name, filename, revision=commit)
    found = get_hf_file_metadata(url, token=token)
    headers = build_hf_headers(token=token)
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the token is for the Hub, not for where it keeps its files
    assert found.etag and found.size
    blobs.mkdir(parents=True, exist_ok=True)
    blob, part = blobs / found.etag, blobs / f"{found.etag}{SUFFIX}"
    with FileLock(f"{part}.lock", timeout=0):
        if blob.exists():
            return
        with part.open("ab") as target:
            if (size := target.tell()) < found.size:
                http_get(found.location, target, resume_size=size, headers=headers, expected_size=found.size, tqdm_class=bar)
        if len(found.etag) == hashlib.sha256().digest_size * 2 and _sha256(part) != found.etag:
            part.unlink()
            raise OSError("the parts do not fit together")
        part.replace(blob)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
