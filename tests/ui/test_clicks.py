"""A click whose image never came: the next page says what became of it."""

import math
import re
import threading
import time

import pytest
from playwright.sync_api import expect

from flux_demo.errors import InvalidRequest
from flux_demo.modes import MODES
from flux_demo.ui import run as run_module
from flux_demo.ui.clicks import CUT_SHORT, NOT_ARRIVED, UNWATCHED, lost_click_message, record_end, starting
from flux_demo.ui.generate import CUT_OFF, follow_after_close_handler, run_handler
from flux_demo.ui.history import History
from flux_demo.ui.run import Runs, StillRunning
from flux_demo.ui.services import Services
from flux_demo.ui.turns import Turns
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.starting import free_port, started
from tests.ui.conftest import PATIENCE_MS, SMALL
from tests.ui.driving import choose_size, field, prompt_field, run, seed_field, set_steps

WITHOUT_WARM_UP = "import sys, app; app._warm_up = lambda studio: None; sys.exit(app.main(sys.argv[2:]))"


@pytest.fixture
def visitors(tmp_path):
    return VisitorStore(tmp_path)


def test_a_click_that_did_not_arrive_is_told_from_one_whose_run_was_cut_short(visitors):
    me, you = new_key(), new_key()
    assert lost_click_message(visitors, me, "text", {}) == ""
    assert lost_click_message(visitors, me, "text", {"text": 3.0}, time.time()) == NOT_ARRIVED
    with starting(visitors, me, "text"):
        pass
    assert lost_click_message(visitors, you, "text", {}) == lost_click_message(visitors, me, "canny", {}) == ""
    assert lost_click_message(visitors, me, "text", {"text": 60.0}, time.time()) == CUT_SHORT
    assert lost_click_message(visitors, me, "text", {}) == ""  # it is said once
    with starting(visitors, me, "text"):
        pass
    record_end(visitors, me, "text")
    assert lost_click_message(visitors, me, "text", {"text": 0.5}, time.time()) == ""
    record_end(visitors, me, "text", unwatched=True)
    assert lost_click_message(visitors, me, "text", {"text": 0.5}, time.time()) == UNWATCHED
    assert lost_click_message(visitors, me, "text", {}) == ""


def test_what_was_refused_or_runs_in_another_window_is_not_lost(visitors):
    me = new_key()
    for refusal in (InvalidRequest("The seed is not valid."), GeneratorExit()):
        with pytest.raises(type(refusal)), starting(visitors, me, "text"):
            raise refusal
        assert lost_click_message(visitors, me, "text", {"text": 0.5}, time.time()) == ""
    with starting(visitors, me, "text"):
        pass
    with pytest.raises(StillRunning), starting(visitors, me, "text"):
        raise StillRunning
    assert lost_click_message(visitors, me, "text", {}) == CUT_SHORT


@pytest.mark.parametrize(
    "clicked", [None, [], "text", {"text": "3"}, {"text": math.nan}, {"text": -1}, {"text": 1e12}, {"depth": 1}], ids=repr
)
def test_whatever_a_request_says_of_its_clicks_is_taken(visitors, clicked):
    assert lost_click_message(visitors, new_key(), "text", clicked) == ""


def test_a_click_that_the_server_never_got_is_said_and_one_at_the_end_of_a_run_counts(visit, held_steps):
    page = visit()
    prompt_field(page).fill("a red cube")
    with page.expect_response(lambda response: "a red cube" in (response.request.post_data or "")):
        set_steps(page, 1)
    page.route("**/queue/join*", lambda route: route.abort(), times=1)
    run(page)
    page.locator("#status-text").get_by_text(NOT_ARRIVED).wait_for()  # Gradio's page opens anew once the server answers
    expect(prompt_field(page)).to_have_value("a red cube")
    run(page)
    stop, generate = (page.get_by_role("button", name=name, exact=True).locator("visible=true") for name in ("Stop", "Generate"))
    expect(stop).to_be_enabled()
    page.evaluate(
        """(button) => new MutationObserver((_, observer) => {  // no hand is as fast
            if (!button.disabled) { observer.disconnect(); button.click(); }
        }).observe(button, { attributes: true })""",
        generate.element_handle(),
    )
    held_steps.release()
    page.locator("#history img").wait_for()
    page.locator("#status-text .step").wait_for()  # of the second image
    expect(stop).to_be_enabled()
    expect(generate).to_be_disabled()
    held_steps.release()
    expect(page.locator("#history img")).to_have_count(2)


