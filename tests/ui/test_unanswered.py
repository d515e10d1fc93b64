"""A page whose program has ended."""

import re

from playwright.sync_api import expect

from tests.starting import free_port, started
from tests.ui.conftest import PATIENCE_MS
from tests.ui.driving import prompt_field
from tests.ui.test_languages import WORDS

SAID = WORDS["de"][
    "The program is not responding. Wait, or start it again: your settings and finished images are kept, and this page comes back by itself."
]


def test_a_program_that_ended_is_told_of_in_place_of_its_last_step_until_it_is_there_again(chromium, tmp_path):
    arguments = ("--port", str(free_port()), "--outputs", str(tmp_path))
    context = chromium.new_context(locale="de-DE", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    with started(*arguments, NO_PROXY="127.0.0.1") as (_, address, _):
        page.goto(address)
        page.locator("#voice").wait_for(state="attached")
        page.wait_for_function("window.doneWhileOpening.over && localStorage.flux_demo_visitor")
        prompt_field(page).fill("a red cube")
        page.locator("#steps-text input[type=number]").fill("100")
        page.keyboard.press("Tab")
        page.locator("#tab-text button.run").click()
        page.locator("#status-text .step").wait_for()
    expect(page.locator("#voice")).to_have_text(SAID)
    assert page.locator("#tab-text .run-row").evaluate("(row) => getComputedStyle(row, '::after').content") == f'"{SAID}"'
    for old in ("#status-text .step", "#tab-text button.run", "#tab-text button.stop", ".toast-body"):
        expect(page.locator(old)).to_be_hidden()
    expect(page).not_to_have_title(re.compile("100"))
    with started(*arguments, NO_PROXY="127.0.0.1"):
        expect(page.locator("#tab-text button.run")).to_be_visible()
        expect(prompt_field(page)).to_have_value("a red cube")
        context.close()
