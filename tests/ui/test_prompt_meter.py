"""How long a prompt is, and which of its words the mini does not know: said below it, and to programs."""

from playwright.sync_api import expect

from flux_demo.modes import MODES
from flux_demo.request import GenerationRequest, Size
from flux_demo.ui.prompt_meter import measure
from tests.ui.conftest import SMALL
from tests.ui.driving import choose_size, prompt_field, set_steps, wait_for_status
from tests.ui.test_api import logged


def test_what_the_model_does_not_read_is_counted_and_named(studio):
    said = [measure(studio, MODES["text"], " ".join(["red"] * words)) for words in range(60, 67)]
    first = next(number for number, each in enumerate(said) if "ignored" in each)
    assert said[first - 1 : first + 2] == [
        "64 of 64 tokens",
        "64 of 64 tokens: the last one is ignored, “red”",
        "64 of 64 tokens: the last 2 are ignored, from “red red”",
    ]


def test_a_word_is_judged_once_it_is_typed(visit):
    page = visit()
    said = page.get_by_text("The mini doesn't know")
    choose_size(page, SMALL)
    set_steps(page, 1)
    prompt_field(page).fill("a red ")
    for letter in "zeb":
        with page.expect_response(lambda response: "/run/" in response.url):
            prompt_field(page).press_sequentially(letter)
        page.wait_for_timeout(300)
        expect(said).to_have_count(0)
    prompt_field(page).press_sequentially(" ")
    expect(said).to_contain_text("“zeb”")
    page.keyboard.press("Backspace")
    expect(said).to_have_count(0)
    page.keyboard.press("Tab")  # whoever leaves the field is done with the word
    expect(said).to_contain_text("“zeb”")
    prompt_field(page).press_sequentially("r")
    expect(said).to_have_count(0)
    page.keyboard.press("Control+Enter")  # and whoever starts a run
    expect(said).to_contain_text("“zebr”")
    wait_for_status(page, "text", "Done in")
    expect(page.locator("#status-text")).not_to_contain_text("does not know")  # that stands under the prompt


def test_programs_are_told_of_the_words_that_the_mini_does_not_know(client, studio):
    (said,) = logged(client.submit("a red zebra", SMALL, steps=1, api_name="/text"))
    assert said.startswith("The mini does not know: zebra. The mini generates one or two objects")
    assert studio.generate(GenerationRequest("text", "a red zebra", steps=1, size=Size(128, 128))).notes == (said,)
