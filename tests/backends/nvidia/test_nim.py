"""A NIM of one's own: looked at once, sent the very map, and refused in words where it cannot do what is asked."""

import base64
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from flux_demo.backends.nvidia import Nim
from flux_demo.backends.nvidia.container import read_schema
from flux_demo.errors import BackendUnavailable, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest, Unreachable
from flux_demo.modes import DEFAULT_SIZES, MODES
from flux_demo.request import ControlMap, GenerationRequest
from stand_ins.nvidia import Container
from stand_ins.nvidia_schema import MODES as NIM_MODES
from stand_ins.nvidia_schema import openapi
from stand_ins.nvidia_wire import Reply


def test_the_map_arrives_pixel_for_pixel_and_is_not_preprocessed(nim, stand_in, draw, edge_map):
    picture = draw(nim(), "canny", control=edge_map, seed=5)
    (post,) = stand_in.posts()
    image = post.json.pop("image")
    assert image.startswith("data:image/png;base64,")
    arrived = Image.open(BytesIO(base64.b64decode(image.partition(",")[2])))
    assert arrived.mode == "RGB" and arrived.tobytes() == edge_map.image.tobytes()
    assert {name: value for name, value in post.json.items() if name != "image"} == {
        "prompt": "a house by a lake",
        "mode": "canny",
        "width": 768,
        "height": 1024,
        "cfg_scale": 7.0,
        "steps": 50,
        "seed": 5,
        "samples": 1,
        "preprocess_image": False,
    }
    assert picture.image.size == (768, 1024) and picture.model == "black-forest-labs/flux.1-dev (NVIDIA NIM)"
    assert post.path == "/v1/infer" and "authorization" not in post.headers and "nvcf-poll-seconds" not in post.headers


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_drawn_whatever_the_kind_of_picture(nim, draw, kind, mode):
    control = ControlMap(mode, Image.new("RGB", (1024, 1024))) if MODES[mode].control else None
    assert draw(nim(Container(kind=kind)), mode, control=control).image.size == (1024, 1024)


def test_a_text_request_has_no_picture_in_it(nim, stand_in, draw):
    draw(nim())
    assert not {"image", "preprocess_image"} & set(stand_in.posts()[0].json)


def test_the_dials_take_own_photos_and_no_samples(nim, draw, edge_map):
    backend = nim()
    for mode in MODES.values():
        dials = backend.dials(mode)
        assert dials.own_photos and dials.sample_pictures == 0 and dials.size_limits.sizes == DEFAULT_SIZES and not dials.can_stop
    with pytest.raises(InvalidRequest, match="sample"):
        draw(backend, "canny", control=edge_map, sample=1)
    with pytest.raises(InvalidRequest, match="no canny map"):
        draw(backend, "canny")


def test_it_is_looked_at_once(nim, stand_in, draw):
    backend = nim()
    assert [backend.refusal(mode) for mode in MODES.values()] == [None] * 3
    draw(backend)
    assert [request.path for request in stand_in.requests] == ["/v1/health/ready", "/openapi.json", "/v1/infer"]


def test_without_an_address_the_refusal_names_the_variable(settings):
    assert "FLUX_DEMO_NIM_URL" in Nim(settings).refusal(MODES["text"]).reason


@pytest.mark.parametrize("tail", ["", "/", "/v1/infer", "/v1", "/v1/"])
def test_what_is_copied_along_with_the_address_does_no_harm(stand_in, settings, open_backend, draw, tail):
    draw(open_backend(Nim, replace(settings, nim_url=stand_in.origin + tail)))
    assert [request.path for request in stand_in.requests] == ["/v1/health/ready", "/openapi.json", "/v1/infer"]


def test_a_nim_that_is_not_there_is_refused_in_words(settings, open_backend, draw):
    backend = open_backend(Nim, replace(settings, nim_url="http://127.0.0.1:9"))
    assert "Nothing answers at FLUX_DEMO_NIM_URL" in backend.refusal(MODES["text"]).reason
    with pytest.raises(BackendUnavailable, match="Start the container"):
        draw(backend)


