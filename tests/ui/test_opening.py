"""What is done while the page opens: it is neither undone nor forgotten."""

import json
import re
import threading

import pytest
from playwright.sync_api import expect

from flux_demo.backends import Refusal
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui import build, launch_options
from flux_demo.ui.examples import photos, prompts
from tests.starting import free_port
from tests.ui.conftest import PATIENCE_MS, SMALL
from tests.ui.driving import (
    WIDE,
    choose_size,
    field,
    give_photo,
    made,
    open_settings,
    prompt_field,
    read_recipe_of,
    run,
    seed_field,
    served,
    set_steps,
)
from tests.waiting import wait_until

CLICK_DEPTH_AT_ONCE = """new MutationObserver((_, observer) => {
    const tab = document.getElementById("tab-depth-button");
    if (tab) { observer.disconnect(); tab.click(); }
}).observe(document, { childList: true, subtree: true })"""


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_done_while_the_page_opens_is_not_undone(visit, photo, photo_file, at_once):
    page = visit(tab="Depth")
    prompt_field(page).fill("a red cube")
    set_steps(page, 2)
    open_settings(page)
    page.locator("#fit-depth").get_by_label("Stretch").check()
    give_photo(page, "depth", photo_file)
    served(page, "#map-depth")
    other = photo_file.with_name("other.png")
    photo.rotate(180).save(other)
    with page.expect_response(lambda response: '"505"' in (response.request.post_data or "")):
        seed_field(page).fill("505")
    with page.expect_response(lambda response: "Canny" in (response.request.post_data or "")):
        page.get_by_role("tab", name="Canny", exact=True).click()
    held, released = [], threading.Event()
    page.route("**/run/predict*", lambda route: route.continue_() if released.is_set() else held.append(route))
    if at_once:
        page.add_init_script(CLICK_DEPTH_AT_ONCE)
    page.reload()
    if not at_once:
        page.get_by_role("tab", name="Depth", exact=True).click()
    page.locator("#tab-depth-button[aria-selected=true]").wait_for()
    prompt_field(page).fill("a blue cone")
    seed_field(page).fill("7")
    set_steps(page, 3)
    choose_size(page, SMALL)
    page.locator("#count-depth").get_by_label("3", exact=True).check()
    page.locator("#fit-depth").get_by_label("Pad").check()
    page.locator("#voice").wait_for(state="attached")
    give_photo(page, "depth", other)
    released.set()
    for route in held:
        route.fulfill(response=route.fetch())  # one after the other: the page's opening knows nothing of the click
    page.wait_for_timeout(1000)
    expect(page.get_by_role("tab", name="Depth", exact=True)).to_have_attribute("aria-selected", "true")
    expect(prompt_field(page)).to_have_value("a blue cone")
    expect(seed_field(page)).to_have_value("7")
    expect(field(page, "Steps")).to_have_value("3")
    expect(page.locator("#size-depth input")).to_have_value(re.compile("128.*128"))
    expect(page.locator("#count-depth").get_by_label("3", exact=True)).to_be_checked()
    expect(page.locator("#fit-depth").get_by_label("Pad")).to_be_checked()
    wait_until(lambda: served(page, "#photo-depth") == other.read_bytes())
    if not at_once:
        page.reload()  # it is also kept
        expect(page.locator("#prompt-depth textarea:visible")).to_have_value("a blue cone")
        expect(seed_field(page)).to_have_value("7")
        expect(field(page, "Steps")).to_have_value("3")


