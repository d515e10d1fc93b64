"""The same prompt and seed in every mode, as a strip."""

import io
import re
import threading

from PIL import Image
from playwright.sync_api import expect

from flux_demo.experiments.sheet import sheets
from flux_demo.recipe import read_recipe
from flux_demo.ui import compare
from tests.ui.conftest import PATIENCE_MS
from tests.ui.driving import choose_size, give_photo, prompt_field, run, served, set_steps, wait_for_status


def expect_no_strip(page, second, address, images):
    """Neither its file is there, nor the strip in the visitor's second window or after a reload, and so many images are."""
    assert not page.request.get(address, max_retries=2).ok
    second.evaluate("dispatchEvent(new Event('focus'))")
    expect(second.locator("#strip")).to_be_hidden()
    page.reload()
    expect(page.locator("#history img")).to_have_count(images)
    expect(page.locator("#strip")).to_be_hidden()


def go_through_the_images_by_arrow_keys(page):
    """From the depth image, which is the newest, through those of the other tabs and back."""
    page.locator("#picture-depth .image-container > button").focus()
    for key, at, mode in (("Right", 1, "canny"), ("Right", 2, "text"), ("Left", 1, "canny"), ("Left", 0, "depth")):
        page.keyboard.press(f"Arrow{key}")
        expect(page.locator(f"#picture-{mode} .image-container > button")).to_be_focused()
        expect(page.locator("#history button").nth(at)).to_have_attribute("aria-current", "true")


def test_one_photo_becomes_a_strip_of_three_with_one_seed(visit, studio, photo_file):
    before = set(studio.gallery.folder.glob("*.png"))
    page = visit(tab="Depth")
    compare = page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true")
    compare.click()
    page.locator("#status-depth").get_by_text("There is no photo to follow").wait_for()
    give_photo(page, "depth", photo_file)
    choose_size(page, "128x128")
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    compare.press("Enter")
    page.locator("#status-depth").get_by_text("comparison is below").wait_for()
    expect(compare).to_be_focused()  # again: it was disabled meanwhile
    made = served(page, "#strip")
    with Image.open(io.BytesIO(made)) as strip:
        assert strip.width > 3 * 128 and strip.height > 128
    recipes = [read_recipe(path) for path in set(studio.gallery.folder.glob("*.png")) - before]
    assert sorted(recipe.mode for recipe in recipes) == ["canny", "depth", "text"]
    assert len({(recipe.seed, recipe.width, recipe.height, recipe.prompt) for recipe in recipes}) == 1
    assert {recipe.mode: recipe.guidance for recipe in recipes} == {"text": 3.5, "canny": 30.0, "depth": 10.0}
    own = next(recipe for recipe in recipes if recipe.mode == "depth")
    expect(page.locator("#history img")).to_have_count(3)
    expect(page.locator("#caption-depth")).to_contain_text(f"Seed {own.seed}")
    go_through_the_images_by_arrow_keys(page)
    page.reload()
    assert served(page, "#strip") == made
    page.wait_for_timeout(500)
    assert page.evaluate("scrollY") == 0  # only a new one comes into view
    run(page)  # and the tab is ready for the next one
    expect(page.locator("#history img")).to_have_count(4)
    wait_for_status(page, "depth", "Done in")
    page.on("dialog", lambda dialog: dialog.accept())
    delete = page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")
    delete.click()  # of which the comparison shows nothing
    expect(page.locator("#history img")).to_have_count(3)
    second = page.context.new_page()  # the same visitor
    second.goto(page.url)
    second.locator("#strip img").wait_for()
    page.bring_to_front()
    page.get_by_role("tab", name="Depth", exact=True).click()
    compare.click()
    wait_for_status(page, "depth", "comparison is below")
    expect(page.locator("#history img")).to_have_count(6)
    address = page.locator("#strip img").get_attribute("src")
    page.locator("#history button").nth(1).click()  # another mode's
    page.locator("#prompt-depth textarea").wait_for(state="hidden")
    delete.click()
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#status-depth .say")).to_have_text("")
    expect_no_strip(page, second, address, images=5)


