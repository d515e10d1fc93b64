"""One's images below the tabs: where they are, which one is in sight, and how to go through them."""

import pytest
from playwright.sync_api import expect

from tests.ui.driving import choose_size, field, prompt_field, run, seed_field, wait_for_status


@pytest.fixture
def three(visit):
    """A page whose visitor has three images, of the seeds 7, 8 and 9 and the newest first."""
    page = visit()
    page.emulate_media(reduced_motion="reduce")  # the page is where it scrolls to at once
    prompt_field(page).fill("a red cube")
    choose_size(page, "256x256")
    seed_field(page).fill("7")
    field(page, "Steps").fill("1")
    page.locator("#count-text").get_by_label("3", exact=True).check()
    run(page)
    wait_for_status(page, "text", "Done in")
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_enabled()
    return page


def marked(page):
    return page.locator("#history button[aria-current=true]")


def shows(page, seed):
    """Wait until this image is in sight, and its thumbnail, alone, is marked."""
    expect(page.locator("#caption-text")).to_contain_text(f"Seed {seed}")
    expect(marked(page)).to_have_count(1)
    expect(page.locator("#history button").nth(9 - seed)).to_have_attribute("aria-current", "true")


def test_several_images_say_where_they_are(three):
    expect(three.locator("#status-text")).to_contain_text("All 3 images are in “Your images” below.")
    expect(three.locator("#history img")).to_have_count(3)


def test_the_arrow_keys_go_through_the_images_and_the_one_in_sight_is_marked(three):
    page = three
    shows(page, 9)
    page.locator("#picture-text .image-container > button").focus()
    page.keyboard.press("ArrowRight")
    shows(page, 8)
    page.keyboard.press("ArrowLeft")
    shows(page, 9)
    page.keyboard.press("ArrowLeft")  # there is none before the first
    thumbs = page.locator("#history button")
    thumbs.nth(1).focus()
    page.keyboard.press("ArrowRight")
    shows(page, 7)
    expect(thumbs.nth(2)).to_be_focused()
    page.get_by_role("tab", name="Canny", exact=True).click()
    expect(marked(page)).to_have_count(0)
    page.get_by_role("tab", name="Text", exact=True).click()
    shows(page, 7)
    prompt_field(page).fill("ab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.type("x")
    expect(prompt_field(page)).to_have_value("axb")  # in a field they do what they do there
    shows(page, 7)


def test_a_choice_does_not_scroll_where_the_image_is_in_sight(three):
    page = three
    page.set_viewport_size({"width": 1280, "height": 900})
    last = page.locator("#history button").last
    last.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    last.click()
    shows(page, 7)
    page.wait_for_timeout(600)
    assert page.evaluate("scrollY") == before
    page.set_viewport_size({"width": 390, "height": 700})  # a phone's, where the image is far above
    last.scroll_into_view_if_needed()
    page.locator("#history button").first.click()
    shows(page, 9)
    expect(page.locator("#picture-text img")).to_be_in_viewport(ratio=0.9)


def test_the_next_image_comes_in_the_place_of_one_that_is_deleted(three):
    page = three
    page.on("dialog", lambda dialog: dialog.accept())
    delete = page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")
    page.locator("#history button").nth(1).click()
    shows(page, 8)
    delete.press("Enter")
    wait_for_status(page, "text", "The next one is in its place.")
    expect(page.locator("#caption-text")).to_contain_text("Seed 7")
    expect(delete).to_be_focused()
    page.keyboard.press("Enter")  # the last, after which there is only the one before
    expect(page.locator("#caption-text")).to_contain_text("Seed 9")
    expect(page.locator("#history img")).to_have_count(1)
    expect(marked(page)).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#history img")).to_have_count(0)
    expect(page.locator("#picture-text img")).to_have_count(0)
    expect(page.locator("#status-text")).to_have_text("The image was deleted.")


def test_a_click_on_an_image_enlarges_it_and_another_brings_it_back(three):
    page = three
    image = page.locator("#picture-text .image-container > button")
    small = image.bounding_box()["width"]
    image.click()
    expect(page.locator("#picture-text.fullscreen")).to_have_count(1)
    assert image.bounding_box()["width"] > small
    image.click()
    expect(page.locator(".fullscreen")).to_have_count(0)
    image.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#picture-text.fullscreen")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".fullscreen")).to_have_count(0)
