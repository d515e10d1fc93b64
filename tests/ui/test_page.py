"""The page, driven in a real browser as a person would."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from flux_demo.recipe import read_recipe
from tests.ui.conftest import SMALL
from tests.ui.driving import (
    changed,
    choose_size,
    field,
    give_photo,
    made,
    open_settings,
    pixels_hash,
    prompt_field,
    read_recipe_of,
    run,
    seed_field,
    served,
    set_steps,
    source,
    take_photo_away,
)
from tests.waiting import wait_until


def test_nothing_is_asked_of_another_machine_and_nothing_goes_wrong(visit, address):
    page = visit()
    page.goto("about:blank")
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    for tab in ("Canny", "Depth", "Text"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(".prompt textarea:visible").wait_for()
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
    assert wrong == []


def test_a_prompt_becomes_a_picture_which_is_the_very_file_of_the_gallery(visit, studio):
    page = visit()
    page.get_by_role("button", name="a yellow ball next to a blue cube on grass", exact=True).click()
    expect(prompt_field(page)).to_have_value("a yellow ball next to a blue cube on grass")
    set_steps(page, 2)
    before = page.locator("#picture-text").bounding_box()
    run(page)
    picture = made(page, "text")
    assert page.locator("#picture-text").bounding_box() == before  # nothing jumped
    kept = max(studio.gallery.folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    assert picture == kept.read_bytes()
    recipe = read_recipe(kept)
    expect(page.locator("#caption-text")).to_contain_text(f"Seed {recipe.seed}")
    expect(page.locator("#caption-text")).to_contain_text("mini")
    expect(page.locator("#picture-text img")).to_have_attribute("alt", re.compile("yellow ball next to a blue cube"))
    expect(page.locator("#history img")).to_have_count(1)
    page.get_by_role("button", name="Reuse seed", exact=True).locator("visible=true").click()
    expect(seed_field(page)).to_have_value(str(recipe.seed))
    page.get_by_role("button", name="Random seed", exact=True).locator("visible=true").click()
    expect(seed_field(page)).to_have_value("")
    assert visit().locator("#history img").count() == 0  # another visitor sees none of it


def test_a_click_before_the_page_knows_its_visitor_waits_for_that(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    page.wait_for_function("localStorage.flux_demo_visitor")
    page.evaluate("window.key = localStorage.flux_demo_visitor; localStorage.removeItem('flux_demo_visitor')")
    run(page)
    page.wait_for_timeout(300)
    assert page.locator("#status-text").inner_text().strip() == ""
    page.evaluate("localStorage.flux_demo_visitor = window.key")
    made(page, "text")


def test_the_map_on_the_page_is_live_and_is_what_is_sent(visit, studio, photo, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    first = served(page, "#map-canny")
    assert pixels_hash(first) == studio.preview("canny", photo).sha256
    before = source(page, "#map-canny")
    field(page, "High threshold").fill("700")
    field(page, "High threshold").press("Tab")
    field(page, "Low threshold").fill("400")
    field(page, "Low threshold").press("Tab")
    changed(page, "#map-canny", before)
    wanted = studio.preview("canny", photo, low=400, high=700).sha256
    expect(page.locator("#map-canny img")).to_be_visible()
    wait_until(lambda: pixels_hash(served(page, "#map-canny")) == wanted)
    sent = served(page, "#map-canny")
    assert pixels_hash(sent) == wanted != pixels_hash(first)
    prompt_field(page).fill("a green cube on sand")
    set_steps(page, 1)
    run(page)
    picture = made(page, "canny")
    control = read_recipe_of(picture).control
    assert (control.sha256, control.options) == (wanted, {"low": 400, "high": 700})
    with Image.open(io.BytesIO(picture)) as after, Image.open(io.BytesIO(sent)) as shown:
        assert after.size == shown.size


def test_a_run_faster_than_the_live_map_draws_it_first(visit, studio, photo, photo_file):
    page = visit(tab="Canny")
    prompt_field(page).fill("a green cube on sand")
    set_steps(page, 1)
    give_photo(page, "canny", photo_file)
    page.locator("#photo-canny img").wait_for()
    field(page, "Low threshold").fill("10")
    run(page)
    control = read_recipe_of(made(page, "canny")).control
    assert control.sha256 == studio.preview("canny", photo, low=10).sha256
    assert control.sha256 == pixels_hash(served(page, "#map-canny"))


def test_a_dropped_picture_brings_everything_back(visit, client, studio, photo_file, tmp_path):
    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    page.locator("#map-depth img").wait_for()
    prompt_field(page).fill("an orange sphere on grass")
    set_steps(page, 1)
    seed_field(page).fill("4294967295")
    run(page)
    picture = tmp_path / "mine.png"
    picture.write_bytes(made(page, "depth"))
    shown = pixels_hash(served(page, "#map-depth"))
    prompt_field(page).fill("something else")
    seed_field(page).fill("")
    take_photo_away(page)
    page.locator("#map-depth img").wait_for(state="detached")
    page.get_by_role("tab", name="Text", exact=True).click()
    page.locator(".pictures-head input[type=file]").set_input_files(picture)
    page.locator("#prompt-depth textarea:visible").wait_for()  # the right tab came forward
    expect(prompt_field(page)).to_have_value("an orange sphere on grass")
    expect(seed_field(page)).to_have_value("4294967295")
    assert pixels_hash(served(page, "#map-depth")) == shown
    page.locator("#photo-depth img").wait_for()

    stranger = visit(tab="Text")  # has not got the map: is asked for the photo, and told whether it is the same map
    stranger.locator(".pictures-head input[type=file]").set_input_files(picture)
    stranger.get_by_text("The PNG does not store the photo").wait_for()
    give_photo(stranger, "depth", photo_file)
    stranger.get_by_text("It is the map that the image followed").wait_for()


def test_an_example_photo_is_compared_with_the_map_of_a_recipe(visit, tmp_path):
    page, stranger = visit(tab="Canny"), visit(tab="Canny")
    as_map = page.get_by_label("My image is already a map").locator("visible=true")
    as_map.check()
    page.locator("#examples-canny button").first.click()
    page.locator("#map-canny img").wait_for()
    expect(as_map).not_to_be_checked()
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    run(page)
    picture = tmp_path / "theirs.png"
    picture.write_bytes(made(page, "canny"))
    stranger.locator(".pictures-head input[type=file]").set_input_files(picture)
    stranger.get_by_text("The PNG does not store the photo").wait_for()
    stranger.locator("#examples-canny button").first.click()
    stranger.get_by_text("It is the map that the image followed").wait_for()
    stranger.locator(".pictures-head input[type=file]").set_input_files(picture)  # once more: the photo stays
    stranger.locator("#status-canny").get_by_text("Settings restored.").wait_for()
    stranger.get_by_text("It is the map that the image followed").wait_for()
    expect(stranger.locator("#photo-canny img")).to_have_count(1)
    run(stranger)
    stranger.get_by_text("It is the map that the image followed").wait_for(state="detached")


@pytest.mark.parametrize(("copies", "said"), [("true", "Link copied"), ("false", "does not let this page copy")])
def test_a_link_is_said_to_be_copied_only_if_it_was(visit, copies, said):
    page = visit()
    page.evaluate(
        f"""() => {{
            Object.defineProperty(navigator, "clipboard", {{ value: undefined }});  // as without https
            document.execCommand = (command) => {{ window.copied = document.activeElement.value; return {copies}; }};
        }}"""
    )
    prompt_field(page).fill("a red & blue cube")
    page.get_by_role("button", name="Copy link to these settings").locator("visible=true").click()
    page.locator("#status-text").get_by_text(said).wait_for()
    assert "mode=text&prompt=a+red+%26+blue+cube" in page.evaluate("window.copied")
    prompt_field(page).fill("é" * 1400)  # six characters each in an address
    page.get_by_role("button", name="Copy link to these settings").locator("visible=true").click()
    page.locator("#status-text").get_by_text("too long for a link").wait_for()


def test_a_picture_without_a_recipe_is_answered_in_words(visit, photo_file):
    page = visit()
    page.locator(".pictures-head input[type=file]").set_input_files(photo_file)
    page.locator("#restore-note").get_by_text("No flux_demo settings in this file").wait_for()


def test_a_wrong_seed_gets_a_sentence_and_the_form_stays(visit):
    page = visit()
    prompt_field(page).fill("a red <b>cube</b> ${1+1}")
    open_settings(page)
    for seed in ("abc", "4294967296"):
        seed_field(page).fill("4294967295")
        expect(seed_field(page)).to_have_attribute("aria-invalid", "false")
        seed_field(page).fill(seed)
        expect(seed_field(page)).to_have_attribute("aria-invalid", "true")
        said = page.locator("#seed-text .info-text").evaluate("info => getComputedStyle(info, '::after').content")
        assert said == '"A whole number, 0 to 4294967295."'
        run(page)
        page.locator("#status-text").get_by_text(re.compile(f"{seed}.{{0,2}} is not a valid seed")).wait_for()
        expect(prompt_field(page)).to_have_value("a red <b>cube</b> ${1+1}")
        expect(page.get_by_role("button", name="Generate").locator("visible=true")).to_be_enabled()
    set_steps(page, "")
    run(page)
    page.locator("#status-text").get_by_text("The Steps field is empty").wait_for()
    page.reload()
    expect(prompt_field(page)).to_have_value("a red <b>cube</b> ${1+1}")
    expect(field(page, "Steps")).to_have_value("28")


def test_words_that_the_mini_does_not_know_are_named_and_escaped(visit):
    page = visit()
    prompt_field(page).fill("a red cube and a <img src=x onerror=alert(1)> zebra ${document.title}")
    page.get_by_text("The mini doesn't know").wait_for()
    assert page.locator(".hint img").count() == 0
    prompt_field(page).fill("a red cube")
    page.get_by_text("The mini doesn't know").wait_for(state="detached")


def test_a_picture_goes_on_to_another_tab_as_its_photo(visit):
    page = visit()
    prompt_field(page).fill("a red cube on snow <script>")
    set_steps(page, 1)
    run(page)
    picture = made(page, "text")
    page.get_by_role("button", name="Use in Canny", exact=True).locator("visible=true").click()
    assert served(page, "#photo-canny") == picture
    page.locator("#map-canny img").wait_for()
    page.get_by_role("tab", name="Depth", exact=True).click()
    page.locator("#history button").first.click()  # the history brings its own tab forward
    page.locator("#prompt-text textarea:visible").wait_for()
    run(page)
    expect(page.locator("#history img")).to_have_count(2)
    borders = page.locator("#history .thumbnail-item").evaluate_all("items => items.map((item) => getComputedStyle(item).borderColor)")
    assert len(set(borders)) == 1  # no frame around what is not shown
    page.locator("#history button").nth(1).click()
    delete = page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")
    questions = []
    page.once("dialog", lambda dialog: (questions.append(dialog.message), dialog.dismiss()))
    delete.click()
    assert questions == ["Delete this image? Its file will be deleted too."]
    page.once("dialog", lambda dialog: dialog.accept())
    delete.click()
    expect(page.locator("#history img")).to_have_count(1)  # and not none: the first click deleted nothing
    page.get_by_role("tab", name="Canny", exact=True).click()
    before = source(page, "#map-canny")
    choose_size(page, SMALL)
    changed(page, "#map-canny", before)  # of the photo, which is a copy
    assert served(page, "#photo-canny") == picture


def test_a_ready_made_map_is_noticed_and_followed_as_it_is(visit, studio, photo, tmp_path):
    ready = studio.preview("canny", photo, "336x192")
    ready.image.save(tmp_path / "map.png")
    page = visit(tab="Canny")
    give_photo(page, "canny", tmp_path / "map.png")
    page.get_by_text("looks like a map already").wait_for()
    before = source(page, "#map-canny")
    page.get_by_role("button", name="Use as map", exact=True).locator("visible=true").click()
    assert pixels_hash(changed(page, "#map-canny", before)) == ready.sha256
    expect(field(page, "Low threshold")).to_have_count(0)  # nothing is drawn


def test_a_phone_needs_no_sideways_scrolling(visit):
    page = visit(width=390)
    for tab in ("Text", "Canny", "Depth"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(f"#prompt-{tab.lower()} textarea:visible").wait_for()
        open_settings(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator(".box.large:visible").bounding_box()["width"] > 340
