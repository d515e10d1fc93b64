"""Any value for any parameter of any endpoint gets its answer or a sentence, and never much of itself back."""

import json

import gradio as gr
import pytest
from gradio_client import handle_file
from hypothesis import HealthCheck, given, settings, strategies

from flux_demo.errors import InvalidPicture, InvalidRequest
from flux_demo.recipe import Recipe
from flux_demo.request import GenerationRequest
from flux_demo.ui.html import BUG
from tests.ui.conftest import SMALL
from tests.ui.driving import finished
from tests.ui.test_api import refused

LONG = "a" * 15_000
JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.sampled_from([10**400, -(10**400), 0, -1, 2**63, 1e308, -0.0, 0.5])
    | strategies.floats(allow_nan=True)
    | strategies.text(max_size=30)
    | strategies.sampled_from(
        [LONG, "crop", "match", SMALL, "\0", "\ud800", "../..", "/etc/passwd", "<img src=x onerror=alert(1)>", "http://127.0.0.1/x"]
    ),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["path", "url", "meta", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)
GOOD = {
    "prompt": "a red cube",
    "size": SMALL,
    "seed": "1",
    "steps": 100_000,  # refused: this is about what is asked, not about images
    "guidance": 3.5,
    "fit": "crop",
    "low": 50,
    "high": 200,
    "near": 0.0,
    "far": 1.0,
    "invert": False,
}


def endpoints(page):
    return {fn.api_name: fn for fn in page.fns.values() if fn.api_visibility == "public"}


def answer_of(page, endpoint, values):
    """What the endpoint says: None for an answer, else its sentence."""

    async def call():
        iterator, count = None, 0
        while True:
            answer = await page.process_api(endpoint, [] if iterator else values, state=page_state(page), iterator=iterator, request=None)
            iterator, count = answer.get("iterator"), count + 1
            if not answer.get("is_generating"):
                return None

    try:
        return finished(call())
    except gr.Error as error:
        return error.message


def page_state(page):
    from gradio.state_holder import SessionState

    return SessionState(page)


@pytest.fixture(scope="module")
def uploaded(page):
    from PIL import Image

    path = page.folder / "upload.png"
    Image.radial_gradient("L").resize((160, 128)).convert("RGB").save(path)
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


@pytest.mark.filterwarnings("ignore:(To fit|The map has)")  # which Gradio warns of where nobody reads the job's log
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=strategies.data())
def test_any_value_of_any_parameter_gets_an_answer_or_a_sentence(page, uploaded, data):
    name, endpoint = data.draw(strategies.sampled_from(sorted(endpoints(page).items())), label="endpoint")
    parameters = list(endpoint.fn.__annotations__)[:-1]
    good = GOOD | {"photo": uploaded, "map": uploaded, "picture": uploaded, "image": uploaded}
    values = [good[parameter] for parameter in parameters]
    wrong, place = data.draw(JSON, label="value"), data.draw(strategies.integers(0, 9), label="place")
    if parameters:
        values[place % len(parameters)] = wrong
    said = answer_of(page, endpoint, values)
    if said is not None:
        assert said != BUG, (name, values)
        assert said.count(".") >= 2 and len(said) < 500, said
        assert "/etc/passwd" not in said or len(said) < 300
        assert str(page.folder) not in said


@pytest.mark.parametrize("fit", [[], {}, 0, False, ["crop"], {"crop": 1}, LONG, 5])
def test_a_fit_that_is_none_is_refused(client, photo_file, fit):
    said = refused(client, handle_file(photo_file), SMALL, fit=fit, api_name="/canny_map")
    assert "not a way to fit" in said and len(said) < 200


@pytest.mark.parametrize("size", [[], {}, 0, False])
def test_a_size_that_is_none_is_refused(client, photo_file, size):
    assert "cannot be read" in refused(client, handle_file(photo_file), size=size, api_name="/canny_map")
    assert "cannot be read" in refused(client, "a red cube", size=size, api_name="/text")


@pytest.mark.parametrize("name", ["low", "high", "near", "far", "invert"])
@pytest.mark.parametrize("value", [[], {}, LONG, 10**300])
def test_a_map_option_is_refused_without_its_echo(client, photo_file, name, value):
    kind = "canny" if name in ("low", "high") else "depth"
    assert len(refused(client, handle_file(photo_file), SMALL, **{name: value}, api_name=f"/{kind}_map")) < 250


@pytest.mark.parametrize("guidance", [10**400, -(10**400), float("inf"), [], {}, False, LONG])
def test_a_guidance_beyond_numbers_is_refused(guidance):
    with pytest.raises(InvalidRequest, match="guidance") as refused_in_words:
        GenerationRequest("text", "a red cube", guidance=guidance)
    assert len(str(refused_in_words.value)) < 200


@pytest.mark.parametrize("name", ["guidance", "seconds"])
@pytest.mark.parametrize("value", [10**400, -(10**400), "x", [], True and {}])
def test_a_recipe_with_a_number_beyond_numbers_is_damaged(name, value, studio):
    made = json.loads(json.dumps(RECIPE))
    with pytest.raises(InvalidPicture, match="damaged"):
        Recipe.from_dict(made | {name: value})
    Recipe.from_dict(made)


def test_a_text_of_any_length_is_bounded(client):
    assert "too long" in refused(client, "a" * 25_000, SMALL, api_name="/text")
    assert "10,000" in refused(client, LONG, SMALL, api_name="/text")


RECIPE = {
    "version": "1",
    "mode": "text",
    "prompt": "a red cube",
    "width": 128,
    "height": 128,
    "seed": 1,
    "steps": 1,
    "guidance": 3.5,
    "model": "mini",
    "backend": "mini",
    "preset": None,
    "plan": None,
    "control": None,
    "seconds": 1.0,
    "created": "2026-11-26T00:00:00+00:00",
    "libraries": {},
    "safety": None,
}
