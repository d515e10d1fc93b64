"""The stand-in keeps to the wire contract: requests as NVIDIA documents them, sent raw."""

import base64
from io import BytesIO

import httpx
import pytest
from PIL import Image

from stand_ins.nvidia import GOOD_KEY, Container, StandIn, main

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SIDES = "768, 832, 896, 960, 1024, 1088, 1152, 1216, 1280 or 1344"
TEXT = {"prompt": "a simple coffee shop interior", "mode": "base", "cfg_scale": 3.5, "width": 1344, "height": 768, "seed": 0, "steps": 50}
CANNY = {"mode": "canny", "image": "data:image/png;example_id,1", "cfg_scale": 5, "width": 1024, "height": 1024, "seed": 7, "steps": 30}
DEPTH = {
    "prompt": "a stone castle at dusk",
    "mode": "depth",
    "image": f"data:image/png;base64,{PNG}",
    "cfg_scale": 5,
    "width": 1024,
    "height": 1024,
    "seed": 42,
    "steps": 30,
}


@pytest.fixture
def client():
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def post(client, stand_in):
    def post_(payload, key: str | None = GOOD_KEY, url=None, **headers):
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return client.post(url or stand_in.hosted_url, json=payload, headers=headers)

    return post_


def _image(response):
    artifact = response.json()["artifacts"][0]
    assert artifact["finishReason"] == "SUCCESS"
    return Image.open(BytesIO(base64.b64decode(artifact["base64"]))), artifact["seed"]


def test_f1_a_base_request_is_answered_and_seed_zero_means_a_random_one(post):
    response = post(TEXT)
    image, seed = _image(response)
    assert (image.format, image.size) == ("JPEG", (1344, 768))
    assert seed > 0 and response.headers["nvcf-status"] == "fulfilled" and response.headers["nvcf-reqid"]
    assert _image(post({**TEXT, "seed": 5}))[1] == 5


def test_f2_canny_follows_a_sample_image_on_the_hosted_api(post):
    assert _image(post({"prompt": "a futuristic kitchen", **CANNY}))[1] == 7


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("drawn", [{"preprocess_image": True}, {"preprocess_image": False}, {}], ids=str)
def test_f3_depth_follows_a_photo_or_a_map_on_a_nim(post, stand_in, kind, old, drawn):
    stand_in.container = Container(kind=kind, old=old)
    payload = {**DEPTH, **drawn, "text_prompts": [{"text": "a castle"}]} if old else {**DEPTH, **drawn}
    if old:
        payload = {name: value for name, value in payload.items() if name != "prompt"}
    image, seed = _image(post(payload, key=None, url=f"{stand_in.origin}/v1/infer"))
    assert (image.format, image.size, seed) == (kind, (1024, 1024), 42)


@pytest.mark.parametrize(
    ("image", "detail"),
    [
        (f"data:image/png;base64,{PNG}", "Expected: example_id, got: base64"),
        ("data:image/png;asset_id,1", "Expected: example_id, got: asset_id"),
        ("data:image/png;example_id,9", "Not valid example_id, expected value 0, 1, 2, 3"),
        (PNG, "Image has been provided in the invalid form"),
        ("", "Image has been provided in the invalid form"),
    ],
)
def test_f4_the_hosted_api_refuses_other_images(post, image, detail):
    response = post({"prompt": "x", **CANNY, "image": image})
    assert (response.status_code, response.json()) == (422, {"detail": detail})


def test_f5_each_field_out_of_range_is_named(post):
    response = post({"prompt": "x", "width": 1000, "height": 1024, "cfg_scale": 1, "steps": 50, "seed": 0})
    width, guidance = response.json()["detail"]
    assert response.status_code == 422
    assert width == {
        "type": "literal_error",
        "loc": ["body", "width"],
        "msg": f"Input should be {SIDES}",
        "input": 1000,
        "ctx": {"expected": SIDES},
    }
    assert (guidance["type"], guidance["loc"], guidance["msg"]) == ("greater_than", ["body", "cfg_scale"], "Input should be greater than 1")


def test_f6_missing_and_unknown_fields_are_named(post):
    detail = post({"mode": "base", "negative_prompt": "blurry"}).json()["detail"]
    assert [(fault["type"], fault["loc"][-1]) for fault in detail] == [("missing", "prompt"), ("extra_forbidden", "negative_prompt")]
    for name in ("preprocess_image", "disable_safety_checker", "text_prompts"):
        assert post({**TEXT, name: False}).status_code == 422


