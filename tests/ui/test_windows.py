"""Two windows of one visitor: what is done in one is seen in the other, and neither undoes the other."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import SMALL
from tests.ui.driving import (
    choose_size,
    field,
    forget_visitor,
    made,
    prompt_field,
    run,
    seed_field,
    set_steps,
    wait_for_next_step,
    wait_for_status,
)

# Gradio resets a thumbnail's name when it draws it anew. The page's script must name it after its prompt again, even between two announced steps.
DRAWN_ANEW = """() => {
    const thumb = document.querySelector("#history button:has(img)");
    thumb.ariaLabel = "Thumbnail 1 of 2";
    thumb.append(document.createElement("i"));
}"""


@pytest.fixture
def windows(visit):
    first = visit()
    second = first.context.new_page()
    second.goto(first.url)
    second.locator("#voice").wait_for(state="attached")
    return first, second


def test_a_second_window_follows_the_run_of_the_first(windows, slow_steps, held_steps):
    first, second = windows
    for page, prompt in ((first, "a blue cone"), (second, "a red cube")):
        prompt_field(page).fill(prompt)
        choose_size(page, SMALL)
        set_steps(page, 2)
    seed_field(first).fill("3")  # so that the form that is kept is that of the first
    run(first)
    first.locator("#status-text .step").wait_for()
    run(second)
    second.locator("#status-text .step").wait_for()
    held_steps.release(1000)  # whatever is run from here on is slow, but not held
    second.locator("#status-text").get_by_text("Another of your windows").wait_for()
    expect(second.locator("#picture-text img")).to_have_attribute("alt", re.compile("a blue cone"))
    expect(prompt_field(second)).to_have_value("a red cube")
    expect(second.locator("#tab-text .answer h2")).to_have_text("Image from earlier settings")
    for stopping, said in ((first, "Another of your windows stopped this run."), (second, "Stopped at step")):
        set_steps(first, 100)
        run(first)
        first.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
        run(second)
        second.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
        stopping.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
        second.locator("#status-text").get_by_text(said).wait_for()
        expect(second.locator("#tab-text .answer h2")).to_have_text("Image from earlier settings")
        wait_for_status(first, "text", "Stopped at step")
        expect(first.locator("#tab-text .answer h2")).to_have_text("Image")


def test_a_window_that_is_in_front_again_has_the_images_of_the_others(windows):
    first, second = windows
    prompt_field(first).fill("a blue cone")
    set_steps(first, 1)
    for count in (1, 2):
        run(first)
        expect(first.locator("#history img")).to_have_count(count)
    expect(second.locator("#history img")).to_have_count(0)
    second.evaluate("dispatchEvent(new Event('focus'))")  # Chromium without a screen has every window in front
    expect(second.locator("#history img")).to_have_count(2)
    second.locator("#history button:has(img)").first.click()
    second.locator("#picture-text img").wait_for()
    first.once("dialog", lambda dialog: dialog.accept())
    first.get_by_role("button", name="Delete image").locator("visible=true").click()
    expect(first.locator("#history img")).to_have_count(1)
    second.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(second.locator("#history img")).to_have_count(1)
    expect(second.locator("#picture-text img")).to_have_count(0)
    expect(second.locator("#restore-note")).to_contain_text("This image is no longer kept.")


def asks_to_open(route):
    """For a visitor without a key: with nothing in the address, and no click that was lost."""
    return (json.loads(route.request.post_data or "{}").get("data") or [])[1:3] == ["", {}]


def test_windows_that_a_new_visitor_opens_together_are_of_one_visitor(windows):
    first, second = windows
    forget_visitor(first)
    opening = []
    for page in windows:
        page.route("**/run/predict*", lambda route: opening.append(route) if asks_to_open(route) else route.continue_())
        page.reload(wait_until="commit")
    for _ in range(200):
        if len(opening) == 2:  # neither has its answer when the other one asks
            break
        first.wait_for_timeout(50)
    for route in opening:
        route.continue_()
    for page in windows:
        page.unroute_all()
        page.wait_for_function("localStorage.flux_demo_visitor && window.doneWhileOpening.over")
    with first.expect_response(lambda response: '"71"' in (response.request.post_data or "")):
        seed_field(first).fill("71")
    with second.expect_response(lambda response: "a red cube" in (response.request.post_data or "")):
        prompt_field(second).fill("a red cube")
    first.evaluate("sessionStorage.clear()")  # which would bring back what was typed in this window
    first.reload()
    expect(prompt_field(first)).to_have_value("a red cube")
    expect(seed_field(first)).to_have_value("71")


def test_what_one_window_changes_another_does_not_undo(windows):
    first, second = windows
    second.wait_for_function("window.doneWhileOpening.over")
    set_steps(first, 4)
    with first.expect_response(lambda response: '"71"' in (response.request.post_data or "")):
        seed_field(first).fill("71")
    with second.expect_response(lambda response: "a red cube" in (response.request.post_data or "")):
        prompt_field(second).fill("a red cube")
    for page in (first, second):
        page.reload()
        expect(prompt_field(page)).to_have_value("a red cube")
        expect(seed_field(page)).to_have_value("71")
        expect(field(page, "Steps")).to_have_value("4")


def test_an_image_that_is_opened_while_another_window_runs_is_no_part_of_that_run(windows, slow_steps):
    first, second = windows
    for page in windows:
        prompt_field(page).fill("a blue cone")
        choose_size(page, SMALL)
        set_steps(page, 1)
    for _ in range(3):
        run(first)
        made(first, "text")
    first.once("dialog", lambda dialog: dialog.accept())
    first.get_by_role("button", name="Delete image").locator("visible=true").click()
    wait_for_status(first, "text", "The image was deleted.")
    set_steps(second, 100)
    run(second)
    second.locator("#status-text .step").wait_for()
    first.locator("#history button:has(img)").first.click()
    first.locator("#caption-text").get_by_text("Seed").wait_for()
    expect(first.locator("#tab-text .answer h2")).to_have_text("Image")
    expect(first.locator("#status-text")).to_have_text("")
    expect(first.get_by_role("button", name="Back to the preview").locator("visible=true")).to_have_count(0)
    second.locator("#picture-text.previewing img").wait_for()
    second.evaluate("dispatchEvent(new Event('focus'))")
    second.locator("#history button:has(img)").last.click()
    expect(second.locator("#picture-text.previewing")).to_have_count(0)
    first.once("dialog", lambda dialog: dialog.accept())
    first.get_by_role("button", name="Delete image").locator("visible=true").click()
    expect(first.locator("#history img")).to_have_count(1)
    wait_for_next_step(second, "text")  # so that there is a newer preview
    expect(second.locator("#picture-text.previewing")).to_have_count(0)
    second.evaluate(DRAWN_ANEW)
    expect(second.locator("#history button:has(img)").first).to_have_attribute("aria-label", "a blue cone")
    run(first)  # the other window's run, which it follows from here on
    first.locator("#picture-text.previewing img").wait_for()
    back = second.get_by_role("button", name="Back to the preview").locator("visible=true")
    expect(back).to_have_count(1)
    heading = second.locator("#tab-text .answer h2")
    expect(heading).to_contain_text("while the next is generated")
    second.get_by_role("button", name="Reuse all settings").locator("visible=true").click()
    expect(seed_field(second)).not_to_have_value("")
    wait_for_next_step(second, "text")
    expect(heading).to_contain_text("while the next is generated")
    expect(back).to_have_count(1)
    back.click()
    second.locator("#picture-text.previewing img").wait_for()
    expect(back).to_have_count(0)
    second.locator("#history button:has(img)").last.click()
    expect(second.locator("#picture-text.previewing")).to_have_count(0)
    second.reload()  # shows what is under way
    second.locator("#picture-text.previewing img").wait_for()
    second.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    wait_for_status(second, "text", "Stopped at step")


def test_an_image_that_goes_while_the_next_one_is_made_is_not_missed(windows, held_steps):
    first, second = windows
    prompt_field(first).fill("a blue cone")
    set_steps(first, 1)
    held_steps.release()
    run(first)
    made(first, "text")
    second.evaluate("dispatchEvent(new Event('focus'))")
    second.locator("#history button:has(img)").click()
    second.locator("#picture-text img").wait_for()
    prompt_field(second).fill("a red cube")
    choose_size(second, SMALL)
    set_steps(second, 2)
    run(second)
    second.locator("#picture-text.previewing img").wait_for()
    first.once("dialog", lambda dialog: dialog.accept())
    first.get_by_role("button", name="Delete image").locator("visible=true").click()
    wait_for_status(first, "text", "The image was deleted.")
    second.evaluate("dispatchEvent(new Event('focus'))")
    expect(second.locator("#history img")).to_have_count(0)
    held_steps.release(2)
    made(second, "text")
    expect(second.locator("#history img")).to_have_count(1)
    expect(second.locator("#restore-note")).not_to_contain_text("no longer kept")