def test_a_tab_that_was_chosen_before_the_page_knew_its_visitor_is_remembered(address, chromium):
    """Also where the answer to the choice comes late: the server learns of it only after it has named the visitor."""
    visitor = chromium.new_context()
    visitor.set_default_timeout(PATIENCE_MS)
    page = visitor.new_page()
    held = {"opening": [], "choice": []}

    def hold(route):
        told = json.loads(route.request.post_data or "{}")
        which = (
            "opening"
            if (told.get("data") or [])[1:3] == ["", {}]
            else "choice"
            if (told.get("event_data") or {}).get("value") == "Depth"
            else None
        )
        held[which].append(route) if which else route.continue_()

    page.route("**/gradio_api/**", hold)
    page.goto(address)
    page.get_by_role("tab", name="Depth", exact=True).click()
    for which in ("opening", "choice"):
        while not held[which]:
            page.wait_for_timeout(50)
        late = held[which].pop()
        with page.expect_response(lambda response, late=late: response.request == late.request):
            late.continue_()
        page.wait_for_function("localStorage.flux_demo_visitor && window.doneWhileOpening.over")
    page.unroute_all()
    with page.expect_response(lambda response: "a red cube" in (response.request.post_data or "")):
        page.locator("#prompt-depth textarea:visible").fill("a red cube")
    page.reload()
    expect(page.locator("#prompt-depth textarea:visible")).to_have_value("a red cube")
    visitor.close()


