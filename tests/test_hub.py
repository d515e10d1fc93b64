"""Fetching from a Hub on loopback, each time in a new Python: the library reads its environment once, at import."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import scan_cache_dir

from flux_demo import hub
from stand_ins.hub import COMMIT, Hub, etag

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ["model_index.json", "transformer/*"]
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
FILES = {
    "model_index.json": b"[]",
    "transformer/config.json": b"{}",
    "transformer/a.safetensors": WEIGHTS,
    "flux1-dev.safetensors": WEIGHTS,
}

SCRIPT = """
import json, sys, threading
from flux_demo import hub
from flux_demo.errors import Cancelled, DownloadFailed
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 65536  # small files need small chunks
what, name, patterns, token, stop_at = json.loads(sys.argv[1])
seen = []
def on_bytes(done, total):
    seen.append((done, total))
    if stop_at and done >= stop_at:
        raise Cancelled
try:
    if what == "fetch":
        result = str(hub.fetch(name, patterns, token, on_bytes))
    elif what == "missing":
        result = vars(hub.missing(name, patterns, token))
    elif what == "same":
        result = hub.same_files(name, "them/other", patterns, token)
    else:
        result = str(hub.local_folder(name, patterns))
except (Cancelled, DownloadFailed) as error:
    result = [type(error).__name__, str(error)]
for thread in threading.enumerate():
    if thread.name == "fetch":
        thread.join()  # a fetch that is stopped ends
print(json.dumps([result, seen]))
"""


@pytest.fixture
def ask(tmp_path):
    """``ask(url, what, name, ...)`` -> (result, what on_bytes saw); nothing else may be printed."""

    def run(url, what, name="us/model", patterns=PATTERNS, token=None, stop_at=None, **variables):
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", **variables}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps([what, name, patterns, token, stop_at])],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return json.loads(done.stdout)

    return run


def test_only_needed_files_are_counted_and_fetched(ask):
    with Hub({"us/model": FILES}) as server:
        assert ask(server.url, "here")[0] == "None"
        size, _ = ask(server.url, "missing")
        assert size == {"name": "us/model", "bytes_total": len(WEIGHTS) + 4, "bytes_left": len(WEIGHTS) + 4, "files": 3}
        assert server.downloads() == []
        folder, seen = ask(server.url, "fetch")
        assert sorted(server.downloads()) == ["model_index.json", "transformer/a.safetensors", "transformer/config.json"]
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS
        assert seen[-1] == [len(WEIGHTS) + 4] * 2 and seen == sorted(seen)
        assert ask(server.url, "missing")[0]["bytes_left"] == 0
        server.asked.clear()
        assert ask(server.url, "here")[0] == folder
        assert ask(server.url, "fetch")[0] == folder
        assert server.downloads() == []


def test_a_stopped_fetch_continues_where_it_ended(ask):
    with Hub({"us/model": FILES}) as server:
        server.slow_s = 0.02
        stopped, seen = ask(server.url, "fetch", stop_at=len(WEIGHTS) // 4)
        assert stopped[0] == "Cancelled" and seen[-1][0] < len(WEIGHTS)
        assert ask(server.url, "here")[0] == "None"  # half a download is no download
        server.slow_s = 0
        folder, seen = ask(server.url, "fetch")
        assert seen[0][0] > len(WEIGHTS) // 8  # not from the beginning of its one large file
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS
        assert not list(Path(folder).parents[1].rglob("*.part*"))


def test_what_the_callers_own_code_raises_is_not_taken_for_a_fault_of_the_hub(monkeypatch):
    monkeypatch.setattr(hub, "missing", lambda *_: hub.Download("us/model", 8, 8, 1))
    monkeypatch.setattr(hub, "_download", lambda *_: time.sleep(0.5))
    with pytest.raises(ZeroDivisionError):
        hub.fetch("us/model", PATTERNS, on_bytes=lambda *_: 1 / 0)


def test_a_part_that_does_not_fit_is_fetched_again(ask, tmp_path):
    with Hub({"us/model": FILES}) as server:
        blobs = tmp_path / "home" / "hub" / "models--us--model" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{etag(WEIGHTS)}.part").write_bytes(b"something else")
        folder, _ = ask(server.url, "fetch")
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS


def test_a_broken_connection_is_resumed(ask):
    with Hub({"us/model": FILES}) as server:
        server.cut_after["transformer/a.safetensors"] = len(WEIGHTS) // 2
        folder, _ = ask(server.url, "fetch")
        assert server.downloads().count("transformer/a.safetensors") == 2
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS


def test_a_link_that_expires_meanwhile_is_asked_for_again(ask):
    with Hub({"us/model": FILES}) as server:
        server.signed = True
        server.cut_after["transformer/a.safetensors"] = len(WEIGHTS) // 2
        folder, _ = ask(server.url, "fetch", token="hf_mine")
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS
        assert server.sent < 1.25 * len(WEIGHTS), "it began anew"


def test_a_file_that_another_process_fetches_is_waited_for(ask):
    with Hub({"us/model": FILES}) as server, ThreadPoolExecutor(2) as pool:
        server.slow_s = 0.05
        first = pool.submit(ask, server.url, "fetch")
        while "transformer/a.safetensors" not in server.downloads() and not first.done():
            time.sleep(0.01)
        second = pool.submit(ask, server.url, "fetch")
        assert first.result()[0] == second.result()[0]
        assert server.sent < 1.25 * len(WEIGHTS), "it was fetched twice"


def test_whoever_waits_for_another_process_can_stop(ask, tmp_path):
    blobs = tmp_path / "home" / "hub" / "models--us--model" / "blobs"
    blobs.mkdir(parents=True)
    with Hub({"us/model": FILES}) as server, FileLock(blobs / f"{etag(WEIGHTS)}.part.lock"):
        assert ask(server.url, "fetch", stop_at=-1)[0][0] == "Cancelled"
        assert server.downloads() == []


def test_without_links_a_model_is_stored_once(ask, tmp_path):
    """As on Windows, where a user may make none by default."""
    home, without = tmp_path / "home" / "hub" / "models--us--model", {"HF_HUB_DISABLE_SYMLINKS": "1"}
    with Hub({"us/model": FILES}) as server:
        server.slow_s = 0.02
        assert ask(server.url, "fetch", stop_at=len(WEIGHTS) // 4, **without)[0][0] == "Cancelled"
        folder, seen = ask(server.url, "fetch", **without)
        assert seen[0][0] > len(WEIGHTS) // 8 and seen == sorted(seen)
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS
        stored = {(file.stat().st_dev, file.stat().st_ino): file.stat().st_size for file in home.rglob("*") if file.is_file()}
        assert sum(stored.values()) < 1.25 * len(WEIGHTS)
        server.asked.clear()
        assert ask(server.url, "fetch", **without)[0] == folder == ask(server.url, "here", **without)[0]
        assert server.downloads() == []
    cache = scan_cache_dir(tmp_path / "home" / "hub")
    assert not cache.warnings and cache.size_on_disk >= len(WEIGHTS)
    cache.delete_revisions(COMMIT).execute()
    assert not home.exists()


@pytest.mark.parametrize("what", ["missing", "fetch"])
def test_a_gated_model_names_its_page_and_the_token(ask, what):
    with Hub({"us/model": FILES}, gated=("us/model",), token="hf_right") as server:
        for token in (None, "hf_wrong"):
            (kind, message), _ = ask(server.url, what, token=token)
            assert kind == "DownloadFailed" and "https://huggingface.co/us/model" in message and "HF_TOKEN" in message
            assert "hf_wrong" not in message
        assert ask(server.url, "missing", token="hf_right")[0]["files"] == 3


def test_every_failure_is_two_sentences(ask):
    with Hub({"us/model": FILES, "us/empty": {"other.bin": b"1"}}) as server:
        cases = {
            "does not show us/none": dict(name="us/none"),
            "is neither a model": dict(name="a model"),
            "holds none of the files": dict(name="us/empty"),
            "HF_HUB_OFFLINE": dict(HF_HUB_OFFLINE="1"),
        }
        answers = {expected: ask(server.url, "missing", **given)[0] for expected, given in cases.items()}
        server.error = 503
        answers["error 503"] = ask(server.url, "missing")[0]
    answers["cannot be reached"] = ask(server.url, "missing")[0]  # the server is gone
    for expected, (kind, message) in answers.items():
        assert kind == "DownloadFailed" and expected in message and "Traceback" not in message and str(ROOT) not in message
        assert message.rstrip(".").count(". ") == 1, message


def test_the_same_files_are_recognised_by_their_hashes_without_fetching(ask):
    other = {**FILES, "transformer/a.safetensors": WEIGHTS[::-1]}
    with Hub({"us/model": FILES, "them/other": other}) as server:
        assert ask(server.url, "same", patterns=["model_index.json", "flux1*"])[0] is True
        assert ask(server.url, "same")[0] is False
        assert ask(server.url, "same", patterns=["nothing/*"])[0] is False
        assert server.downloads() == []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """``cache(files that are here, files that the listing names)`` writes what the library leaves in its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def write(here, listed=None, commit=COMMIT):
        home = tmp_path / "models--us--model"
        for name in here:
            file = home / "snapshots" / commit / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(here[name] if isinstance(here, dict) else "x")
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / "main").write_text(commit)
        if listed is not None:
            (home / "trees").mkdir(exist_ok=True)
            files = {name: {"size": 1, "blob_id": name} for name in listed}
            (home / "trees" / f"{commit}.json").write_text(json.dumps({"format_version": 1, "files": files}))
        return home / "snapshots" / commit

    return write


