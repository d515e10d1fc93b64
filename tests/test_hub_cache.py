"""What of a model is here: told from the cache, or a folder, with no Hub."""

import json
import os

import pytest

from flux_demo import hub
from stand_ins.hub import COMMIT

PATTERNS = ["model_index.json", "transformer/*"]


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


def test_of_several_older_versions_the_newest_is_taken(cache):
    names = ["model_index.json", "transformer/a.safetensors"]
    old, new = (cache(names, commit=letter * 40) for letter in "ab")
    cache(names[:1], commit="c" * 40)
    for folder, other in ((new, old), (old, new)):
        os.utime(folder, (2, 2))
        os.utime(other, (1, 1))
        assert hub.local_folder("us/model", PATTERNS) == folder


def test_the_files_of_a_pull_request_are_not_the_models(cache):
    names = ["model_index.json", "transformer/a.safetensors"]
    proposed = cache(names, names, commit="b" * 40)
    home = proposed.parents[1]
    pull = home / "refs" / "refs" / "pr" / "1"
    pull.parent.mkdir(parents=True)
    pull.write_text("b" * 40)
    cache(names[:1], names, commit="a" * 40)
    assert hub.local_folder("us/model", PATTERNS) is None
    (home / "refs" / "main").write_text("b" * 40)  # merged
    assert hub.local_folder("us/model", PATTERNS) == proposed


def test_a_named_file_that_the_repository_lacks_is_not_here(cache):
    names = ["config.json", "pytorch_model.bin"]
    cache(names, names)
    assert hub.local_folder("us/model", ["config.json", "model.safetensors"]) is None
    assert hub.local_folder("us/model", ["config.json", "vae/*"]) is not None


def test_a_part_that_another_process_completes_meanwhile_counts_for_nothing(cache, monkeypatch):
    blobs = cache(["model_index.json"]).parents[1] / "blobs"
    blobs.mkdir()
    finished, unfinished = (blobs / f"{letter * 64}.part" for letter in "ab")
    finished.write_bytes(b"12345")
    unfinished.write_bytes(b"123")

    def hashes(*_):
        finished.rename(blobs / ("a" * 64))
        return {"transformer/a.safetensors": "a" * 64, "transformer/b.safetensors": "b" * 64}

    monkeypatch.setattr(hub, "hub_hashes", hashes)
    assert hub._bytes_of_parts("us/model", PATTERNS, None) == 3


def test_a_complete_folder_is_taken_as_it_is(tmp_path):
    assert hub.local_folder(str(tmp_path), PATTERNS) is None
    (tmp_path / "transformer").mkdir()
    for name in ("model_index.json", "transformer/a.safetensors"):
        (tmp_path / name).write_text("x")
    assert hub.local_folder(str(tmp_path), PATTERNS) == tmp_path


def test_nothing_is_fetched_into_a_folder(tmp_path):
    with pytest.raises(hub.DownloadFailed, match="nothing to fetch"):
        hub.download_size(str(tmp_path), PATTERNS)
