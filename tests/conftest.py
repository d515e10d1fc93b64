"""Fixtures for all tests. Every test runs with an empty environment of ours and with folders of its own."""

import os
from dataclasses import fields

import pytest
from PIL import Image, ImageDraw

from flux_demo.settings import Settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by huggingface_hub at import: no test reaches for a hub by accident
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No setting of the person who runs the tests reaches them, and nothing is written beside the repository."""
    for row in fields(Settings):
        monkeypatch.delenv(row.metadata["variable"], raising=False)
    monkeypatch.setenv("FLUX_DEMO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(outputs=str(tmp_path / "outputs"), hf_home=str(tmp_path / "hf"))


@pytest.fixture
def photo() -> Image.Image:
    """A drawn RGB photo, 640x400: a bright room with a dark box and a red ball before it."""
    picture = Image.new("RGB", (640, 400), (200, 205, 210))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 250, 640, 400), fill=(150, 130, 110))
    draw.rectangle((120, 130, 300, 320), fill=(40, 50, 70))
    draw.ellipse((340, 190, 520, 370), fill=(190, 40, 40))
    return picture
