"""An image that is in the gallery is never reported as lost, whatever the temporary folder says."""

import errno

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from flux_demo.request import GenerationRequest, Size
from flux_demo.ui import files
from flux_demo.ui.history import Album
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.ui.conftest import SMALL


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_map_that_cannot_be_written_is_said_in_words(client, photo_file, monkeypatch):
    photo = handle_file(photo_file)
    client.predict(photo, SMALL, api_name="/canny_map")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AppError, match="no space left on device.*GRADIO_TEMP_DIR"):
        client.predict(photo, SMALL, low=90, api_name="/canny_map")


def test_an_image_without_room_for_its_thumbnail_is_in_the_history(page, studio, monkeypatch):
    album, key = Album(studio.gallery, VisitorStore(studio.gallery.folder), {}), new_key()
    made = studio.generate(GenerationRequest("text", "a red cube", steps=1, size=Size(256, 256)))
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    album.add(key, made, None)
    (entry,) = album.entries(key)
    assert entry.thumb is None and entry.recipe == made.recipe


def test_an_image_that_cannot_be_copied_for_the_browser_is_kept_and_named(client, studio, monkeypatch):
    before = set(studio.gallery.folder.glob("*.png"))
    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(AppError, match="finished and kept in the outputs folder") as told:
        client.predict("a red cube", SMALL, "7", 1, api_name="/text")
    (kept,) = set(studio.gallery.folder.glob("*.png")) - before
    assert kept.name in str(told.value)
