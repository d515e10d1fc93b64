"""How the settings are laid out, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import SMALL
from tests.ui.driving import choose_size, made, prompt_field, run, seed_field, set_steps


def test_what_a_size_comes_to_is_said_from_the_start_and_takes_no_place_where_there_is_none(visit):
    page = visit()
    said = page.locator(".settings .block.note").locator("visible=true")
    expect(said).to_have_text("0.07 megapixels")
    page.get_by_role("tab", name="Canny", exact=True).click()
    expect(said).to_have_count(0)  # the size matches a photo that is not there yet
    page.get_by_role("button", name="7:4", exact=True).locator("visible=true").click()
    expect(said).to_have_text("0.06 megapixels")


def test_the_sliders_stand_in_one_line_and_so_do_the_words_above_them(visit):
    page = visit(width=1280)
    for part in ("range slider", "number input"):
        tops = [page.get_by_label(f"{part} for {name}").locator("visible=true").bounding_box()["y"] for name in ("Steps", "Guidance")]
        assert abs(tops[0] - tops[1]) < 1


def test_nothing_that_is_looked_at_or_has_the_focus_is_behind_the_fixed_row(visit):
    page = visit()
    page.emulate_media(reduced_motion="reduce")  # the page is where it scrolls to at once
    prompt_field(page).fill("a red sphere")
    choose_size(page, SMALL)
    set_steps(page, 1)
    run(page)
    made(page, "text")
    for width, height in ((1280, 720), (1366, 650), (1280, 900), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        row = page.locator(".run-row").locator("visible=true").bounding_box()["y"]
        below = page.locator("#tab-text details.recipe").bounding_box()
        assert below["y"] + below["height"] <= row, (width, height)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.evaluate("scrollTo(0, 0)")
    seed_field(page).focus()
    for _ in range(14):
        page.keyboard.press("Tab")
        page.wait_for_function("document.activeElement !== document.body")
        covered = page.evaluate(
            """() => {
                const row = [...document.querySelectorAll(".run-row")].find((each) => each.getClientRects().length);
                const at = document.activeElement;
                return !row.contains(at) && at.getBoundingClientRect().bottom > row.getBoundingClientRect().top && (at.ariaLabel || at.innerText);
            }"""
        )
        assert covered is False


@pytest.mark.parametrize("locale", ["en-GB", "de-DE", "es-ES", "ja-JP"])
def test_the_views_of_a_map_stand_in_one_line(visit, locale):
    page = visit(tab="Depth", locale=locale)
    tops = {label.bounding_box()["y"] for label in page.locator("#tab-depth .view label").all()}
    assert len(tops) == 1
