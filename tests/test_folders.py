"""Folders that may not exist yet."""

import os
from pathlib import Path

import pytest

from flux_demo import folders


def test_nothing_is_left_behind(tmp_path):
    assert folders.problem(tmp_path / "new" / "deep") is None and folders.free_bytes(tmp_path / "new") > 0
    assert list(tmp_path.iterdir()) == []


def test_a_drive_that_is_not_there_is_a_problem_and_no_endless_search(monkeypatch):
    """As on Windows, where a drive has no folder above it that exists."""

    def missing(place):
        raise FileNotFoundError(2, "No such file or directory", str(place))

    monkeypatch.setattr(os, "lstat", missing)
    assert "no such file" in folders.problem(Path("/images"))
    assert folders.free_bytes(Path("/images")) is None


@pytest.mark.parametrize("name", ["a" * 300, "/proc/new/folder", "a\0b"])
def test_a_folder_that_cannot_be_is_said(name):
    assert folders.problem(Path(name))
