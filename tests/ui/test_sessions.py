"""What a session costs, and that nobody's values come back as markup."""

import tracemalloc
import uuid

import httpx
import pytest

from flux_demo.ui import SESSIONS, launch_options
from tests.waiting import wait_until

RENDERED = {"html", "markdown", "chatbot", "highlightedtext", "dataframe", "dataset", "json", "label", "plot", "annotatedimage", "gallery"}


def types_of(page):
    return {each["id"]: each["type"] for each in page.get_config_file()["components"]}


def test_nothing_that_is_rendered_as_markup_is_an_input(page):
    """A raw request can send any value as an input, and Gradio shows an input's value again in the session's deep link."""
    types = types_of(page)
    dependencies = page.get_config_file()["dependencies"]
    assert len(dependencies) > 10
    inputs = {types[each] for dependency in dependencies for each in dependency["inputs"]}
    assert "textbox" in inputs
    assert inputs & RENDERED == set()


def test_no_event_takes_the_properties_of_a_component(page):
    """``inputs_kwargs`` and component properties would let a request set more than a value."""
    assert all(not fn.component_prop_inputs for fn in page.fns.values())


def test_sessions_are_bounded(page):
    assert launch_options()["state_session_capacity"] == SESSIONS == page.state_holder.capacity


def ask_status(web, session):
    event = web.post("gradio_api/queue/join", json={"data": [], "fn_index": web.status_index, "session_hash": session})
    assert event.status_code == 200
    answer = web.get("gradio_api/queue/data", params={"session_hash": session})
    assert "process_completed" in answer.text and '"success":true' in answer.text


@pytest.fixture
def web(address, page):
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as web:
        web.status_index = next(index for index, fn in page.fns.items() if fn.api_name == "status")
        yield web


def test_sessions_that_only_call_the_api_hold_nothing(page, web):
    for _ in range(10):
        ask_status(web, uuid.uuid4().hex)  # what is made once
    sessions, waiting = len(page.state_holder.session_data), 40
    asked = [uuid.uuid4().hex for _ in range(waiting)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for session in asked:
        ask_status(web, session)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(page.state_holder.session_data) <= sessions
    assert (after - before) / waiting < 40_000  # bytes; the copy of the page that Gradio makes of each session has 330,000

    def nothing_is_left():
        page.clear_temporary()
        return not page._queue.pending_event_ids_session.keys() & asked

    wait_until(nothing_is_left)  # the server notices a moment later that a stream has closed


def test_a_session_with_a_history_is_kept(page, visit):
    def with_history():
        return [each for each in list(page.state_holder.session_data.values()) if each.state_data]

    before = with_history()
    visit()
    wait_until(lambda: len(with_history()) > len(before))
    kept = with_history()
    page.clear_temporary()
    assert kept and all(any(each is now for now in page.state_holder.session_data.values()) for each in kept)
