import shutil
import signal
from pathlib import Path

import pytest

from flux_demo.studio import Studio

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def interrupted(monkeypatch) -> list[int]:
    """Ctrl+C before the third image; one entry for each that was begun."""
    generate, begun = Studio.generate, []

    def generate_or_not(*words, **options):
        begun.append(1)
        if len(begun) == 3:
            signal.raise_signal(signal.SIGINT)
        return generate(*words, **options)

    monkeypatch.setattr(Studio, "generate", generate_or_not)
    return begun


@pytest.fixture
def vanishing(place, monkeypatch) -> Path:
    """A folder that goes away when the first image is generated, as a disk does: it takes nothing any more."""
    generate, folder = Studio.generate, place / "gone"
    folder.mkdir()

    def generate_without(*words, **options):
        shutil.rmtree(folder, ignore_errors=True)
        return generate(*words, **options)

    monkeypatch.setattr(Studio, "generate", generate_without)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, photo) -> Path:
    """The current folder, with a photo in it."""
    monkeypatch.chdir(tmp_path)
    photo.save(tmp_path / "photo.jpg", quality=95)
    return tmp_path