def test_a_download_without_a_listed_file_is_not_complete(cache):
    names = ["model_index.json", "transformer/a.safetensors", "transformer/b.safetensors"]
    cache(names[:2], names)
    assert hub.local_folder("us/model", PATTERNS) is None
    assert hub.local_folder("us/model", ["model_index.json"]) is not None
    folder = cache(names, names)
    assert hub.local_folder("us/model", PATTERNS) == folder


def test_a_cache_without_a_listing_is_judged_by_the_index(cache):
    index = json.dumps({"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}})
    here = {"model_index.json": "{}", "transformer/model.safetensors.index.json": index, "transformer/one.safetensors": "1"}
    cache(here)
    assert hub.local_folder("us/model", PATTERNS) is None
    folder = cache({**here, "transformer/two.safetensors": "2"})
    assert hub.local_folder("us/model", PATTERNS) == folder


def test_a_newer_listing_does_not_hide_the_version_that_is_here(cache):
    names = ["model_index.json", "transformer/a.safetensors"]
    folder = cache(names, names, commit="a" * 40)
    cache(names[:1], names, commit="b" * 40)
    assert hub.local_folder("us/model", PATTERNS) == folder


def test_a_complete_folder_is_taken_as_it_is(tmp_path):
    assert hub.local_folder(str(tmp_path), PATTERNS) is None
    (tmp_path / "transformer").mkdir()
    for name in ("model_index.json", "transformer/a.safetensors"):
        (tmp_path / name).write_text("x")
    assert hub.local_folder(str(tmp_path), PATTERNS) == tmp_path


def test_nothing_is_fetched_into_a_folder(tmp_path):
    with pytest.raises(hub.DownloadFailed, match="nothing to fetch"):
        hub.missing(str(tmp_path), PATTERNS)
