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
from flux_demo.errors import UNVERIFIED
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
    elif what == "size":
        result = vars(hub.download_size(name, patterns, token))
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
        size, _ = ask(server.url, "size")
        assert size == {"name": "us/model", "bytes_total": len(WEIGHTS) + 4, "bytes_left": len(WEIGHTS) + 4, "files": 3}
        assert server.downloads() == []
        folder, seen = ask(server.url, "fetch")
        assert sorted(server.downloads()) == ["model_index.json", "transformer/a.safetensors", "transformer/config.json"]
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS
        assert seen[-1] == [len(WEIGHTS) + 4] * 2 and seen == sorted(seen)
        assert ask(server.url, "size")[0]["bytes_left"] == 0
        server.requests.clear()
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
    monkeypatch.setattr(hub, "download_size", lambda *_: hub.DownloadSize("us/model", 8, 8, 1))
    monkeypatch.setattr(hub, "_download", lambda *_: time.sleep(0.5))
    with pytest.raises(ZeroDivisionError):
        hub.fetch("us/model", PATTERNS, on_bytes=lambda *_: 1 / 0)


@pytest.mark.parametrize("part", [b"something else", bytes(len(WEIGHTS))], ids=["short", "whole"])
@pytest.mark.parametrize("from_here", [1000, 10**9], ids=["in LFS", "in git"])
def test_a_part_that_does_not_fit_is_fetched_again(ask, tmp_path, monkeypatch, part, from_here):
    monkeypatch.setattr("stand_ins.hub.LARGE", from_here)
    with Hub({"us/model": FILES}) as server:
        blobs = tmp_path / "home" / "hub" / "models--us--model" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / f"{etag(WEIGHTS)}.part").write_bytes(part)
        folder, _ = ask(server.url, "fetch")
        assert (Path(folder) / "transformer" / "a.safetensors").read_bytes() == WEIGHTS


