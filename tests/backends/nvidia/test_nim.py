"""A self-hosted NIM: probed once, sent the exact map, and refused in words where it cannot do what is asked."""

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


def test_the_map_arrives_pixel_for_pixel_and_is_not_preprocessed(nim, stand_in, generate, edge_map):
    output = generate(nim(), "canny", control=edge_map, seed=5)
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
    assert output.image.size == (768, 1024) and output.model == "black-forest-labs/flux.1-dev (NVIDIA NIM)"
    assert post.path == "/v1/infer" and "authorization" not in post.headers and "nvcf-poll-seconds" not in post.headers


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_generated_whatever_the_image_format(nim, stand_in, generate, kind, mode):
    control = ControlMap(mode, Image.new("RGB", (1024, 1024))) if MODES[mode].control else None
    assert generate(nim(Container(kind=kind)), mode, control=control).image.size == (1024, 1024)
    assert stand_in.posts()[0].json.get("preprocess_image") is (False if control else None)  # by default a NIM draws a map of the map


def test_a_text_request_contains_no_image(nim, stand_in, generate):
    generate(nim())
    assert not {"image", "preprocess_image"} & set(stand_in.posts()[0].json)


def test_the_dials_accept_own_photos_and_no_samples(nim, generate, edge_map):
    backend = nim()
    for mode in MODES.values():
        dials = backend.dials(mode)
        assert dials.own_photos and dials.sample_pictures == 0 and dials.size_limits.sizes == DEFAULT_SIZES and not dials.can_stop
    with pytest.raises(InvalidRequest, match="sample"):
        generate(backend, "canny", control=edge_map, sample=1)
    with pytest.raises(InvalidRequest, match="no canny map"):
        generate(backend, "canny")


def test_without_an_address_the_refusal_names_the_variable(settings):
    assert "FLUX_DEMO_NIM_URL" in Nim(settings).refusal(MODES["text"]).reason


@pytest.mark.parametrize("tail", ["", "/", "/v1/infer", "/v1", "/v1/"])
def test_a_path_copied_along_with_the_address_does_no_harm(stand_in, settings, open_backend, generate, tail):
    generate(open_backend(Nim, replace(settings, nim_url=stand_in.origin + tail)))
    assert [request.path for request in stand_in.requests] == ["/v1/health/ready", "/openapi.json", "/v1/infer"]


def test_a_nim_that_is_no_longer_ready_is_tried_three_times(nim, stand_in, generate):
    backend = nim()
    generate(backend)
    stand_in.container.ready_after = 1
    with pytest.raises(Unreachable, match="not ready"):
        generate(backend)
    assert len(stand_in.posts()) == 4
    stand_in.container.ready_after = 0
    generate(backend)


@pytest.mark.parametrize("mode", ["canny", "depth"])
def test_a_nim_that_does_not_accept_ready_made_maps_generates_only_from_text(nim, stand_in, generate, mode):
    for container in (Container(knows_maps=False), Container(has_openapi=False)):
        backend = nim(container)
        assert backend.refusal(MODES["text"]) is None
        assert "ready-made maps" in backend.refusal(MODES[mode]).reason
        with pytest.raises(BackendUnavailable, match="ready-made maps"):
            generate(backend, mode, control=ControlMap(mode, Image.new("RGB", (768, 768))))
        assert stand_in.posts() == []
        generate(backend)
        stand_in.requests.clear()


def test_an_early_container_gets_its_own_form_of_the_prompt(nim, stand_in, generate, edge_map):
    backend = nim(Container(old=True))
    generate(backend, prompt="a castle")
    generate(backend, "canny", prompt="a bridge", control=edge_map)
    assert [post.json["text_prompts"] for post in stand_in.posts()] == [[{"text": "a castle"}], [{"text": "a bridge"}]]
    assert not any("prompt" in post.json for post in stand_in.posts())


def test_an_early_container_without_a_schema_is_recognised_by_its_422(nim, stand_in, generate):
    backend = nim(Container(old=True, has_openapi=False))
    generate(backend, prompt="a castle")
    generate(backend, prompt="a bridge")
    assert [("prompt" in post.json, "text_prompts" in post.json) for post in stand_in.posts()] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_when_both_forms_are_refused_the_first_refusal_is_reported(nim, stand_in, generate):
    backend = nim()
    stand_in.replies.append(Reply(422, {"detail": [{"loc": ["body", "prompt"], "msg": "Value error, a blocked word"}]}))
    with pytest.raises(InvalidRequest, match="prompt: Value error, a blocked word"):
        generate(backend)
    assert len(stand_in.posts()) == 2
    generate(backend)
    assert "prompt" in stand_in.posts()[-1].json


