"""An image that is in the gallery is never reported as lost, whatever the temporary folder says."""

import errno
import re
from pathlib import Path

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect

from flux_demo.request import GenerationRequest, Size
from flux_demo.ui import files
from flux_demo.ui.history import History
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.ui.conftest import SMALL
from tests.ui.driving import choose_size, give_photo, made, prompt_field, run, set_steps


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def fill_up(page, monkeypatch):
    """``fill_up()``: from now on the temporary folder takes no picture that is written anew, as on a disk with room for a copy alone."""
    save, write_bytes = Image.Image.save, Path.write_bytes

    def check(file):
        if str(getattr(file, "name", file) if not isinstance(file, Path) else file).startswith(str(page.folder)):
            full()

    def start():
        monkeypatch.setattr(Image.Image, "save", lambda self, file, *args, **options: (check(file), save(self, file, *args, **options)))
        monkeypatch.setattr(Path, "write_bytes", lambda self, data: (check(self), write_bytes(self, data))[1])

    return start


def test_a_map_that_cannot_be_written_is_said_in_words(client, photo_file, monkeypatch):
    photo = handle_file(photo_file)
    client.predict(photo, SMALL, api_name="/canny_map")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AppError, match="no space left on device.*GRADIO_TEMP_DIR"):
        client.predict(photo, SMALL, low=90, api_name="/canny_map")


def test_an_image_without_room_for_its_thumbnail_is_in_the_history(page, studio, monkeypatch):
    history, key = History(studio.gallery, VisitorStore(studio.gallery.folder), {}), new_key()
    made = studio.generate(GenerationRequest("text", "a red cube", steps=1, size=Size(256, 256)))
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    history.add(key, made, None)
    (entry,) = history.entries(key)
    assert entry.thumb is None and entry.recipe == made.recipe


def test_an_image_that_cannot_be_copied_for_the_browser_is_kept_and_named(client, studio, monkeypatch):
    before = set(studio.gallery.folder.glob("*.png"))
    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(AppError, match="finished and kept in the outputs folder") as told:
        client.predict("a red cube", SMALL, "7", 1, api_name="/text")
    (kept,) = set(studio.gallery.folder.glob("*.png")) - before
    assert kept.name in str(told.value)


@pytest.mark.browser
def test_a_run_without_room_for_its_previews_ends_with_its_image_and_a_stopped_one_frees_the_page(visit, slow_steps, fill_up):
    page = visit()
    prompt_field(page).fill("a red cube")
    choose_size(page, SMALL)
    set_steps(page, 4)
    fill_up()
    run(page)
    made(page, "text")
    expect(page.locator(".toast-body")).to_have_count(0)
    set_steps(page, 100)
    run(page)
    page.locator("#status-text .step").wait_for()
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    expect(page.locator("#status-text")).to_contain_text("no space left on device")
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_enabled()


@pytest.mark.browser
def test_a_comparison_without_room_for_its_strip_has_its_images(visit, slow_steps, fill_up, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    choose_size(page, SMALL)
    prompt_field(page).fill("a red cube")
    set_steps(page, 2)
    page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true").click()
    page.locator("#status-canny .step").wait_for()
    fill_up()
    expect(page.locator("#status-canny")).to_contain_text("no space left on device")
    expect(page.locator("#history img")).to_have_count(3)
    expect(page.locator("#picture-canny img")).to_have_attribute("src", re.compile("-canny-"))
