"""Painting on a map: what is painted is what is sent, it outlives a reload, and no event that comes late takes it away."""

import threading

import cv2
import numpy as np
from playwright.sync_api import expect

from flux_demo.settings import ASSETS
from flux_demo.ui import strokes
from flux_demo.ui.map_views import choose_view
from flux_demo.ui.visitor_store import is_key
from tests.ui.conftest import SMALL
from tests.ui.driving import (
    WIDE,
    changed,
    choose_size,
    field,
    give_photo,
    handled,
    made,
    open_editor,
    pixels,
    pixels_hash,
    prompt_field,
    read_recipe_of,
    run,
    served,
    set_steps,
    source,
    stroke,
    view,
)
from tests.waiting import wait_until


def test_what_is_painted_is_what_is_sent_and_nothing_else_changes(visit, studio, photo_file):
    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    before = source(page, "#map-depth")
    choose_size(page, WIDE)
    drawn = pixels(changed(page, "#map-depth", before))
    prompt_field(page).fill("a red cube on snow")
    x, y = open_editor(page)
    around = pixels(page.locator("#painter-depth canvas").first.screenshot())[5, 5]
    assert (around > 100).all() and (around < 230).all()  # no more white than black, which the map's edges are
    zoom = page.locator("#painter-depth .zoom-number").inner_text()
    stroke(page, x, y - 20)
    painter = page.locator("#painter-depth")
    for keys, left in (("Control+z", "0"), ("Control+Shift+z", "1"), ("Control+z", "0"), ("Control+y", "1")):
        page.keyboard.press(keys)  # of the editor, and not of the prompt
        expect(painter).to_have_attribute("data-strokes", left)
    for _ in range(3):  # more than there are strokes: it ends at the map
        page.locator("#painter-depth button[title=Undo]").click()
    expect(prompt_field(page)).to_have_value("a red cube on snow")
    assert page.locator("#painter-depth .zoom-number").inner_text() == zoom  # that of the map, and not of an empty canvas
    stroke(page, x, y)
    view(page, "Map")
    view(page, "Paint")  # before the answer to the first choice
    set_steps(page, 1)
    run(page)
    control = read_recipe_of(made(page, "depth")).control
    expect(page.locator("#painter-depth canvas").first).to_be_visible()
    expect(page.locator("#map-depth")).to_be_hidden()
    view(page, "Map")
    assert control.options.get("painted") is True
    wait_until(lambda: pixels_hash(served(page, "#map-depth")) == control.sha256)  # the browser shows it when the answer has come
    sent = served(page, "#map-depth")
    assert control.sha256 == pixels_hash(sent)
    differs = (pixels(sent) != drawn).any(axis=2)
    assert 20 < differs.sum() < 2000 and (pixels(sent)[differs] == 255).all()
    page.reload()
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_be_visible()
    assert served(page, "#map-depth") == sent
    before = source(page, "#map-depth")
    view(page, "Paint")
    expect(page.locator("#painter-depth .zoom-number")).to_have_text(zoom)  # the map is there
    painted = page.locator(".note:visible [data-map]").get_attribute("data-map")
    clear, asked = page.locator("#painter-depth button[title='Clear canvas']"), []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    clear.click()
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    clear.press("Enter")
    page.wait_for_function("(painted) => document.querySelector('#tab-depth .note [data-map]').dataset.map !== painted", arg=painted)
    assert asked == ["Remove all paint from this map? This cannot be undone."] * 2
    view(page, "Map")  # of which only the paint is gone
    assert np.array_equal(pixels(changed(page, "#map-depth", before)), drawn)
    before = source(page, "#map-depth")
    field(page, "Near clip").fill("0.5")
    field(page, "Near clip").press("Tab")
    clipped = changed(page, "#map-depth", before)
    assert not (pixels(clipped)[differs] == 255).all()


