"""NVIDIA's hosted API: what is sent, what is refused before anything is sent, and what becomes of its answers."""

import logging
from dataclasses import replace

import pytest
from PIL import Image

from flux_demo.backends import choose
from flux_demo.backends.nvidia import Hosted
from flux_demo.errors import BackendUnavailable, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest, Unreachable
from flux_demo.gallery import Gallery
from flux_demo.modes import DEFAULT_SIZES, MODES
from flux_demo.recipe import read_recipe
from flux_demo.request import GenerationRequest, Size
from flux_demo.studio import Studio
from stand_ins.nvidia import GOOD_KEY, KEYS, PROBLEM, answer
from stand_ins.nvidia_images import encoded, scene
from stand_ins.nvidia_schema import SHARED, SIDES
from stand_ins.nvidia_wire import Reply


def test_a_prompt_becomes_an_image_of_the_requested_size(hosted, stand_in, generate):
    output = generate(hosted(), size=Size(1344, 768), seed=7)
    assert (output.image.mode, output.image.size) == ("RGB", (1344, 768))
    mean, expected = (image.resize((1, 1)).getpixel((0, 0)) for image in (output.image, scene(1344, 768, 7)))
    assert mean == pytest.approx(expected, abs=3)
    assert output.model == "black-forest-labs/flux.1-dev (NVIDIA API)" and output.preset is None and output.plan is None
    assert output.safety == "NVIDIA's filter: passed"
    (request,) = stand_in.requests
    assert request.json == {
        "prompt": "a house by a lake",
        "mode": "base",
        "width": 1344,
        "height": 768,
        "cfg_scale": 3.5,
        "steps": 50,
        "seed": 7,
        "samples": 1,
    }
    assert request.headers["authorization"] == f"Bearer {GOOD_KEY}"
    assert (request.headers["accept"], request.headers["content-type"]) == ("application/json", "application/json")
    assert request.headers["nvcf-poll-seconds"] == "240"


@pytest.mark.parametrize("mode", ["canny", "depth"])
@pytest.mark.parametrize("sample", range(4))
def test_a_sample_image_is_sent_by_its_number(hosted, stand_in, generate, mode, sample):
    generate(hosted(), mode, sample=sample)
    (request,) = stand_in.requests
    assert (request.json["mode"], request.json["image"]) == (mode, f"data:image/png;example_id,{sample}")
    assert set(request.json) == set(SHARED)


def test_a_map_of_the_persons_own_is_refused_and_nothing_is_sent(hosted, stand_in, generate, edge_map):
    with pytest.raises(InvalidRequest, match="accepts only its own four sample images, not your photo"):
        generate(hosted(), "canny", control=edge_map)
    with pytest.raises(InvalidRequest, match="four sample images"):  # a sample beside it changes nothing
        generate(hosted(), "canny", control=edge_map, sample=1)
    assert stand_in.requests == []


@pytest.mark.parametrize("sample", [None, 4, -1, True, 1.0, "1"])
def test_another_sample_is_refused_and_nothing_is_sent(hosted, stand_in, generate, sample):
    with pytest.raises(InvalidRequest, match="one of its four, 0 to 3"):
        generate(hosted(), "depth", sample=sample)
    with pytest.raises(InvalidRequest, match="sample"):
        generate(hosted(), "text", sample=0)
    assert stand_in.requests == []


def test_auto_leaves_photos_to_backends_that_accept_them(stand_in, settings, open_backend, recording_backend):
    backend = open_backend(Hosted, replace(settings, nvidia_api_key=GOOD_KEY, hosted_url=stand_in.hosted_url))
    mini = recording_backend()
    assert choose([backend, mini], MODES["text"]).backend is backend
    for mode in ("canny", "depth"):
        route = choose([backend, mini], MODES[mode])
        (hosted,) = route.passed_over
        assert route.backend is mini
        assert "not your photo" in hosted.refusal.reason and "the page with `python app.py --backend hosted`" in hosted.refusal.reason
    assert stand_in.requests == []


