"""Files that are dropped on the page or pasted into it."""

import pytest
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from flux_demo.request import GenerationRequest, Size
from tests.ui.driving import (
    field,
    give_photo,
    hand_over,
    made,
    open_settings,
    pixels_hash,
    prompt_field,
    run,
    seed_field,
    served,
    set_steps,
    source,
    take_photo_away,
)


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
    page = visit(tab="Canny")
    hand_over(page, "paste", photo_file)
    assert pixels_hash(served(page, "#map-canny")) == studio.preview("canny", photo).sha256
    assert page.locator("#photo-depth img").count() == 0


def test_text_that_comes_with_a_picture_stays_text_in_a_text_field(visit, photo_file):
    page = visit(tab="Canny")
    prompt_field(page).focus()
    hand_over(page, "paste", photo_file, onto="#prompt-canny textarea", text="words from a spreadsheet")
    page.wait_for_timeout(500)
    assert page.locator("#photo-canny img").count() == 0


def test_a_photo_dropped_beside_its_panel_becomes_the_photo(visit, studio, photo, photo_file):
    page = visit(tab="Canny")
    hand_over(page, "drop", photo_file, onto="h1", before=["a.txt"])
    assert pixels_hash(served(page, "#map-canny")) == studio.preview("canny", photo).sha256
    page.locator("#restore-note").get_by_text("of 2 files, only room.png was taken").wait_for()
    expect(page.locator("#restore-note button:visible")).to_have_text(["Close"])
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#restore-note")).to_be_hidden()


def test_what_is_dropped_on_a_photo_and_is_not_a_file_leaves_it_there(visit, photo_file):
    """Such as an image of the page, which is dragged as its address. Gradio's panel would take that for no photo."""
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    before = source(page, "#map-canny")
    page.evaluate(
        """() => {
            const dragged = new DataTransfer();
            dragged.setData("text/uri-list", document.querySelector("#map-canny img").src);
            const panel = document.querySelector("#photo-canny .image-container, #photo-canny img");
            panel.dispatchEvent(new DragEvent("drop", { dataTransfer: dragged, bubbles: true, cancelable: true }));
        }"""
    )
    page.wait_for_timeout(500)
    expect(page.locator("#photo-canny img")).to_be_visible()
    assert source(page, "#map-canny") == before


@pytest.mark.parametrize("name", ["pages.tiff", "moving.gif"])  # browsers show no TIFF: the page makes a PNG of it
def test_that_a_photo_is_the_first_of_several_frames_stands_under_its_map(visit, photo, tmp_path, name):
    photo.save(tmp_path / name, save_all=True, append_images=[photo.rotate(180)])
    page = visit(tab="Canny")
    give_photo(page, "canny", tmp_path / name)
    page.locator(".pane .note:visible").get_by_text("The file has several frames or pages, and only the first is used.").wait_for()


def test_a_file_that_is_no_image_is_refused_in_the_pages_own_words(visit, studio, photo, photo_file, tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    page = visit(tab="Canny")
    hand_over(page, "drop", tmp_path / "notes.txt", onto="#photo-canny", kind="text/plain")
    page.locator(".photo-note:visible").get_by_text("The image cannot be opened").wait_for()
    hand_over(page, "drop", photo_file, onto="#photo-canny")
    assert pixels_hash(served(page, "#map-canny")) == studio.preview("canny", photo).sha256
    page.get_by_role("tab", name="Text", exact=True).click()
    (tmp_path / "cut.png").write_bytes(photo_file.read_bytes()[:900])
    for event, name, kind in (("drop", "notes.txt", "text/plain"), ("paste", "notes.txt", ""), ("drop", "cut.png", "image/png")):
        hand_over(page, event, tmp_path / name, kind=kind)
        page.locator("#restore-note").get_by_text("The image cannot be opened").wait_for()
        page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator(".toast-body")).to_have_count(0)


def test_a_folder_is_refused_in_words_and_a_drop_of_nothing_is_nothing(visit, tmp_path):
    page = visit(tab="Canny")
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.evaluate(
        """() => document.body.dispatchEvent(Object.assign(
            new Event("drop", { bubbles: true, cancelable: true }), { dataTransfer: { types: ["Files"], files: [] } }))"""
    )
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(tmp_path)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 20, "data": data})
    page.locator(".photo-note:visible").get_by_text("The image cannot be opened").wait_for()
    assert wrong == []


