"""An image that is in the gallery is never reported as lost, whatever the temporary folder says."""

import errno

import pytest
from gradio_client.exceptions import AppError

from flux_demo.ui import files
from tests.ui.conftest import SMALL


def test_an_image_that_cannot_be_copied_for_the_browser_is_kept_and_named(client, studio, monkeypatch):
    before = set(studio.gallery.folder.glob("*.png"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(AppError, match="finished and kept in the outputs folder") as told:
        client.predict("a red cube", SMALL, "7", 1, api_name="/text")
    (kept,) = set(studio.gallery.folder.glob("*.png")) - before
    assert kept.name in str(told.value)