@pytest.mark.parametrize(
    "wrong", [{"width": "1024"}, {"steps": 4}, {"steps": 101}, {"cfg_scale": 10}, {"seed": -1}, {"seed": 2**32}, {"samples": 2}]
)
def test_values_out_of_range_are_refused(post, wrong):
    response = post({**TEXT, **wrong})
    assert response.status_code == 422 and [fault["loc"] for fault in response.json()["detail"]] == [["body", *wrong]]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({}, 401, "Header of type `authorization` was missing"),
        ({"Authorization": "nvapi-test-ok"}, 401, "Unauthorized access"),
        ({"Authorization": "Bearer nvapi-test-bad"}, 403, "Authorization failed"),
        ({"Authorization": "Bearer not-a-key"}, 401, "Authentication failed"),
        ({"Authorization": "Bearer nvapi-test-nocredit"}, 402, "Cloud credits expired"),
        ({"Authorization": "Bearer nvapi-test-noscope"}, 404, "Function '"),
        ({"Authorization": f"Bearer {GOOD_KEY}", "NVCF-POLL-SECONDS": "4000"}, 400, "NVCF-POLL-SECONDS"),
    ],
)
def test_f7_the_gateway_checks_the_key_first(post, headers, status, said):
    response = post({"nonsense": 1}, key=None, **headers)
    assert response.status_code == status and said in response.text


def test_f8_the_rate_limit_accepts_the_third_call(post):
    assert [post(TEXT, key="nvapi-test-ratelimit").status_code for _ in range(3)] == [429, 429, 200]


def test_f8_with_a_time_to_wait(client):
    with StandIn(retry_after="1") as stand_in:
        response = client.post(stand_in.hosted_url, json=TEXT, headers={"Authorization": "Bearer nvapi-test-ratelimit"})
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("word", "is_empty"), [("__filter_black__", False), ("__filter_empty__", True)])
def test_f9_a_filtered_answer_has_status_200(post, word, is_empty):
    response = post({**TEXT, "prompt": word})
    artifact = response.json()["artifacts"][0]
    assert response.status_code == 200 and artifact["finishReason"] == "CONTENT_FILTERED" and (artifact["base64"] == "") is is_empty


def test_f10_a_pending_image_is_handed_out_once(post, client, stand_in):
    taken = post({**TEXT, "prompt": "__async__", "seed": 9})
    assert taken.status_code == 202 and taken.content == b"" and taken.headers["nvcf-status"] == "in-progress"
    address = f"{stand_in.origin}/v2/nvcf/pexec/status/{taken.headers['nvcf-reqid']}"
    polls = [client.get(address, headers={"Authorization": f"Bearer {GOOD_KEY}"}) for _ in range(3)]
    assert [poll.status_code for poll in polls] == [202, 200, 404] and _image(polls[1])[1] == 9
    assert client.get(address).status_code == 401


@pytest.mark.parametrize(
    ("word", "status", "text"),
    [("__500__", 500, "internal-server-error"), ("__504__", 504, ""), ("__empty__", 200, '{"artifacts": []}'), ("__html__", 200, "<html>")],
)
def test_f11_server_trouble(post, word, status, text):
    response = post({**TEXT, "prompt": word})
    assert response.status_code == status and text in response.text


def test_f12_a_nim_warms_up(post, client, stand_in):
    stand_in.container = Container(variant="base", ready_after=2)
    ready, infer = f"{stand_in.origin}/v1/health/ready", f"{stand_in.origin}/v1/infer"
    assert client.get(f"{stand_in.origin}/v1/health/live").status_code == 200
    assert post(TEXT, key=None, url=infer).status_code == 503
    assert [client.get(ready).status_code for _ in range(3)] == [503, 503, 200]
    assert post(TEXT, key=None, url=infer).status_code == 200
    assert post(DEPTH, key=None, url=infer).status_code == 422


def test_other_methods_paths_and_bodies_are_refused(client, post, stand_in):
    assert client.get(stand_in.hosted_url).status_code == 405
    assert post(TEXT, url=f"{stand_in.origin}/v1/genai/other").text == "404 page not found"
    broken = client.post(
        stand_in.hosted_url, content=b"{", headers={"Authorization": f"Bearer {GOOD_KEY}", "Content-Type": "application/json"}
    )
    assert broken.status_code == 422


def test_a_port_that_cannot_be_used_is_a_sentence(stand_in, capsys):
    for port, said in ((stand_in.port, "is taken"), (70_000, "not a valid port")):
        assert main(["--port", str(port)]) == 3
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("variant", "foo"), ("variant", "base+"), ("variant", ""), ("seconds", "-1"), ("seconds", "nan"), ("seconds", "inf")],
)
def test_what_no_nim_can_be_started_as_is_a_sentence(name, value, capsys):
    assert main([f"--{name}={value}"]) == 3
    said = capsys.readouterr()
    assert said.err.startswith(f"--{name} is ") and len(said.err.splitlines()) == 1 and not said.out