def test_another_programs_image_is_a_photo_and_its_settings_are_taken_only_when_asked_for(visit, photo, tmp_path):
    theirs, texts = tmp_path / "theirs.png", PngInfo()
    texts.add_text("parameters", "a castle\nNegative prompt: fog\nSteps: 30, CFG scale: 7, Seed: 5, Size: 512x768")
    photo.save(theirs, pnginfo=texts)
    page = visit(tab="Canny")
    hand_over(page, "drop", theirs, onto="h1")
    page.locator("#map-canny img").wait_for()
    page.get_by_role("tab", name="Text", exact=True).click()
    prompt_field(page).fill("mine")
    settings = page.get_by_role("button", name="Use its settings in Text", exact=True)
    for answer in (page.get_by_role("button", name="Close", exact=True), settings):
        hand_over(page, "drop", theirs, onto="h1")
        settings.wait_for()
        expect(prompt_field(page)).to_have_value("mine")
        answer.click()
        expect(page.locator("#restore-note")).to_be_hidden()
    expect(prompt_field(page)).to_have_value("a castle")
    expect(field(page, "Steps")).to_have_value("30")
    expect(field(page, "Guidance")).to_have_value("3.5")  # their CFG is another quantity
    expect(page.locator("#status-text")).to_contain_text("Its negative prompt is left out")


def test_a_photo_dropped_in_the_text_tab_is_offered_the_control_tabs(visit, studio, photo, photo_file):
    """And of several files, the image, which is said."""
    page = visit()
    note = page.locator("#restore-note")
    hand_over(page, "drop", photo_file, onto="h1", before=["a.txt", "b.txt"])
    note.get_by_text("One image at a time: of 3 files, only room.png was taken.").wait_for()
    page.get_by_role("button", name="Use as photo in Depth", exact=True).click()
    expect(note).to_be_hidden()
    assert pixels_hash(served(page, "#map-depth")) == studio.preview("depth", photo).sha256


def test_a_broken_photo_that_is_dropped_on_another_leaves_that_one_where_it_was(visit, photo_file, tmp_path):
    broken = tmp_path / "cut.png"
    broken.write_bytes(photo_file.read_bytes()[:900])
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    drawn, shown = source(page, "#map-canny"), source(page, "#photo-canny")
    hand_over(page, "drop", broken)
    page.locator("#tab-canny .photo-note").get_by_text("The previous photo is back.").wait_for()
    page.wait_for_function("(shown) => document.querySelector('#photo-canny img')?.src === shown", arg=shown)
    assert source(page, "#map-canny") == drawn
    prompt_field(page).fill("a red cone")
    set_steps(page, 1)
    run(page)
    made(page, "canny")
    expect(page.get_by_text("The previous photo is back.")).to_be_hidden()
    page.reload()
    assert served(page, "#photo-canny") == photo_file.read_bytes()
    page.locator("#map-canny img").wait_for()


def test_a_drawing_that_is_dropped_on_a_photo_leaves_that_one_where_it_was(visit, photo_file, tmp_path):
    drawing = tmp_path / "drawing.svg"
    drawing.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><circle cx="32" cy="32" r="9"/></svg>')
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    drawn = source(page, "#map-canny")
    hand_over(page, "drop", drawing, kind="image/svg+xml")
    note = page.locator("#tab-canny .photo-note")
    note.get_by_text("The previous photo is back.").wait_for()
    note.get_by_text("the file is an SVG drawing").wait_for()
    assert served(page, "#photo-canny") == photo_file.read_bytes() and source(page, "#map-canny") == drawn


def test_a_file_that_is_chosen_and_no_image_gets_our_sentence(visit, tmp_path):
    text = tmp_path / "note.txt"
    text.write_text("a red cube")
    page = visit(tab="Canny")
    page.locator("#photo-canny input[type=file]").set_input_files(text)
    page.locator("#tab-canny .photo-note").get_by_text("The image cannot be opened").wait_for()
    page.locator(".pictures-head input[type=file]").set_input_files(text)
    page.locator("#restore-note").get_by_text("The image cannot be opened").wait_for()
    expect(page.get_by_text("Invalid file type")).to_have_count(0)


def test_a_broken_photo_gets_a_sentence_and_takes_the_old_map_away(visit, photo_file, tmp_path):
    broken = tmp_path / "cut.png"
    broken.write_bytes(photo_file.read_bytes()[:900])
    page = visit(tab="Canny")
    page.set_viewport_size({"width": 1366, "height": 500})
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").wait_for()
    take_photo_away(page)
    expect(page.locator("#photo-canny").get_by_role("button")).to_be_focused()
    give_photo(page, "canny", broken)
    said = page.locator("#tab-canny .photo-note .say").get_by_text("The image cannot be opened")
    said.wait_for()  # at the photo, and at the map what it shows
    assert said.bounding_box()["x"] == page.locator("#photo-canny").bounding_box()["x"]
    expect(page.locator("#tab-canny .note:visible").get_by_text("White lines where the photo's colours change.")).to_be_visible()
    expect(said).to_be_in_viewport()
    expect(page.locator("#photo-canny img, #map-canny img")).to_have_count(0)
    prompt_field(page).fill("a red cone")
    run(page)
    page.locator("#status-canny").get_by_text("There is no photo to follow").wait_for()
    expect(said).to_be_visible()
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").wait_for()
    expect(said).to_be_hidden()