def test_the_chosen_hosted_api_offers_its_samples(hosted):
    backend = hosted()
    assert all(backend.refusal(mode) is None for mode in MODES.values())
    assert backend.dials(MODES["text"]).own_photos and backend.dials(MODES["text"]).sample_pictures == 0
    for mode in ("canny", "depth"):
        assert not backend.dials(MODES[mode]).own_photos and backend.dials(MODES[mode]).sample_pictures == 4


@pytest.mark.parametrize("mode", MODES)
def test_the_dials_are_those_of_the_service(hosted, mode):
    dials = hosted().dials(MODES[mode])
    assert tuple(dials.size_limits.sides) == SIDES and dials.size_limits.sizes == DEFAULT_SIZES
    for size in (*DEFAULT_SIZES, Size(1344, 1344)):
        dials.size_limits.check(size)
    whole = dials.complete(GenerationRequest(mode, "x"))
    assert 1 < whole.guidance <= 9 and whole.seed > 0 and whole.size == Size(1024, 1024)
    for wrong in (
        {"steps": 4},
        {"steps": 101},
        {"guidance": 1.0},
        {"guidance": 9.1},
        {"seed": 0},
        {"size": Size(1008, 1024)},
        {"size": Size(704, 768)},
    ):
        with pytest.raises(InvalidRequest):
            dials.complete(GenerationRequest(mode, "x", **wrong))
    assert not dials.can_stop


def test_without_a_key_the_refusal_says_where_to_get_one(settings):
    refusal = Hosted(settings).refusal(MODES["text"])
    assert "NVIDIA_API_KEY" in refusal.reason and "build.nvidia.com" in refusal.reason


@pytest.mark.parametrize("key", ["nvapi-ä", "nvapi test", "nvapi\x7f", "'nvapi-x'", "nvapi-\u200bx"])
def test_a_malformed_key_is_refused_before_it_is_sent(hosted, stand_in, generate, key):
    backend = hosted(key)
    refusal = backend.refusal(MODES["text"])
    assert "NVIDIA_API_KEY" in refusal.reason and key not in refusal.reason
    with pytest.raises(BackendUnavailable, match="Copy the key again"):
        generate(backend)
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nvapi-test-bad", "rejected the key in NVIDIA_API_KEY"),
        ("not-a-key", "rejected the key in NVIDIA_API_KEY"),
        ("nvapi-test-nocredit", "credit of the key in NVIDIA_API_KEY is used up"),
        ("nvapi-test-noscope", "not enabled for the account"),
    ],
)
def test_each_rejected_key_has_its_sentence(hosted, stand_in, generate, key, said):
    with pytest.raises(BackendUnavailable, match=said) as error:
        generate(hosted(key))
    assert key not in str(error.value) and "TEST" not in str(error.value)  # the account's name is nobody else's business
    assert len(stand_in.posts()) == 1
    generate(hosted())


SERVICE_ERRORS = [
    (400, {"detail": "Invalid NVCF-POLL-SECONDS"}, GenerationFailed, "did not accept the request"),
    (400, {"detail": "Function is DEGRADED"}, Unreachable, "out of order"),
    (401, "Header of type `authorization` was missing", BackendUnavailable, "rejected the key"),
    (401, "Unauthorized access", BackendUnavailable, "rejected the key"),
    (401, KEYS["nvapi-test-bad"][1], BackendUnavailable, "rejected the key"),
    (402, KEYS["nvapi-test-nocredit"][1], BackendUnavailable, "credit"),
    (403, KEYS["nvapi-test-bad"][1], BackendUnavailable, "rejected the key"),
    (404, KEYS["nvapi-test-noscope"][1], BackendUnavailable, "not enabled"),
    (404, "404 page not found", BackendUnavailable, "FLUX_DEMO_HOSTED_URL"),
    (405, b"", BackendUnavailable, "FLUX_DEMO_HOSTED_URL"),
    (410, {"detail": "This model has reached its end of life"}, BackendUnavailable, "retired"),
    (413, b"", GenerationFailed, "too large"),
    (422, {"detail": "Expected: example_id, got: base64"}, InvalidRequest, r"\(Expected: example_id, got: base64\)"),
    (422, {"detail": [{"loc": ["body", "width"], "msg": "Input should be 768"}]}, InvalidRequest, r"\(width: Input should be 768\)"),
    (422, {"detail": [{"msg": "odd"}, 5, {"loc": "x", "msg": 3}]}, InvalidRequest, r"\(odd; 3\)"),
    (422, {"title": "no detail"}, InvalidRequest, "without saying why"),
    (422, b"", InvalidRequest, "without saying why"),
    (422, "<html>", InvalidRequest, "without saying why"),
    (422, b"[" * 100_000, InvalidRequest, "without saying why"),
    (429, {"status": 429, "title": "Too Many Requests"}, Unreachable, "busy"),
    (
        500,
        {"type": "urn:nvcf-worker-service:problem-details:internal-server-error", "detail": "Internal error"},
        Unreachable,
        "failed several times",
    ),
    (502, "<html>bad gateway</html>", Unreachable, "not reachable"),
    (503, b"", Unreachable, "overloaded"),
    (504, b"", Unreachable, "No machine at NVIDIA was free"),
    (301, b"", BackendUnavailable, "another address, and this program does not follow. Correct FLUX_DEMO_HOSTED_URL"),
    (307, b"", BackendUnavailable, "another address"),
    (418, b"", GenerationFailed, "HTTP 418"),
]