def test_a_variant_that_the_schema_lacks_is_refused_before_the_click(nim):
    backend = nim(Container(modes=("base", "depth")))
    assert backend.refusal(MODES["text"]) is None and backend.refusal(MODES["depth"]) is None
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason


def test_a_variant_that_turns_out_to_be_missing_is_refused_from_then_on(nim, generate, edge_map):
    backend = nim(Container(variant="base"))
    assert backend.refusal(MODES["canny"]) is None  # the schema names all three, whichever was started
    with pytest.raises(BackendUnavailable, match="without the canny variant. Restart it with NIM_MODEL_VARIANT=canny"):
        generate(backend, "canny", control=edge_map)
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason
    assert backend.refusal(MODES["text"]) is None and generate(backend)


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
def test_however_a_nim_words_a_missing_variant_the_remedy_is_named(nim, stand_in, generate, edge_map, body):
    backend = nim()
    stand_in.replies.append(Reply(422, body))
    with pytest.raises(FluxDemoError, match="NIM_MODEL_VARIANT=canny"):
        generate(backend, "canny", control=edge_map)
    stand_in.replies.clear()
    generate(backend, "canny", control=edge_map)
    assert backend.refusal(MODES["canny"]) is None  # it was served after all


def test_a_refused_value_is_named(nim, stand_in, generate, edge_map):
    stand_in.replies.append(Reply(422, {"detail": [{"loc": ["body", "steps"], "msg": "Input should be 30"}]}))
    with pytest.raises(InvalidRequest, match=r"Your NIM refused the request \(steps: Input should be 30\)"):
        generate(nim(), "canny", control=edge_map)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, GenerationFailed, "did not accept"),
        (401, BackendUnavailable, "asks for a login"),
        (403, BackendUnavailable, "asks for a login"),
        (404, BackendUnavailable, "no /v1/infer"),
        (405, BackendUnavailable, "does not accept image requests"),
        (413, GenerationFailed, "too large"),
        (429, Unreachable, "busy"),
        (500, Unreachable, "failed several times"),
        (502, Unreachable, "cannot reach it"),
        (503, Unreachable, "not ready"),
        (504, Unreachable, "waited too long"),
        (202, GenerationFailed, "HTTP 202"),
        (302, BackendUnavailable, "another address"),
        (307, BackendUnavailable, "another address"),
    ],
)
def test_each_error_has_its_sentence_and_the_next_request_works(nim, stand_in, generate, status, kind, said):
    backend = nim()
    stand_in.replies.extend([Reply(status, headers={"Location": "http://127.0.0.1:9/"})] * (3 if status in (429, 500, 502, 503) else 1))
    with pytest.raises(kind, match=said):
        generate(backend)
    assert not stand_in.replies
    generate(backend)


def test_a_proxy_that_gives_up_is_not_asked_for_the_image_again(nim, stand_in, generate):
    """The NIM behind it goes on with the first one."""
    stand_in.replies.append(Reply(504))
    with pytest.raises(Unreachable, match="Raise its timeout"):
        generate(nim())
    assert len(stand_in.posts()) == 1


def test_a_request_that_is_too_large_has_a_map_only_where_one_was_sent(nim, stand_in, generate, edge_map):
    stand_in.replies.extend([Reply(413)] * 2)
    with pytest.raises(GenerationFailed, match="the request too large. Shorten the prompt"):
        generate(nim())
    with pytest.raises(GenerationFailed, match="the map too large. .*choose a smaller size"):
        generate(nim(), "canny", control=edge_map)


def test_its_filter_withholds_images_too(nim, generate):
    with pytest.raises(ContentRefused, match="Your NIM withheld the image"):
        generate(nim(), prompt="__filter_black__")


def test_schemas_of_every_shape_are_read():
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
def test_with_an_unreadable_schema_only_text_can_run(nim, stand_in, body):
    backend = nim()
    whole = stand_in.answer
    stand_in.answer = lambda request: Reply(200, body) if request.path == "/openapi.json" else whole(request)
    assert backend.refusal(MODES["text"]) is None and backend.refusal(MODES["depth"]) is not None


def test_a_request_needs_a_map(nim):
    dials = nim().dials(MODES["depth"])
    assert dials.complete(GenerationRequest("depth", "x")).steps == 30
