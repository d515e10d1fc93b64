"""How the settings are laid out, in a real browser."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_what_a_size_comes_to_is_said_from_the_start_and_takes_no_place_where_there_is_none(visit):
    page = visit()
    said = page.locator(".settings .block.note").locator("visible=true")
    expect(said).to_have_text("0.07 megapixels")
    page.get_by_role("tab", name="Canny", exact=True).click()
    expect(said).to_have_count(0)  # the size matches a photo that is not there yet
    page.get_by_role("button", name="7:4", exact=True).locator("visible=true").click()
    expect(said).to_have_text("0.06 megapixels")


def test_the_sliders_stand_in_one_line_however_the_words_above_them_wrap(visit):
    page = visit(width=1280)
    tops = [page.get_by_label(f"range slider for {name}").locator("visible=true").bounding_box()["y"] for name in ("Steps", "Guidance")]
    assert abs(tops[0] - tops[1]) < 1
