from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def place(tmp_path, monkeypatch, photo) -> Path:
    """The current folder, with a photo in it."""
    monkeypatch.chdir(tmp_path)
    photo.save(tmp_path / "photo.jpg", quality=95)
    return tmp_path
