"""The page for everyone: axe-core's rules, the keyboard alone, forced colours, reduced motion, zoom, touch."""

from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import expect

from tests.ui.driving import field, give_photo, made, open_settings, prompt_field, read_recipe_of, seed_field, set_steps

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
OF_GRADIO: set[str] = set()  # rule and element of what is wrong in Gradio's own markup and cannot be mended from outside: nothing now

SERIOUS = """async () => {
    const found = await axe.run(document, { resultTypes: ["violations"] });
    const serious = found.violations.filter((each) => ["serious", "critical"].includes(each.impact));
    return serious.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}`));
}"""

# Fields that can hardly be told from the page: the border of the field, or of the part around it, is under 3:1.
FAINT = """() => {
    const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const behind = (part) => {
        for (; part; part = part.parentElement) {
            const colour = parts(getComputedStyle(part).backgroundColor);
            if ((colour[3] ?? 1) > 0.9) return colour.slice(0, 3);
        }
        return [255, 255, 255];
    };
    const ratio = (a, b) => { const [dark, bright] = [light(a), light(b)].sort((x, y) => x - y); return (bright + 0.05) / (dark + 0.05); };
    const bordered = (part) => {
        for (let depth = 0; part && depth < 4; part = part.parentElement, depth++) {
            const style = getComputedStyle(part);
            if (parseFloat(style.borderTopWidth) > 0 && style.borderTopStyle !== "none") return part;
        }
    };
    return [...document.querySelectorAll("textarea, input:not([type=file], [type=range])")].filter((field) => field.getClientRects().length)
        .map((field) => [field, bordered(field)])
        .filter(([, part]) => !part || ratio(parts(getComputedStyle(part).borderTopColor).slice(0, 3), behind(part.parentElement)) < 3)
        .map(([field]) => field.outerHTML.slice(0, 120));
}"""

MOVING = """() => [...document.querySelectorAll("*")].filter((part) => {
    const style = getComputedStyle(part);
    const long = (times) => times.split(",").some((time) => parseFloat(time) > 0);
    return long(style.transitionDuration) || style.animationName !== "none";
}).length"""

SMALL_TEXT = """() => [...document.querySelectorAll("textarea, input:not([type=range], [type=file], [type=checkbox], [type=radio])")]
    .filter((field) => field.getClientRects().length && parseFloat(getComputedStyle(field).fontSize) < 16).map((field) => field.outerHTML.slice(0, 120))"""


def focused(page):
    return page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || document.activeElement.tagName")


def tab_to(page, name, presses=60):
    """Press Tab until the focus is on what has that name."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    pytest.fail(f"Tab never comes to {name!r}")


def test_axe_finds_nothing_serious_and_every_field_has_a_border(visit, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").first.wait_for()
    page.evaluate(AXE)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # no colour is caught half way
        page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", colours == "dark")
        assert set(page.evaluate(SERIOUS)) - OF_GRADIO == set()
        assert page.evaluate(FAINT) == []


def test_the_keyboard_alone_runs_and_restores(visit):
    page = visit()
    set_steps(page, 1)
    prompt_field(page).focus()
    page.keyboard.type("a red cube")
    tab_to(page, "Generate")
    page.keyboard.press("Enter")
    made(page, "text")
    page.wait_for_function("document.activeElement.innerText === 'Generate'")  # it went to Stop and came back
    prompt_field(page).focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("a blue cone")
    tab_to(page, "a red cube")  # the thumbnail has its prompt for a name
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        if focused(page) == "Reuse all settings":
            break
    page.keyboard.press("Enter")
    expect(prompt_field(page)).to_have_value("a red cube")
    expect(seed_field(page)).not_to_have_value("")
    with page.expect_file_chooser():
        tab_to(page, "Load settings from PNG")
        page.keyboard.press("Enter")


def test_ctrl_enter_runs_with_what_is_being_typed(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    open_settings(page)
    seed_field(page).fill("41")
    field(page, "Steps").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    page.get_by_label("Size", exact=True).locator("visible=true").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("128x256")
    page.keyboard.press("Control+Enter")
    recipe = read_recipe_of(made(page, "text"))
    assert (recipe.width, recipe.height, recipe.steps) == (128, 256, 2)
    field(page, "Steps").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("1")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#caption-text")).to_contain_text("1 step")


def test_the_keys_are_named_where_they_can_be_used(visit):
    page = visit(locale="de-DE")
    for selector, key in (
        ("button.run", "Strg+Enter"),
        ("button.stop", "Escape"),
        (".prompt textarea", "Pfeil nach oben: frühere Prompts"),
    ):
        expect(page.locator(f"#tab-text {selector}")).to_have_attribute("title", key)


def test_a_mistake_that_is_made_again_is_read_out_again(visit):
    page = visit()
    voice = page.locator("#voice")
    for _ in range(2):
        assert page.evaluate("document.querySelector('button.run').click() ?? document.querySelector('#voice').textContent") == ""
        expect(voice).to_contain_text("The prompt is empty.")


def test_forced_colours_reduced_motion_zoom_and_touch(visit):
    page = visit(tab="Canny")
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    assert page.evaluate(MOVING) == 0
    page.locator(".choices input:visible").first.wait_for()
    drawn_by_the_system = "(fields) => fields.every((field) => getComputedStyle(field).appearance === 'auto')"
    assert page.locator(":is(input[type=radio], input[type=checkbox], input[type=range]):visible").evaluate_all(drawn_by_the_system)
    page.emulate_media(forced_colors="none", reduced_motion="no-preference")
    page.set_viewport_size({"width": 640, "height": 450})  # 1280 x 900 at 200 %
    assert page.evaluate("document.documentElement.scrollWidth") == 640
    row = page.locator(".run-row:visible").bounding_box()
    assert row["y"] + row["height"] == 450 and row["height"] < 150
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    settings = page.locator(".settings:visible > button")
    for folded in ("false", "true"):
        expect(settings).to_have_attribute("aria-expanded", folded)
        settings.click()
    settings.click()
    seed_field(page).wait_for()
    assert page.evaluate("matchMedia('(pointer: coarse)').matches")
    assert page.evaluate(SMALL_TEXT) == []