def test_a_reload_in_the_middle_loses_no_strip(visit, held_steps, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    choose_size(page, "128x128")
    prompt_field(page).fill("a red cube")
    set_steps(page, 2)
    page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true").click()
    page.locator("#status-canny").get_by_text(re.compile("Image 1 of 3")).wait_for()
    page.reload()
    page.locator("#status-canny").get_by_text(re.compile("Image 1 of 3")).wait_for()
    held_steps.release(3 * 2)
    page.locator("#status-canny").get_by_text("comparison is below").wait_for()
    made = served(page, "#strip")
    with Image.open(io.BytesIO(made)) as strip:
        assert strip.width > 3 * 128
    expect(page.locator("#history img")).to_have_count(3)


def test_deleting_all_in_the_middle_is_said_and_what_came_after_has_its_buttons(visit, held_steps, photo_file):
    page = visit(tab="Canny")
    page.on("dialog", lambda dialog: dialog.accept())
    give_photo(page, "canny", photo_file)
    choose_size(page, "128x128")
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    held_steps.release()
    run(page)
    wait_for_status(page, "canny", "Done in")
    set_steps(page, 2)
    held_steps.release(2)  # for the first image; the second one waits after its first step
    page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true").click()
    page.locator("#status-canny").get_by_text(re.compile("Image 2 of 3")).wait_for()
    page.get_by_role("button", name="Delete all", exact=True).click()
    expect(page.locator("#history img")).to_have_count(0)
    held_steps.release(2 * 2)
    wait_for_status(page, "canny", "was deleted meanwhile")
    expect(page.locator("#strip")).to_be_hidden()
    own = page.locator("#tab-canny .answer")
    expect(page.locator("#picture-canny img")).to_have_attribute("src", re.compile("-canny-"))
    expect(own.get_by_role("button", name="Delete image", exact=True)).to_be_enabled()
    expect(own.get_by_role("button", name="Reuse seed", exact=True)).to_be_enabled()


def test_stop_counts_while_the_maps_of_the_other_modes_are_drawn(visit, studio, photo_file, monkeypatch):
    drawing, go_on, draw = threading.Event(), threading.Event(), studio.preview

    def held(mode, *args, **options):
        if mode == "depth":
            drawing.set()
            assert go_on.wait(PATIENCE_MS / 1000)
        return draw(mode, *args, **options)

    monkeypatch.setattr(studio, "preview", held)
    before = set(studio.gallery.folder.glob("*.png"))
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    choose_size(page, "128x128")
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    served(page, "#map-canny")
    page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true").click()
    assert drawing.wait(PATIENCE_MS / 1000)
    with page.expect_request("**/cancel"):
        page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    go_on.set()
    expect(page.locator("#status-canny")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_enabled()
    run(page)
    wait_for_status(page, "canny", "Done in")
    assert [read_recipe(path).mode for path in set(studio.gallery.folder.glob("*.png")) - before] == ["canny"]


def test_a_comparison_is_in_the_visitors_language_and_can_be_closed(visit, photo_file, monkeypatch):
    titles = []
    monkeypatch.setattr(compare, "sheets", lambda axes, tiles, title: titles.append(title) or sheets(axes, tiles, title))
    page = visit(tab="Canny", locale="de-DE")
    give_photo(page, "canny", photo_file)
    page.locator("#size-canny input").fill("128x128")
    page.keyboard.press("Enter")
    prompt_field(page).fill("a red cube")
    page.locator("#seed-canny input").fill("7")
    page.locator("#steps-canny input[type=number]").fill("1")
    page.keyboard.press("Tab")
    close = page.get_by_role("button", name="Vergleich schließen", exact=True)
    expect(close).to_be_hidden()
    page.locator("#tab-canny button.compare").click()
    wait_for_status(page, "canny", "Der Vergleich steht unten")
    assert titles == ["Seed 7, Schritte: 1, 128 × 128 · a red cube"]
    address = page.locator("#strip img").get_attribute("src")
    second = page.context.new_page()  # the same visitor
    second.goto(page.url)
    second.locator("#strip img").wait_for()
    close.click()
    expect(page.locator("#strip")).to_be_hidden()
    expect(close).to_be_hidden()
    expect(page.locator("#status-canny .say")).to_have_text("")
    expect_no_strip(page, second, address, images=3)
