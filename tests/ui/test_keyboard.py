"""Runs that are started and stopped with the keyboard alone."""

import re

from playwright.sync_api import expect

from tests.ui.conftest import PATIENCE_MS, SMALL
from tests.ui.driving import hand_over, prompt_field, set_long_run, wait_for_next_step


def test_the_keyboard_alone_runs_and_stops(visit, slow_steps, photo_file):
    page = visit()
    set_long_run(page, SMALL)
    prompt_field(page).focus()
    page.keyboard.type("a white cube")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status-text")).to_contain_text(re.compile(r"Step \d+ of 100"), timeout=PATIENCE_MS)
    prompt_field(page).dispatch_event("keydown", {"key": "Escape", "isComposing": True})  # ends an input method's composition, not the run
    page.get_by_label("Size").locator("visible=true").click()
    page.get_by_role("listbox").locator("visible=true").wait_for()
    page.keyboard.press("Escape")  # closes the list
    wait_for_next_step(page, "text")
    expect(page.locator("#status-text")).to_contain_text(re.compile(r"Step \d+ of 100"))
    page.get_by_label("Size").locator("visible=true").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("listbox").locator("visible=true")).to_have_count(0)
    prompt_field(page).focus()
    hand_over(page, "drop", photo_file)
    page.locator("#restore-note .offers button").first.wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("#restore-note")).to_be_hidden()
    wait_for_next_step(page, "text")
    expect(page.locator("#status-text .step")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#status-text").get_by_text("Stopped at step").wait_for()
    expect(page.locator("#voice")).to_contain_text("Stopped at step")


def test_focus_goes_to_stop_and_back(visit, slow_steps):
    page = visit()
    prompt_field(page).fill("a white cube")
    set_long_run(page, SMALL)
    page.locator("button.run:visible").focus()
    page.keyboard.press("Enter")
    expect(page.locator("button.stop:visible")).to_be_focused()
    page.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
    page.keyboard.press("Enter")
    page.locator("#status-text").get_by_text("Stopped at step").wait_for()
    expect(page.locator("button.run:visible")).to_be_focused()