def test_clicks_on_generate_and_before_it_wait_for_the_form(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    choose_size(page, WIDE)
    with page.expect_response(lambda response: '"5"' in (response.request.post_data or "")):
        seed_field(page).fill("5")
    with page.expect_response(lambda response: response.request.method == "POST" and "a red cube" in (response.request.post_data or "")):
        set_steps(page, 2)
    page.add_init_script(
        """new MutationObserver((_, observer) => {
            const run = document.querySelector("button.run, .run button");
            const swap = document.querySelector("button.swap, .swap button");
            if (run && swap) { observer.disconnect(); swap.click(); run.click(); }
        }).observe(document, { childList: true, subtree: true })"""
    )
    page.reload()
    recipe = read_recipe_of(made(page, "text"))
    assert (recipe.prompt, recipe.seed, recipe.steps, recipe.width, recipe.height) == ("a red cube", 5, 2, 128, 256)


def test_a_browser_that_keeps_nothing_has_a_page(chromium, address):
    visitor = chromium.new_context()
    page = visitor.new_page()
    page.add_init_script(
        """for (const name of ["localStorage", "indexedDB"]) Object.defineProperty(window, name, {
            get() { throw new DOMException("Access is denied for this document.", "SecurityError"); }, configurable: true,
        })"""
    )
    page.goto(address)
    prompt_field(page).fill("a red cube")
    choose_size(page, SMALL)
    set_steps(page, 1)
    run(page)
    made(page, "text")
    visitor.close()


def test_a_page_at_rest_asks_for_no_frames(visit):
    """Gradio would draw sixty a second, as long as the page is open, for the seconds of a loading screen that is gone."""
    page = visit()
    page.add_init_script(
        """window.asked = 0;
        const frame = window.requestAnimationFrame;
        window.requestAnimationFrame = (callback) => (window.asked++, frame(callback));"""
    )
    page.reload()
    page.locator(".prompt textarea:visible").wait_for()
    page.wait_for_function(
        """() => {  // two seconds with hardly a frame
            const now = performance.now();
            (window.seen ??= []).push([now, asked]);
            return asked && seen.some(([at, count]) => now - at > 2000 && asked - count < 20);
        }""",
        polling=250,
    )


def test_an_event_tells_nothing_to_its_inputs(visit):
    """Gradio would tell each input of each event that ever ended of every step of every other event: the page is slow then."""
    told = """async () => {
        const names = performance.getEntriesByType("resource").map(({ name }) => name);
        const module = await import(names.find((name) => name.includes("/statustracker-")));
        const states = new (Object.values(module).find((each) => each?.prototype?.resolve_args))();
        states.register(0, [1], [2, 3], "hidden");
        for (const status of ["pending", "complete"]) states.update({ fn_index: 0, status, stream_state: "closed" });
        return Object.keys(states.current);
    }"""
    assert visit().evaluate(told) == ["1"]


def test_the_events_of_all_components_are_read_once(visit, page):
    """Gradio would read them once for each component: an eighth of the browser's work when the page opens."""
    opened = visit()
    profiler = opened.context.new_cdp_session(opened)
    profiler.send("Profiler.enable")
    profiler.send("Profiler.startPreciseCoverage", {"callCount": True, "detailed": False})
    opened.reload()
    opened.locator("#voice").wait_for(state="attached")
    scripts = profiler.send("Profiler.takePreciseCoverage")["result"]
    assert calls_in(scripts, "/assets/core-") == 0
    assert calls_in(scripts, opened.url) > 100
    named = """async () => {
        const core = performance.getEntriesByType("resource").find(({ name }) => name.includes("/core-"));
        const { AppTree } = await import(core.name);
        const node = (id) => ({ id, props: { shared_props: {} } });
        return gradio_config.components.map(({ id }) => [
            id, AppTree.prototype.find_attached_events(node(id), gradio_config.dependencies).props.shared_props.attached_events,
        ]);
    }"""
    targets = [each["targets"] for each in page.config["dependencies"]]
    for component, names in opened.evaluate(named):
        of_each = [[name for at, name in each if at == component] for each in targets]
        assert names == [names[0] for names in of_each if names]


def calls_in(scripts, address):
    """How often functions of that name were called in the scripts at the address."""
    functions = [function for script in scripts if address in script["url"] for function in script["functions"]]
    return sum(each["ranges"][0]["count"] for each in functions if each["functionName"].endswith("find_attached_events"))


def test_a_route_that_changed_leaves_what_was_typed_and_gives_the_rest_its_own_defaults(recording_backend, chromium, tmp_path, monkeypatch):
    class Arriving(recording_backend):
        here = False

        def refusal(self, mode):
            return None if self.here else Refusal("Its files are not here. Press the button to fetch them.", fetch=mode.name)

    class Fetching(Studio):
        def fetch(self, what, on_bytes=None):
            local.here = True
            self.refresh()

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    local = Arriving("local", steps=28, guidance=5.5, step_range=range(1, 51))
    served = build(Fetching(Settings(outputs=str(tmp_path)), [local, recording_backend("mini")], Gallery(tmp_path)))
    visitor = chromium.new_context(viewport={"width": 1280, "height": 900})
    visitor.set_default_timeout(PATIENCE_MS)
    try:
        served.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        page, second = visitor.new_page(), visitor.new_page()
        for window in (page, second):
            window.goto(served.local_url)
            window.wait_for_function("localStorage.flux_demo_visitor && window.doneWhileOpening.over")
        expect(page.locator("button.chip:visible").first).to_have_text(prompts(MODES["text"], for_mini=True)[0])
        set_steps(page, 9)
        choose_size(page, "768x512")
        prompt_field(page).fill("a red cube")
        page.get_by_role("button", name="Fetch FLUX for text").click()
        expect(page.locator(".block.where-line:visible")).to_contain_text("Runs on backend local")
        expect(field(page, "Guidance")).to_have_value("5.5")
        expect(field(page, "Steps")).to_have_value("9")
        expect(page.get_by_label("Size", exact=True).locator("visible=true")).to_have_value(re.compile("768.*512"))
        late = []
        page.route("**/run/predict*", lambda route: late.append(route) if '"data":[]' in route.request.post_data else route.continue_())
        page.reload()
        expect(prompt_field(page)).to_have_value("a red cube")
        for route in late:  # what is asked of the routes alone is answered last
            with page.expect_response(lambda response, route=route: response.request == route.request):
                route.continue_()
        page.wait_for_timeout(500)
        expect(field(page, "Steps")).to_have_value("9")
        expect(page.get_by_label("Size", exact=True).locator("visible=true")).to_have_value(re.compile("768.*512"))
        set_steps(second, 60)  # where the route of before takes it
        second.reload()
        expect(prompt_field(second)).to_have_value("a red cube")
        expect(field(second, "Steps")).to_have_value("28")
        expect(field(second, "Guidance")).to_have_value("5.5")
        expect(second.locator("button.chip:visible").first).to_have_text(prompts(MODES["text"], for_mini=False)[0])
        second.get_by_role("tab", name="Canny", exact=True).click()
        expect(second.locator("#examples-canny button")).to_have_count(len(photos(for_mini=False)))
        second.locator("#examples-canny button").first.click()
        expect(second.locator("#photo-canny img")).to_have_attribute("src", re.compile(photos(for_mini=False)[0][0].stem))
    finally:
        visitor.close()
        served.close(verbose=False)
