"""A service that follows only its own sample images: no photo and no map of one's own gets into its tabs."""

import time
from dataclasses import replace

import pytest
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from flux_demo.engine.presets import PRESETS
from flux_demo.gallery import Gallery
from flux_demo.request import GenerationRequest, Size
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from tests.ui.conftest import PATIENCE_MS
from tests.ui.driving import forget_visitor, give_photo, hand_over, made, open_settings, prompt_field, run, wait_for_status

pytestmark = pytest.mark.browser


@pytest.fixture
def backend(recording_backend):
    return recording_backend("hosted", own_photos=False, sample_pictures=4)


@pytest.fixture
def hosted(backend, tmp_path):
    return Studio(Settings(outputs=str(tmp_path / "hosted")), [backend], Gallery(tmp_path / "hosted"))


def follow_a_sample(page, backend):
    """Generate in the Canny tab: what the service is asked to follow is the sample, and no map is in sight."""
    page.get_by_role("tab", name="Canny", exact=True).click()
    prompt_field(page).fill("a red cube")
    run(page)
    made(page, "canny")
    assert (backend.requests[-1].sample, backend.requests[-1].control) == (0, None)
    expect(page.locator("#map-canny img")).to_have_count(0)
    expect(page.get_by_text("The service draws the map of its sample").locator("visible=true")).to_be_visible()


@pytest.mark.parametrize("tab", ["Text", "Canny"])
def test_a_photo_that_is_dropped_is_offered_to_no_tab(open_with, hosted, backend, photo, photo_file, tmp_path, tab):
    theirs, texts = tmp_path / "theirs.png", PngInfo()
    texts.add_text("parameters", "a castle\nSteps: 30, Seed: 5, Size: 512x768")
    photo.save(theirs, pnginfo=texts)
    page = open_with(hosted)
    page.get_by_role("tab", name=tab, exact=True).click()
    for file, said in ((photo_file, "no tab here follows your own photos"), (theirs, "settings from another program. Use them?")):
        hand_over(page, "drop", file)
        expect(page.locator("#restore-note")).to_contain_text(said)
        expect(page.get_by_role("button", name="Use as photo")).to_have_count(0)
    page.get_by_role("button", name="Use its settings in Text", exact=True).click()
    expect(prompt_field(page)).to_have_value("a castle")
    follow_a_sample(page, backend)


def test_the_map_of_a_dropped_recipe_is_left_out_and_that_is_said(open_with, hosted, backend, studio, photo):
    size = Size(128, 128)
    control = studio.preview("canny", photo, size)
    kept = studio.generate(GenerationRequest("canny", "a blue cone", seed=4, steps=1, size=size, control=control))
    page = open_with(hosted)
    hand_over(page, "drop", kept.path)
    wait_for_status(page, "canny", "Its map is left out")
    expect(prompt_field(page)).to_have_value("a blue cone")
    follow_a_sample(page, backend)


def test_a_photo_that_is_kept_in_the_form_is_followed_by_nothing(open_with, hosted, backend, recording_backend, photo_file):
    hosted.backends[:] = [recording_backend("mini")]
    page = open_with(hosted)
    page.get_by_role("tab", name="Canny", exact=True).click()
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").wait_for()
    until = time.monotonic() + PATIENCE_MS / 1000
    while not list(hosted.gallery.folder.rglob("photo-canny.*")):
        assert time.monotonic() < until
        page.wait_for_timeout(100)
    hosted.backends[:] = [backend]
    hosted.refresh()
    page.reload()
    page.get_by_text("The service draws the map of its sample").locator("visible=true").wait_for()
    follow_a_sample(page, backend)


def test_the_chosen_sample_is_kept_and_linked_and_marks_the_image_of_another(open_with, hosted, backend):
    backend._dials = replace(backend._dials, presets=tuple(PRESETS))
    page = open_with(hosted)
    follow_a_sample(page, backend)
    heading = page.locator("#tab-canny .answer h2")
    expect(heading).to_have_text("Image")
    page.get_by_label("Sample image 4", exact=True).locator("visible=true").check()
    expect(heading).to_have_text("Image from earlier settings")
    open_settings(page)
    page.get_by_label("Preset", exact=True).locator("visible=true").click()
    page.get_by_role("option").last.click()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link to these settings", exact=True).locator("visible=true").click()
    wait_for_status(page, "canny", "Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    preset = page.get_by_label("Preset", exact=True).locator("visible=true").input_value()
    page.reload()
    expect(page.get_by_label("Sample image 4", exact=True).locator("visible=true")).to_be_checked()
    forget_visitor(page)
    page.goto(link)  # as somebody else
    expect(page.get_by_label("Sample image 4", exact=True).locator("visible=true")).to_be_checked()
    open_settings(page)
    expect(page.get_by_label("Preset", exact=True).locator("visible=true")).to_have_value(preset)
    wait_for_status(page, "canny", "filled in from the link")