def test_a_run_that_ended_with_the_program_is_said(chromium, tmp_path):
    port = str(free_port())
    with chromium.new_context() as visitor:
        visitor.set_default_timeout(PATIENCE_MS)
        page = visitor.new_page()
        with started("--port", port, FLUX_DEMO_OUTPUTS=str(tmp_path)) as (program, address, _):
            page.goto(address)
            prompt_field(page).fill("a red cube")
            choose_size(page, "512x512")
            set_steps(page, 100)
            run(page)
            page.locator("#status-text .step").wait_for()
            program.kill()
            prompt_field(page).fill("a red cube on grass")
            seed_field(page).fill("12")
            choose_size(page, "256x128")
            page.get_by_role("radio", name="3", exact=True).locator("visible=true").check()
            page.get_by_role("tab", name="Depth", exact=True).click()
            field(page, "Near clip").fill("0.25")
            page.get_by_role("radio", name="Pad", exact=True).locator("visible=true").check()
            page.get_by_label("Invert depth").locator("visible=true").check()
            page.get_by_role("tab", name="Text", exact=True).click()
        with started("--port", port, python=("-c", WITHOUT_WARM_UP), FLUX_DEMO_OUTPUTS=str(tmp_path)):  # it generates nothing
            page.locator("#status-text").get_by_text(CUT_SHORT).wait_for()
            expect(prompt_field(page)).to_have_value("a red cube on grass")  # which was typed while there was no program
            expect(seed_field(page)).to_have_value("12")
            expect(page.get_by_label("Size", exact=True).locator("visible=true")).to_have_value(re.compile("256.*128"))
            expect(page.get_by_role("radio", name="3", exact=True).locator("visible=true")).to_be_checked()
            expect(page.get_by_role("tab", name="Text", exact=True)).to_have_attribute("aria-selected", "true")
            second = visitor.new_page()  # whose later words count more
            second.goto(address)
            expect(prompt_field(second)).to_have_value("a red cube on grass")
            with second.expect_response(lambda response: "a blue cone" in (response.request.post_data or "")):
                prompt_field(second).fill("a blue cone")
            page.reload()
            expect(prompt_field(page)).to_have_value("a blue cone")
            page.goto(f"{address}?prompt=a+white+sphere")
            expect(prompt_field(page)).to_have_value("a white sphere")
            page.get_by_role("tab", name="Depth", exact=True).click()
            expect(field(page, "Near clip")).to_have_value("0.25")
            expect(page.get_by_role("radio", name="Pad", exact=True).locator("visible=true")).to_be_checked()
            expect(page.get_by_label("Invert depth").locator("visible=true")).to_be_checked()


@pytest.mark.browser
def test_a_run_that_nobody_watched_says_why_it_ended_and_leaves_its_partial_image(visit, slow_steps, monkeypatch):
    monkeypatch.setattr(run_module, "UNWATCHED_S", 5.0)
    page = visit()
    prompt_field(page).fill("a blue cone")
    choose_size(page, SMALL)
    set_steps(page, 100)
    run(page)
    page.locator("#picture-text.previewing img").wait_for()
    address = page.url
    page.goto("about:blank")
    while any(thread.name == "run-text" for thread in threading.enumerate()):
        page.wait_for_timeout(100)
    page.goto(address)
    page.locator("#status-text").get_by_text(UNWATCHED).wait_for()
    expect(page.locator("#caption-text")).to_contain_text("Partial, step")
    page.get_by_role("button", name="Keep partial image", exact=True).click()
    expect(page.locator("#history img")).to_have_count(1)
    page.reload()
    expect(page.locator("#history img")).to_have_count(1)
    expect(page.locator("#status-text")).not_to_contain_text(UNWATCHED)


def test_a_refusal_that_the_browser_does_not_show_yet_is_not_taken_for_a_cut_connection(studio, tmp_path):
    visitors, me, mode = VisitorStore(tmp_path), new_key(), MODES["text"]
    services = Services(studio, visitors, History(studio.gallery, visitors, {}), Runs(studio), Turns())
    form = {"prompt": "", "seed": "", "steps": 1, "guidance": 3.5, "size": "128x128", "preset": None, "count": 1}
    *_, refused = run_handler(services, mode)(visitor=me, last=None, saved_fields={}, **form)

    def after_the_stream(run_state):
        return list(follow_after_close_handler(services, mode)(visitor=me, run_state=run_state, last=None, saved_fields={}))

    assert "The prompt is empty" in refused["status"]
    assert [answer["status"] for answer in after_the_stream("running")] == [refused["status"]]
    assert CUT_OFF in after_the_stream("running")[0]["status"]  # of the next click, which never arrived
    list(run_handler(services, mode)(visitor=me, last=None, saved_fields={}, **form))
    assert after_the_stream("failed") == []
    assert CUT_OFF in after_the_stream("running")[0]["status"]