def test_a_nim_that_never_answers_is_refused_after_a_short_while(stand_in, settings, open_backend):
    stand_in.answer = lambda request: Reply(delay_s=60)
    backend = open_backend(Nim, replace(settings, nim_url=stand_in.origin), look=0.1, probe_again=60)
    assert "Nothing answers" in backend.refusal(MODES["text"]).reason and "Nothing answers" in backend.refusal(MODES["depth"]).reason
    assert len(stand_in.requests) == 1  # the three modes do not wait three times


def test_a_starting_nim_is_refused_until_it_is_ready(nim, stand_in, draw):
    backend = nim(Container(ready_after=2))
    for _ in range(2):
        assert "20 minutes" in backend.refusal(MODES["text"]).reason
    assert backend.refusal(MODES["text"]) is None
    assert stand_in.posts() == []
    draw(backend)


def test_a_nim_that_is_not_ready_again_is_tried_three_times(nim, stand_in, draw):
    backend = nim()
    draw(backend)
    stand_in.container.ready_after = 1
    with pytest.raises(Unreachable, match="not ready"):
        draw(backend)
    assert len(stand_in.posts()) == 4
    stand_in.container.ready_after = 0
    draw(backend)


@pytest.mark.parametrize("status", [404, 405, 302])
def test_what_is_no_nim_is_said_so(nim, stand_in, status):
    backend = nim()
    stand_in.answer = lambda request: Reply(status, headers={"Location": "http://127.0.0.1:9/"})
    assert "is not a NIM" in backend.refusal(MODES["text"]).reason


@pytest.mark.parametrize("mode", ["canny", "depth"])
def test_a_nim_that_takes_no_ready_made_maps_draws_only_text(nim, stand_in, draw, mode):
    for container in (Container(knows_maps=False), Container(has_openapi=False)):
        backend = nim(container)
        assert backend.refusal(MODES["text"]) is None
        assert "ready-made maps" in backend.refusal(MODES[mode]).reason
        with pytest.raises(BackendUnavailable, match="ready-made maps"):
            draw(backend, mode, control=ControlMap(mode, Image.new("RGB", (768, 768))))
        assert stand_in.posts() == []
        draw(backend)
        stand_in.requests.clear()


def test_a_first_container_gets_its_own_form_of_the_prompt(nim, stand_in, draw, edge_map):
    backend = nim(Container(old=True))
    draw(backend, prompt="a castle")
    draw(backend, "canny", prompt="a bridge", control=edge_map)
    assert [post.json["text_prompts"] for post in stand_in.posts()] == [[{"text": "a castle"}], [{"text": "a bridge"}]]
    assert not any("prompt" in post.json for post in stand_in.posts())


def test_a_first_container_that_does_not_say_so_is_found_out_by_its_422(nim, stand_in, draw):
    backend = nim(Container(old=True, has_openapi=False))
    draw(backend, prompt="a castle")
    draw(backend, prompt="a bridge")
    assert [("prompt" in post.json, "text_prompts" in post.json) for post in stand_in.posts()] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_when_both_forms_are_refused_the_first_refusal_is_told(nim, stand_in, draw):
    backend = nim()
    stand_in.replies.append(Reply(422, {"detail": [{"loc": ["body", "prompt"], "msg": "Value error, a blocked word"}]}))
    with pytest.raises(InvalidRequest, match="prompt: Value error, a blocked word"):
        draw(backend)
    assert len(stand_in.posts()) == 2
    draw(backend)
    assert "prompt" in stand_in.posts()[-1].json


def test_a_variant_that_the_schema_lacks_is_refused_before_the_click(nim):
    backend = nim(Container(modes=("base", "depth")))
    assert backend.refusal(MODES["text"]) is None and backend.refusal(MODES["depth"]) is None
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason


def test_a_variant_that_only_the_answer_lacks_is_refused_from_then_on(nim, draw, edge_map):
    backend = nim(Container(variant="base"))
    assert backend.refusal(MODES["canny"]) is None  # the schema names all three, whatever was started
    with pytest.raises(BackendUnavailable, match="without the canny variant. Start it again with NIM_MODEL_VARIANT=canny"):
        draw(backend, "canny", control=edge_map)
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason
    assert backend.refusal(MODES["text"]) is None and draw(backend)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "Bad profile"},
        {"detail": [{"loc": ["body", "mode"], "msg": "no"}]},
        {"detail": [{"loc": ["body"], "msg": "canny is off"}]},
        {"detail": ["x"]},
        {"title": "x"},
        b"",
        "<html>",
    ],
)
def test_whatever_a_nim_says_of_a_missing_variant_the_remedy_is_named(nim, stand_in, draw, edge_map, body):
    backend = nim()
    stand_in.replies.append(Reply(422, body))
    with pytest.raises(FluxDemoError, match="NIM_MODEL_VARIANT=canny"):
        draw(backend, "canny", control=edge_map)
    stand_in.replies.clear()
    draw(backend, "canny", control=edge_map)
    assert backend.refusal(MODES["canny"]) is None  # it was served after all