def test_a_stroke_is_in_the_map_a_while_after_it_too_and_the_editor_stays_as_it_was_left(visit, photo_file):
    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    before = source(page, "#map-depth")
    choose_size(page, SMALL)
    drawn = pixels(changed(page, "#map-depth", before))
    prompt_field(page).fill("a red cube on snow")
    set_steps(page, 1)
    x, y = open_editor(page)
    stroke(page, x, y)
    page.wait_for_timeout(1000)
    late = []
    page.route("**/queue/join*", lambda route: late.append(route), times=1)
    view(page, "Map")
    while not late:
        page.wait_for_timeout(50)
    expect(page.locator("#painter-depth canvas").first).to_be_visible()  # the map of before is not: it has no paint yet
    expect(page.locator("#map-depth")).to_be_hidden()
    late[0].continue_()
    expect(page.locator("#map-depth")).to_be_visible()
    assert (pixels(served(page, "#map-depth")) != drawn).any()
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_be_visible()
    sent = [page.locator(".note:visible [data-map]").get_attribute("data-map")]
    view(page, "Paint")
    page.locator("#painter-depth canvas").first.wait_for()
    page.wait_for_timeout(300)  # nobody paints sooner; the answer may take longer
    for number in (1, 2):
        stroke(page, x, y - 20 * number)
        page.wait_for_timeout(1000)
        run(page)
        sent.append(read_recipe_of(made(page, "depth")).control.sha256)
        expect(page.locator(".note:visible [data-map]")).to_have_attribute("data-map", sent[-1])
    assert len(set(sent)) == 3
    for _ in range(3):
        page.locator("#painter-depth button[title=Undo]").click()
    page.wait_for_timeout(1000)
    view(page, "Map")
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_have_count(0)


def expect_tools_for_a_finger(page):
    """The tools are large and apart, on a phone that is held either way all of the editor is in sight, and which tool is chosen shows in forced colours."""
    editor = page.locator("#painter-depth")
    tools = editor.locator(":is(.icon-button-wrapper, .image-container > .toolbar-wrap) button").locator("visible=true")
    around, boxes = editor.bounding_box(), [tool.bounding_box() for tool in tools.all()]
    assert len(boxes) == 10 and min(min(box["width"], box["height"]) for box in boxes) >= 32
    assert all(around["x"] <= box["x"] and box["x"] + box["width"] <= around["x"] + around["width"] for box in boxes)
    redo, clear = (editor.get_by_role("button", name=name, exact=True).bounding_box() for name in ("Redo", "Clear canvas"))
    assert clear["x"] - redo["x"] - redo["width"] >= 16
    page.emulate_media(forced_colors="active")
    outlined = "(tools) => tools.filter((tool) => getComputedStyle(tool).outlineStyle === 'solid').map((tool) => tool.ariaLabel)"
    for tool in ("Erase", "Brush"):
        editor.get_by_role("button", name=tool, exact=True).dispatch_event("click")
        assert tools.evaluate_all(outlined) == [tool]
    page.emulate_media(forced_colors="none")
    page.set_viewport_size({"width": 844, "height": 390})
    editor.evaluate("(editor) => editor.scrollIntoView({ block: 'center', behavior: 'instant' })")
    around, row = editor.bounding_box(), page.locator("#tab-depth .run-row").bounding_box()
    assert 0 <= around["y"] and around["y"] + around["height"] <= row["y"]


def test_every_touch_of_a_finger_paints_and_the_tools_are_made_for_it(visit):
    page = visit(width=390, tab="Depth", has_touch=True, is_mobile=True)
    give_photo(page, "depth", ASSETS / "examples" / "two-on-wood.png")
    before = source(page, "#map-depth")
    drawn = pixels(served(page, "#map-depth"))
    x, y = open_editor(page)
    browser = page.context.new_cdp_session(page)
    for start in (-90, -20, 50):
        points = [{"x": x + start + moved, "y": y - 52} for moved in range(0, 25, 12)]
        with handled(page):
            for kind, at in [("touchStart", points[:1]), *(("touchMove", [each]) for each in points[1:]), ("touchEnd", [])]:
                browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    expect_tools_for_a_finger(page)
    view(page, "Map")
    differs = (pixels(changed(page, "#map-depth", before)) != drawn).any(axis=2)
    assert cv2.connectedComponents(differs.astype(np.uint8))[0] == 1 + 3


