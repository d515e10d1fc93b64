"""Nothing on the page is left in English: where a visitor reads Japanese, each text has Japanese letters."""

import re

import numpy as np
from playwright.sync_api import expect

from flux_demo.modes import MODES
from flux_demo.settings import ASSETS
from flux_demo.ui import examples
from flux_demo.ui.page import TITLE
from tests.ui.conftest import SMALL
from tests.ui.driving import give_photo, hand_over, handled, open_editor, pixels, prompt_field, served, stroke, view
from tests.ui.test_languages import WORDS
from tests.waiting import wait_until

# Whatever can be read or heard: texts, names, alternative texts, titles, placeholders, and what the style sheet shows.
READ = """() => {
    const found = [document.title];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) if (!texts.currentNode.parentElement.closest("script, style, noscript, .caption-label")) found.push(texts.currentNode.textContent);
    for (const part of document.querySelectorAll("body *")) {
        for (const name of ["aria-label", "aria-valuetext", "aria-description", "aria-roledescription", "alt", "title", "placeholder"])
            found.push(part.getAttribute(name) ?? "");
        for (const beside of ["::before", "::after"]) {
            const { content } = getComputedStyle(part, beside);
            if (content.startsWith('"')) found.push(JSON.parse(content));
        }
    }
    return found.map((text) => text.trim());
}"""
NEVER_SEEN = {
    "Look again",
    "Check backends",
    "Layer 1",
    "Show Layers",
    "undo",
}  # hidden parts, and a drawing inside a button that has a name
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
NAMES = {TITLE, "mini", *(mode.title for mode in MODES.values())}
TYPED = {"a red cube", "a red dragon.", "foo"}
PROMPTS = {prompt for mode in MODES.values() for prompt in examples.prompts(mode, for_mini=True)}

# Every thumbnail has the name of its image, in place of the number that Gradio gives it.
NAMED = "[...document.querySelectorAll('.thumbs button:has(img)')].every((each) => each.ariaLabel === each.querySelector('img').alt)"


def read_everywhere(page, tmp_path):
    """Walk through the page by what does not depend on the language; return what could be read on the way."""
    found = set()

    def part(selector):
        return page.locator(selector).locator("visible=true")

    def look():
        page.wait_for_timeout(400)  # the page's script and Gradio's frontend have had their turn
        page.wait_for_function(NAMED)  # also where an image came meanwhile: the script is 50 ms behind
        found.update(page.evaluate(READ))

    def run(mode, button=".run"):
        page.evaluate(
            """(mode) => {  // a short run may be over before anybody asks
                const stop = document.querySelector(`#tab-${mode} button.stop`);
                window.begun = false;
                new MutationObserver(() => { window.begun ||= !stop.disabled; }).observe(stop, { attributes: true });
            }""",
            mode,
        )
        part(f"button{button}").click()
        page.wait_for_function("window.begun")
        look()
        page.wait_for_function("(mode) => document.querySelector(`#tab-${mode} button.run`).disabled === false", arg=mode)
        look()

    page.wait_for_timeout(2500)  # the page has asked once what is being loaded, and with it for its own texts in the visitor's language
    look()
    part("button.run").click()  # without a prompt
    part(".status .problem").wait_for()
    look()
    prompt_field(page).fill("a red dragon.")
    part("details.hint").wait_for()
    for size in ("foo", "1000x1000", SMALL):
        part(".size input").fill(size)
        page.keyboard.press("Enter")
        look()
    part(".size input").click()
    look()
    page.keyboard.press("Escape")
    part(".seed input").fill("foo")
    part("button.run").click()
    part(".status .problem").wait_for()
    look()
    part(".seed input").fill("1")
    prompt_field(page).fill("a red cube")
    part("#steps-text input[type=number]").fill("3")
    run("text")
    page.locator("#tab-canny-button").click()
    part("#examples-canny button").first.click()
    page.locator("#map-canny img").wait_for()
    look()
    part(".size input").fill(SMALL)
    page.keyboard.press("Enter")
    prompt_field(page).fill("a red cube")
    part("#steps-canny input[type=number]").fill("3")
    for fit in part("#fit-canny label").all():
        fit.click()
        look()
    part(".view input[value=over]").check()
    page.locator("#beside-canny img").nth(1).wait_for()
    look()
    part(".view input[value=paint]").check()
    part("#painter-canny canvas").first.wait_for()
    for tool in part("#painter-canny .half-container:not(.right) button").all():
        tool.click()
        look()
    run("canny", ".compare")
    page.locator("#strip img").wait_for()
    look()
    page.locator("#tab-depth-button").click()
    part("#examples-depth button").first.click()
    page.locator("#map-depth img").wait_for()
    part(".view input[value=colour]").check()
    look()
    (tmp_path / "dropped.png").write_text("not an image")
    page.locator(".pictures-head input[type=file]").set_input_files(tmp_path / "dropped.png")
    part("#restore-note .problem").wait_for()
    look()
    part("#restore-note button.close-note").click()
    page.locator("#tab-text-button").click()
    hand_over(page, "drop", ASSETS / "examples" / "two-on-wood.png", before=["a.txt"])
    part("#restore-note .offers button").first.wait_for()
    look()
    page.locator("#history button").last.click()
    look()
    return {text for text in found if re.search(r"[^\W\d_]{2}", text)}


def test_nothing_that_can_be_read_or_heard_is_english(visit, tmp_path):
    words = WORDS["ja"]
    found = read_everywhere(visit(locale="ja-JP"), tmp_path)
    english = {text for text in found if text in words or not JAPANESE.search(text)}
    left = english - set(words.values()) - NEVER_SEEN - NAMES - TYPED - PROMPTS
    assert {text for text in left if not re.fullmatch(r"[-\d: ]+ UTC", text)} == set()
    assert len(found) > 150 and not any("__i18n__" in text for text in found)


def test_undo_ends_at_the_map_whatever_the_language_calls_it(visit):
    page = visit(tab="Depth", locale="de-DE")
    give_photo(page, "depth", ASSETS / "examples" / "two-on-wood.png")
    drawn = served(page, "#map-depth")
    x, y = open_editor(page, "Malen")
    zoom = page.locator("#painter-depth .zoom-number").inner_text()
    undo, redo, clear = (
        page.get_by_role("button", name=name, exact=True) for name in ("Rückgängig", "Wiederholen", "Alles Gemalte entfernen")
    )
    faded = "each => getComputedStyle(each).opacity"
    assert undo.evaluate(faded) == "0.4"
    with handled(page):
        stroke(page, x, y)
    assert undo.evaluate(faded) == "1"
    undo.click()
    redo.click()
    assert undo.evaluate(faded) == "1"
    for _ in range(3):  # more than there are strokes
        undo.click()
    assert undo.evaluate(faded) == "0.4"
    page.wait_for_timeout(1000)  # an editor that lost the map would be given it again
    assert page.locator("#painter-depth .zoom-number").inner_text() == zoom  # that of the map, and not of an empty canvas
    with handled(page):
        stroke(page, x, y - 20)
    page.once("dialog", lambda dialog: dialog.accept())
    clear.click()
    expect(undo).to_have_css("opacity", "0.4")
    view(page, "Karte")
    expect(page.locator("#map-depth")).to_be_visible()
    wait_until(lambda: np.array_equal(pixels(served(page, "#map-depth")), pixels(drawn)))