def test_a_refused_value_is_named(nim, stand_in, draw, edge_map):
    stand_in.replies.append(Reply(422, {"detail": [{"loc": ["body", "steps"], "msg": "Input should be 30"}]}))
    with pytest.raises(InvalidRequest, match=r"Your NIM refused the request \(steps: Input should be 30\)"):
        draw(nim(), "canny", control=edge_map)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, GenerationFailed, "could not take"),
        (401, BackendUnavailable, "asks for a login"),
        (403, BackendUnavailable, "asks for a login"),
        (404, BackendUnavailable, "no /v1/infer"),
        (405, BackendUnavailable, "takes no pictures to draw"),
        (413, GenerationFailed, "too large"),
        (429, Unreachable, "busy"),
        (500, Unreachable, "failed while it drew"),
        (502, Unreachable, "cannot reach it"),
        (503, Unreachable, "not ready"),
        (504, Unreachable, "waited too long"),
        (202, GenerationFailed, "HTTP 202"),
        (302, BackendUnavailable, "another address"),
        (307, BackendUnavailable, "another address"),
    ],
)
def test_each_error_has_its_sentence_and_the_next_request_works(nim, stand_in, draw, status, kind, said):
    backend = nim()
    stand_in.replies.extend(
        [Reply(status, headers={"Location": "http://127.0.0.1:9/"})] * (3 if status in (429, 500, 502, 503, 504) else 1)
    )
    with pytest.raises(kind, match=said):
        draw(backend)
    draw(backend)


def test_its_filter_withholds_too(nim, draw):
    with pytest.raises(ContentRefused, match="Your NIM withheld the picture"):
        draw(nim(), prompt="__filter_black__")


def test_a_schema_says_what_it_says_and_no_more():
    assert read_schema(openapi(("prompt", "mode", "preprocess_image"), NIM_MODES)) == ({"prompt", "mode", "preprocess_image"}, {*NIM_MODES})
    alone = {"components": {"schemas": {"ImageRequest": {"properties": {"prompt": {}, "mode": {"enum": ["base"]}}}}}}
    assert read_schema(alone) == ({"prompt", "mode"}, {"base"})
    elsewhere = {
        "components": {"schemas": {"Error": {"properties": {"x": {}}}, "Infer": {"properties": {"prompt": {}, "preprocess_image": {}}}}}
    }
    assert read_schema({"paths": {"/v1/infer": {"post": {}}}, **elsewhere}) == ({"prompt", "preprocess_image"}, set())
    const = {"components": {"schemas": {"ImageRequest": {"properties": {"prompt": {}, "mode": {"anyOf": [{"const": "depth"}, {}]}}}}}}
    assert read_schema(const) == ({"prompt", "mode"}, {"depth"})
    circle = {"components": {"schemas": {"ImageRequest": {"$ref": "#/components/schemas/ImageRequest"}}}}
    for nothing in (circle, {}, [], None, "x", {"paths": []}, {"components": {"schemas": {"ImageRequest": {"properties": ["x"]}}}}):
        assert read_schema(nothing) == (set(), set())


@pytest.mark.parametrize("body", [b"", "<html>", b"[" * 100_000, {"paths": None}])
def test_an_unreadable_schema_leaves_text(nim, stand_in, body):
    backend = nim()
    whole = stand_in.answer
    stand_in.answer = lambda request: Reply(200, body) if request.path == "/openapi.json" else whole(request)
    assert backend.refusal(MODES["text"]) is None and backend.refusal(MODES["depth"]) is not None


def test_a_request_needs_a_map(nim):
    dials = nim().dials(MODES["depth"])
    assert dials.complete(GenerationRequest("depth", "x")).steps == 30
