"""How the settings are laid out, in a real browser."""

import pytest
from playwright.sync_api import expect

from flux_demo.backends import Refusal
from flux_demo.gallery import Gallery
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from tests.conftest import RecordingBackend
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


def test_of_a_low_window_the_whole_image_and_what_stands_below_it_are_above_the_fixed_row(visit):
    page = visit(locale="de-DE")
    prompt_field(page).fill("a red sphere")
    page.locator("#size-text input").fill(SMALL)
    page.locator("#steps-text input[type=number]").fill("1")
    page.keyboard.press("Tab")
    page.locator("#tab-text button.run").click()
    page.locator("#picture-text img").wait_for()
    details = page.locator("#tab-text details.recipe")
    details.wait_for()
    for width, height in ((1366, 650), (1024, 768), (844, 390), (683, 325)):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        if width <= 860:
            page.locator("#picture-text").evaluate("(box) => box.scrollIntoView({ block: 'center', behavior: 'instant' })")
        row = page.locator("#tab-text .run-row").bounding_box()["y"]
        box, last = page.locator("#picture-text").bounding_box(), details.bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] <= row, (width, height)
        assert width <= 860 or last["y"] + last["height"] <= row, (width, height)


def test_a_command_is_not_broken_in_its_middle_and_is_no_wider_than_a_phone(open_with, tmp_path):
    class Refusing(RecordingBackend):
        def refusal(self, mode):
            return Refusal("There is no key. Set one, or choose the service yourself with `python app.py --backend hosted` for images.")

    page = open_with(Studio(Settings(outputs=str(tmp_path)), [Refusing("local"), RecordingBackend()], Gallery(tmp_path)))
    page.locator("#tab-text details.where summary").click()
    command = page.locator("#tab-text details.where code")
    for width in range(320, 700, 20):
        page.set_viewport_size({"width": width, "height": 900})
        assert command.bounding_box()["height"] < 24, width  # one line
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_headings_fields_and_thumbnails_stand_in_line(visit):
    page = visit(tab="Canny")
    tab = page.locator("#tab-canny")

    def box(selector, at=0):
        return tab.locator(selector).nth(at).bounding_box()

    for part, other in ((".prompt [data-testid=block-info]", ".answer h2"), (".prompt textarea", ".box.large")):
        assert abs(box(part)["y"] - box(other)["y"]) < 1
    assert abs(box("#guidance-canny")["x"] - box(".pane", 1)["x"]) < 1
    for width in (1280, 1024, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert len({each.bounding_box()["y"] for each in tab.locator("#examples-canny button").all()}) == 1
        ends = [each["x"] + each["width"] for each in (box("#examples-canny .grid-container"), box("#photo-canny"))]
        assert abs(ends[0] - ends[1]) < 1 and page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    label, number = box("#low-canny label"), box("#low-canny input[type=number]")
    assert abs(label["y"] + label["height"] / 2 - number["y"] - number["height"] / 2) < 2
