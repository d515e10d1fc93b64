"""Files that are dropped on the page or pasted into it."""

import pytest
from playwright.sync_api import expect

from flux_demo.request import GenerationRequest, Size
from tests.ui.driving import hand_over, open_settings, pixels_hash, prompt_field, seed_field, served

pytestmark = pytest.mark.browser


def test_a_picture_dropped_anywhere_brings_its_settings_back(visit, studio):
    size = Size(128, 128)
    kept = studio.generate(GenerationRequest("text", "a red cone on sand", seed=41, steps=1, size=size))
    page = visit(tab="Depth")
    hand_over(page, "drop", kept.path, onto="h1")
    expect(prompt_field(page)).to_have_value("a red cone on sand")
    expect(page.get_by_role("tab", name="Text", exact=True)).to_have_attribute("aria-selected", "true")
    open_settings(page)
    expect(seed_field(page)).to_have_value("41")


def test_a_pasted_photo_becomes_the_photo_of_the_tab_in_sight(visit, studio, photo, photo_file):
    page = visit(tab="Edges")
    hand_over(page, "paste", photo_file)
    assert pixels_hash(served(page, "#map-canny")) == studio.preview("canny", photo).sha256
    assert page.locator("#photo-depth img").count() == 0