def test_a_part_of_another_file_counts_for_nothing_and_stays_until_that_is_fetched(ask, tmp_path):
    other = bytes(range(256)) * 8000
    with Hub({"us/model": FILES | {"vae/b.safetensors": other}}) as server:
        blobs = tmp_path / "home" / "hub" / "models--us--model" / "blobs"
        blobs.mkdir(parents=True)
        unfinished, old = (blobs / f"{name}.part" for name in (etag(other), "0" * 64))
        unfinished.write_bytes(other[: len(other) // 2])
        old.write_bytes(WEIGHTS)
        assert ask(server.url, "size")[0]["bytes_left"] == len(WEIGHTS) + 4
        ask(server.url, "fetch")
        assert unfinished.exists() and not old.exists()
        assert ask(server.url, "size", patterns=["vae/*"])[0]["bytes_left"] == len(other) - len(other) // 2
        ask(server.url, "fetch", patterns=["vae/*"])
        assert not unfinished.exists()


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
        server.requests.clear()
        assert ask(server.url, "fetch", **without)[0] == folder == ask(server.url, "here", **without)[0]
        assert server.downloads() == []
    cache = scan_cache_dir(tmp_path / "home" / "hub")
    assert not cache.warnings and cache.size_on_disk >= len(WEIGHTS)
    cache.delete_revisions(COMMIT).execute()
    assert not home.exists()


@pytest.mark.parametrize("what", ["size", "fetch"])
def test_a_gated_model_names_its_page_and_the_token(ask, what):
    with Hub({"us/model": FILES}, gated=("us/model",), token="hf_right") as server:
        for token in (None, "hf_wrong"):
            (kind, message), _ = ask(server.url, what, token=token)
            assert kind == "DownloadFailed" and "https://huggingface.co/us/model" in message and "HF_TOKEN" in message
            assert "hf_wrong" not in message
        assert ask(server.url, "size", token="hf_right")[0]["files"] == 3


def test_a_token_that_is_refused_is_told_apart_from_one_that_may_not_read_the_model(ask):
    with Hub({"us/model": FILES}, gated=("us/model",), token="hf_right") as server:
        server.expired, server.without_permission = "hf_expired", "hf_narrow"
        for what in ("size", "fetch"):
            (_, rejected), (_, forbidden) = (ask(server.url, what, token=token)[0] for token in ("hf_expired", "hf_narrow"))
            assert "rejected the token" in rejected and "lacks the permission to read us/model" in forbidden
            for message in (rejected, forbidden):
                assert "HF_TOKEN" in message and "https://huggingface.co/settings/tokens" in message
                assert "hf_" not in message and message.rstrip(".").count(". ") == 1


def test_a_certificate_that_is_not_verified_is_said(ask, certificate):
    with Hub({"us/model": FILES}) as server:
        server.speak_tls(*certificate)
        assert ask(server.url, "fetch")[0] == ["DownloadFailed", UNVERIFIED]
        assert server.requests == []
        ask(server.url, "size", SSL_CERT_FILE=str(certificate[0]))
        assert server.requests != []


def test_a_folder_that_cannot_be_written_to_is_said_without_its_path(ask, tmp_path):
    (tmp_path / "file").touch()
    with Hub({"us/model": FILES}) as server:
        (kind, message), _ = ask(server.url, "fetch", HF_HUB_CACHE=str(tmp_path / "file" / "hub"))
    assert (
        kind == "DownloadFailed"
        and "HF_HUB_CACHE names, because" in message
        and "(not a directory)" in message
        and str(tmp_path) not in message
    )
    assert server.requests == []
    assert message.rstrip(".").count(". ") == 1


def test_every_failure_is_two_sentences(ask):
    with Hub({"us/model": FILES, "us/empty": {"other.bin": b"1"}}) as server:
        cases = {
            "does not show us/none": dict(name="us/none"),
            "is neither a model": dict(name="a model"),
            "holds none of the files": dict(name="us/empty"),
            "holds no model.safetensors": dict(patterns=["model.safetensors", "transformer/*"]),
            "HF_HUB_OFFLINE is set": dict(HF_HUB_OFFLINE="1"),
            "TRANSFORMERS_OFFLINE is set": dict(HF_HUB_OFFLINE="", TRANSFORMERS_OFFLINE="1"),
            "HUGGING_FACE_HUB_TOKEN is not a Hugging Face token": dict(HF_TOKEN="", HUGGING_FACE_HUB_TOKEN="\u201chf_x\u201d"),
        }
        answers = {expected: ask(server.url, "size", **given)[0] for expected, given in cases.items()}
        server.garbled = True
        answers["cannot be read"] = ask(server.url, "size")[0]
        server.error = 503
        answers["error 503"] = ask(server.url, "size")[0]
    answers["cannot be reached at the address in HF_ENDPOINT"] = ask(server.url, "size")[0]  # the server is gone
    proxied = dict(HTTP_PROXY="http://secret@127.0.0.1:9", http_proxy="http://secret@127.0.0.1:9", NO_PROXY="", no_proxy="")
    answers["in HF_ENDPOINT through the proxy in http_proxy"] = ask("http://hub.invalid", "size", **proxied)[0]
    for expected, (kind, message) in answers.items():
        assert (
            kind == "DownloadFailed"
            and expected in message
            and "Traceback" not in message
            and "secret" not in message
            and str(ROOT) not in message
        )
        assert message.rstrip(".").count(". ") == 1, message


def test_the_same_files_are_recognised_by_their_hashes_without_fetching(ask):
    other = {**FILES, "transformer/a.safetensors": WEIGHTS[::-1]}
    with Hub({"us/model": FILES, "them/other": other}) as server:
        assert ask(server.url, "same", patterns=["model_index.json", "flux1*"])[0] is True
        assert ask(server.url, "same")[0] is False
        assert ask(server.url, "same", patterns=["nothing/*"])[0] is False
        assert server.downloads() == []
