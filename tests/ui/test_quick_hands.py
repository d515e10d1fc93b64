"""Whoever is faster than the connection: what is done while the answer to the same thing before is under way counts too."""

import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.ui.driving import hand_over, prompt_field, run, seed_field, served, set_steps
from tests.waiting import wait_until


@contextmanager
def answers_held(page, words, to="**/run/predict*"):
    """Requests whose body has these words wait until the end of the block; gives those that have come."""
    held = []
    page.route(to, lambda route: held.append(route) if words in (route.request.post_data or "") else route.continue_())
    yield held
    for route in reversed(held):  # in the order that is worst
        route.continue_()
    page.unroute(to)


@pytest.fixture
def two_images(visit):
    """A page whose visitor has two images: the newer one of seed 2, and one of seed 1."""
    page = visit()
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    for seed in (1, 2):
        _make(page, seed)
    return page


def _make(page, seed):
    """Make one image more, of this seed, and wait for it and for Generate."""
    seed_field(page).fill(str(seed))
    run(page)
    expect(page.locator("#history img")).to_have_count(seed)
    expect(page.locator("#caption-text")).to_contain_text(f"Seed {seed}")
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_enabled()


def test_the_image_that_was_chosen_last_is_shown(two_images):
    page = two_images
    _make(page, 3)
    third, second, first = page.locator("#history button:has(img)").all()
    with answers_held(page, '"index":', "**/queue/join*") as held:
        second.click()
        while not held:
            page.wait_for_timeout(20)
        third.click()
        first.click()
    expect(page.locator("#caption-text")).to_contain_text("Seed 1")
    page.wait_for_timeout(500)  # no other one takes its place
    expect(page.locator("#caption-text")).to_contain_text("Seed 1")


def test_a_change_before_a_click_that_is_told_of_after_it_leaves_why_the_run_failed(visit):
    page = visit()
    status = page.locator("#status-text")
    with answers_held(page, '"a red cub"') as held:
        prompt_field(page).fill("a red cub")
        while not held:
            page.wait_for_timeout(20)
        prompt_field(page).fill("")  # told of after the change before
        run(page)
        status.get_by_text("The prompt is empty").wait_for()
        page.wait_for_timeout(500)  # the page knows it as well as shows it
    page.wait_for_timeout(1000)  # the change to an empty prompt has arrived
    expect(status).to_contain_text("The prompt is empty")
    prompt_field(page).fill("a red cube")
    expect(status).to_have_text("")


def test_a_question_that_was_answered_with_no_is_asked_again(two_images):
    page = two_images
    delete = page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")
    page.once("dialog", lambda dialog: dialog.dismiss())
    with answers_held(page, '"data":["",') as held:
        delete.click()
        while not held:
            page.wait_for_timeout(20)
        page.once("dialog", lambda dialog: dialog.accept())
        delete.click()
    expect(page.locator("#history img")).to_have_count(1)


def test_of_two_dropped_files_the_last_one_counts(two_images, tmp_path, photo_file):
    page = two_images
    image = tmp_path / "image.png"
    image.write_bytes(served(page, "#picture-text"))
    prompt_field(page).fill("another prompt")
    dropped = page.locator(".pictures-head input[type=file]")
    with answers_held(page, photo_file.name, "**/queue/join*") as held:
        dropped.set_input_files(photo_file)
        while not held:
            page.wait_for_timeout(20)
        dropped.set_input_files(image)
        page.wait_for_timeout(500)
    expect(prompt_field(page)).to_have_value("a red cube")


def test_what_was_typed_follows_through_tabs_that_are_passed_quickly(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    with answers_held(page, '"data":["canny",') as held:
        page.get_by_role("tab", name="Canny", exact=True).click()
        while not held:
            page.wait_for_timeout(20)
        page.get_by_role("tab", name="Depth", exact=True).click()
        page.wait_for_timeout(300)
    expect(prompt_field(page)).to_have_value("a red cube")


def test_of_two_photos_that_are_dropped_at_once_the_last_one_counts(visit, photo, tmp_path):
    first, last = tmp_path / "first.png", tmp_path / "last.png"
    photo.save(first)
    photo.rotate(180).save(last)
    page = visit(tab="Canny")
    for path in (first, last):
        hand_over(page, "drop", path)
    page.wait_for_function("document.querySelector('#photo-canny img')")
    wait_until(lambda: served(page, "#photo-canny") == last.read_bytes())
    expect(page.locator("#restore-note .say:visible")).to_have_count(0)


def test_what_is_deleted_is_what_was_in_sight_when_the_question_came(two_images, studio, held_decoding):
    page, images = two_images, len(list(studio.gallery.folder.glob("*.png")))
    seed_field(page).fill("3")
    run(page)
    expect(page.locator("#status-text")).to_contain_text("Decoding")
    page.locator("#history button:has(img)").first.click()  # the one of seed 2 is looked at meanwhile
    expect(page.locator("#caption-text")).to_contain_text("Seed 2")

    def answer(dialog):  # the script of the page waits for it, and the run does not
        held_decoding.release()
        wait_until(lambda: len(list(studio.gallery.folder.glob("*.png"))) > images)
        time.sleep(1)  # until the program has the new image in the tab
        dialog.accept()

    page.once("dialog", answer)
    page.get_by_role("button", name="Delete image", exact=True).locator("visible=true").click()
    expect(page.locator("#history img")).to_have_count(2)
    wait_until(lambda: len(list(studio.gallery.folder.glob("*.png"))) == images)
    expect(page.locator("#caption-text")).to_contain_text("Seed 3")
