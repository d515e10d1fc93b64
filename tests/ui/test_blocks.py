"""What a handler leaves alone is not built anew, and the answer is Gradio's own."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import gradio as gr
import httpx
import pytest
from gradio.state_holder import SessionState

from flux_demo.request import GenerationRequest, Size
from flux_demo.settings import Settings
from flux_demo.ui.blocks import Page
from flux_demo.ui.history import History, history_updates
from flux_demo.ui.sessions import LeanSession
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.starting import free_port
from tests.ui.driving import finished

SKIP = gr.skip()
ANSWERS = [
    [SKIP, SKIP, SKIP, SKIP],
    SKIP,
    ["a sphere", SKIP, SKIP, SKIP],
    [SKIP, gr.update(interactive=False), SKIP, SKIP],
    [SKIP, gr.update(visible=True, variant="primary"), SKIP, gr.update(interactive=True)],
    [SKIP, SKIP, [1, 2], gr.update(choices=["x", "y"], value="y")],
    ["a cube", gr.update(value="Go"), SKIP, "a"],
    ("a cone", SKIP, {"a": 1}, "b"),
]


@pytest.fixture(scope="module")
def small_page():
    with Page(Settings(), analytics_enabled=False) as page:
        parts = [gr.Textbox(), gr.Button(), gr.State([]), gr.Dropdown(["a", "b"])]
        gr.on([parts[1].click], lambda: None, None, parts)
    return page


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_answer_is_gradios_own_and_what_is_skipped_is_not_built(small_page, monkeypatch, answer):
    (fn,) = small_page.fns.values()
    gradios, ours = SessionState(small_page), LeanSession(small_page)
    expected = finished(gr.Blocks.postprocess_data(small_page, fn, deepcopy(answer), gradios))
    built, init = [], gr.components.Component.__init__
    monkeypatch.setattr(
        gr.components.Component, "__init__", lambda self, *args, **named: (built.append(type(self)), init(self, *args, **named))[1]
    )
    assert finished(small_page.postprocess_data(fn, deepcopy(answer), ours)) == expected
    updates = [value for value in answer if isinstance(value, dict) and value.keys() > SKIP.keys()] if answer != SKIP else []
    plain = [value for value in updates if value is answer[1] and "value" not in value]  # of the button
    assert len(built) == len(updates) - len(plain)
    assert ours.state_data == gradios.state_data
    assert gradios.config_values and not any(ours.config_values.values())  # which no handler reads


def test_a_history_is_sent_as_gradio_would_send_its_files(page, studio):
    """Without asking the disk about each of them at every new image."""
    history, key = History(studio.gallery, VisitorStore(studio.gallery.folder), {}), new_key()
    for prompt, side in (("a red cube", 128), ("ein Würfel <b>&", 256)):  # the first is no larger than its thumbnail would be
        history.add(key, studio.generate(GenerationRequest("text", prompt, steps=1, size=Size(side, side))), None)
    with Page(Settings(), analytics_enabled=False) as small:
        outputs = [gr.Gallery(), gr.State()]
        small.load(lambda: None, None, outputs)
    (fn,) = small.fns.values()
    entries = history.entries(key)
    assert [bool(entry.thumb) for entry in entries] == [True, False]
    gradios = gr.update(value=[(entry.thumb or entry.path, entry.recipe.prompt) for entry in entries])
    expected = finished(gr.Blocks.postprocess_data(small, fn, [gradios, None], SessionState(small)))
    assert finished(small.postprocess_data(fn, [history_updates(entries)["gallery"], None], LeanSession(small))) == expected


def test_a_state_lasts_while_its_page_is_used(page):
    """Also after its heartbeat broke off, when Gradio counts from when the state was set."""
    old = datetime.datetime.now() - datetime.timedelta(hours=2)
    session = page.state_holder["of-a-test"]
    session._state_ttl[1] = (3600, old)
    assert page.state_holder["of-a-test"]._state_ttl[1][1] > old + datetime.timedelta(hours=1)
    page.state_holder.session_data.pop("of-a-test")


def test_a_served_page_has_lean_sessions_alone(page):
    session = page.state_holder["of-a-test"]
    assert isinstance(session, LeanSession) and session.config_values == {}
    assert page.state_holder["of-a-test"] is session and page.app.state_holder is page.state_holder
    page.state_holder.session_data.pop("of-a-test")


def test_what_an_event_keeps_is_there_also_where_another_ended_meanwhile():
    """As the page's two opening events, of which only one keeps something."""
    begun, other_ended = threading.Event(), threading.Event()

    def keep():
        begun.set()
        other_ended.wait(30)
        return "a red cube"

    with Page(Settings(), analytics_enabled=False) as page:
        kept, said = gr.State(""), gr.Textbox()
        page.load(keep, None, kept, queue=False)
        page.load(lambda: None, None, None, queue=False)
        page.load(lambda value: value, kept, said, queue=False)
    page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        with httpx.Client(base_url=page.local_url, trust_env=False, timeout=60) as web, ThreadPoolExecutor(1) as beside:
            call = {"data": [], "session_hash": "s"}
            keeping = beside.submit(web.post, "gradio_api/run/predict", json=call | {"fn_index": 0})
            assert begun.wait(30)
            web.post("gradio_api/run/predict", json=call | {"fn_index": 1})
            other_ended.set()
            assert keeping.result().status_code == 200
            read = web.post("gradio_api/run/predict", json=call | {"data": [None], "fn_index": 2})
            assert read.json()["data"] == ["a red cube"]
            assert not page._under_way
    finally:
        page.close(verbose=False)


def test_an_answer_of_the_wrong_length_is_refused_as_gradio_does(small_page):
    (fn,) = small_page.fns.values()
    with pytest.raises(ValueError, match="didn't return enough output values"):
        finished(small_page.postprocess_data(fn, [SKIP, "a"], SessionState(small_page)))