@pytest.mark.parametrize(("status", "body", "kind", "said"), SERVICE_ERRORS)
def test_each_error_has_its_sentence_and_the_next_request_works(hosted, stand_in, generate, status, body, kind, said):
    backend = hosted()
    tries = 3 if status in (429, 500, 502, 503, 504) else 1
    stand_in.replies.extend([Reply(status, body, content_type=PROBLEM)] * tries)
    with pytest.raises(kind, match=said) as error:
        generate(backend)
    assert type(error.value) is kind and str(error.value).count(". ") >= 1
    assert len(stand_in.posts()) == tries
    assert generate(backend).image.size == (1024, 1024)


@pytest.mark.parametrize("word", ["__filter_black__", "__filter_empty__"])
def test_a_filtered_image_is_a_refusal_and_never_shown(hosted, stand_in, generate, word):
    with pytest.raises(ContentRefused, match="Word the prompt differently"):
        generate(hosted(), prompt=word)
    assert len(stand_in.posts()) == 1


@pytest.mark.parametrize("service", ["hosted", "nim"])
def test_a_seed_that_the_service_chose_is_the_recipes_and_a_note_says_so(request, service, stand_in, settings):
    studio = Studio(settings, [request.getfixturevalue(service)()], Gallery(settings.outputs_folder))
    asked = GenerationRequest("text", "a house", seed=7)
    same = studio.generate(asked)
    assert same.request.seed == same.recipe.seed == 7 and same.notes == ()
    stand_in.replies.append(Reply(body=answer(encoded(Image.new("RGB", (1024, 1024))), 99)))
    changed = studio.generate(asked)
    assert changed.request.seed == changed.recipe.seed == read_recipe(changed.path).seed == 99
    (note,) = changed.notes
    assert "seed 99" in note and "7" in note and changed.recipe.plan is None


def test_the_key_is_nowhere_but_in_its_header(stand_in, generate, hosted, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    backend = hosted()
    seen = [repr(backend), repr(backend._connection), repr(backend._connection.connection())]
    for prompt in ("a house", "__async__", "__large__", "__html__", "__500__"):
        try:
            seen.append(repr(generate(backend, prompt=prompt, on_status=lambda status: seen.append(repr(status)))))
        except FluxDemoError as error:
            seen.append(repr(error))
    stand_in.replies.append(Reply(422, {"detail": f"Bad request with Bearer {GOOD_KEY}"}))
    with pytest.raises(InvalidRequest) as echoed:
        generate(backend)
    seen.append(str(echoed.value))
    captured = capsys.readouterr()
    assert GOOD_KEY not in "".join((*seen, caplog.text, captured.out, captured.err))
    assert all(GOOD_KEY not in request.path and GOOD_KEY not in request.body.decode() for request in stand_in.requests)


def test_a_prompt_in_any_script_arrives_unchanged(hosted, stand_in, generate):
    prompt = 'ein Haus, 房子, بيت, 🏠, "quoted" \\ \n\t' + "x" * 9_000
    generate(hosted(), prompt=prompt)
    assert stand_in.requests[0].json["prompt"] == prompt
