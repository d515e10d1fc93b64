"""What a handler leaves alone is not built anew, and the answer is Gradio's own."""

from copy import deepcopy

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from flux_demo.settings import Settings
from flux_demo.ui.blocks import Page
from tests.ui.driving import finished

SKIP = gr.skip()
ANSWERS = [
    [SKIP, SKIP, SKIP, SKIP],
    SKIP,
    ["a sphere", SKIP, SKIP, SKIP],
    [SKIP, gr.update(interactive=False), SKIP, SKIP],
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
    gradios, ours = SessionState(small_page), SessionState(small_page)
    expected = finished(gr.Blocks.postprocess_data(small_page, fn, deepcopy(answer), gradios))
    built, init = [], gr.components.Component.__init__
    monkeypatch.setattr(
        gr.components.Component, "__init__", lambda self, *args, **named: (built.append(type(self)), init(self, *args, **named))[1]
    )
    assert finished(small_page.postprocess_data(fn, deepcopy(answer), ours)) == expected
    updates = [value for value in answer if isinstance(value, dict) and value.keys() > SKIP.keys()] if answer != SKIP else []
    assert len(built) == len(updates)
    assert ours.state_data == gradios.state_data


def test_an_answer_of_the_wrong_length_is_refused_as_gradio_does(small_page):
    (fn,) = small_page.fns.values()
    with pytest.raises(ValueError, match="didn't return enough output values"):
        finished(small_page.postprocess_data(fn, [SKIP, "a"], SessionState(small_page)))