def test_undo_ends_at_a_map_that_was_drawn_while_its_editor_was_open_and_the_paint_comes_back_with_the_setting(visit, photo_file):
    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    drawn = source(page, "#map-depth")
    unpainted = pixels(served(page, "#map-depth"))
    x, y = open_editor(page)
    note = page.locator(".note:visible [data-map]")
    drawn_map = note.get_attribute("data-map")
    with handled(page):
        stroke(page, x, y)
    another_map = "(before) => document.querySelector('#tab-depth .note [data-map]').dataset.map !== before"
    late = []

    def hold(route):
        is_stroke = "composite.png" in (route.request.post_data or "")
        late.append(route) if is_stroke and not late else route.continue_()

    page.route("**/run/predict*", hold)
    stroke(page, x, y + 30)
    while not late:
        page.wait_for_timeout(50)
    field(page, "Near clip").fill("0.5")
    field(page, "Near clip").press("Tab")
    page.wait_for_function(another_map, arg=drawn_map)
    with handled(page):
        late[0].continue_()
    expect(page.locator(".note:visible").get_by_text("White adds")).to_be_visible()
    page.locator("#painter-depth button[title=Undo]").click()
    view(page, "Map")
    changed(page, "#map-depth", drawn)
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_have_count(0)
    before = source(page, "#map-depth")
    field(page, "Near clip").fill("0")
    field(page, "Near clip").press("Tab")
    painted = pixels(changed(page, "#map-depth", before))
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_be_visible()
    differs = (painted != unpainted).any((1, 2))  # by row
    assert len([row for row, differ in enumerate(differs) if differ and not differs[row - 1]]) == 2  # both strokes, also the late one


def test_an_undo_that_is_overtaken_does_not_take_back_what_was_painted_after_it(visit, photo_file, monkeypatch):
    overtaken, answered = threading.Event(), threading.Event()

    def slow(visitor):  # the program knows the undo's map by then, and not yet its turn
        if not overtaken.is_set():
            overtaken.set()
            assert answered.wait(60)
        return is_key(visitor)

    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    before = source(page, "#map-depth")
    x, y = open_editor(page)
    with handled(page):
        stroke(page, x, y)
    monkeypatch.setattr(strokes, "is_key", slow)
    with handled(page):
        page.locator("#painter-depth button[title=Undo]").click()
        while not overtaken.is_set():
            page.wait_for_timeout(50)
        stroke(page, x, y + 30)
        page.wait_for_timeout(500)  # until the editor's value has it
        view(page, "Map")
        painted = pixels(changed(page, "#map-depth", before))
        answered.set()
    page.reload()
    expect(page.get_by_text("Painted by hand.").locator("visible=true")).to_be_visible()
    assert np.array_equal(pixels(served(page, "#map-depth")), painted)


def test_a_late_answer_to_the_choice_of_a_view_does_not_bring_the_map_before_back(visit, photo_file, monkeypatch):
    drawn, answered = threading.Event(), threading.Event()

    def slow(**given):
        drawn.wait(60)
        answered.set()
        return choose_view(**given)

    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    before = source(page, "#map-depth")
    open_editor(page)
    monkeypatch.setattr(strokes, "choose_view", slow)
    view(page, "Map")
    field(page, "Near clip").fill("0.5")
    field(page, "Near clip").press("Tab")
    clipped = changed(page, "#map-depth", before)
    drawn.set()
    answered.wait(60)
    page.wait_for_timeout(500)
    assert served(page, "#map-depth") == clipped
