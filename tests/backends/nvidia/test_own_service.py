"""What this program's own service says beyond a NIM arrives as it was said; a NIM's own words are not taken for it."""

from dataclasses import replace

import httpx
import pytest
from PIL import Image

from flux_demo.backends.nvidia import Nim
from flux_demo.backends.nvidia.own_service import headers, said, said_lines
from flux_demo.backends.nvidia.schema import Limits
from flux_demo.errors import BackendUnavailable, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.modes import DEFAULT_SIZES, MODES
from flux_demo.request import GenerationRequest, Size
from flux_demo.studio import Studio
from stand_ins.nvidia import answer as image_answer
from stand_ins.nvidia_images import encoded
from stand_ins.nvidia_wire import Reply
from tests.backends.nvidia.test_limits import SIDES, document

OWN = headers({"Version": "1.0"})


@pytest.mark.parametrize("text", ["47% of the model stays on the GPU: “fast”", "模型.gguf, Q8_0", 'a;b=c, "d"', "%0A"])
def test_a_value_arrives_as_it_was_said(text):
    wire = httpx.Headers(headers({"model": text, "notes": f"{text}\nAnd this.", "safety": None, "plan": ""}))
    assert {*wire} == {"x-flux-demo-model", "x-flux-demo-notes"} and all(value.isascii() for value in wire.values())
    assert said(wire, "model") == text and said(wire, "safety") is None
    assert said_lines(wire, "notes") == (text, "And this.")


def test_what_cannot_be_shown_is_left_out():
    assert said_lines({"x-flux-demo-notes": "a%1B%5B2J"}, "notes") == said_lines({"x-flux-demo-notes": "a" * 1001}, "notes") == ()


def test_it_says_itself_why_it_is_not_ready(nim, stand_in):
    reason = "Strangers can reach this page, and the filter is not here. Run `python -m flux_demo fetch filter`."
    backend = nim()
    for body, header, words in (
        ({"reason": reason}, OWN, f"Your service says: {reason}"),
        ({"reason": reason}, {}, "Your NIM is still starting"),
        ({"reason": ["x"]}, OWN, "Your NIM is still starting"),
        ([], OWN, "Your NIM is still starting"),
        (b"[" * 100_000, OWN, "Your NIM is still starting"),
    ):
        reply = Reply(503, body, header)
        stand_in.answer = lambda request, reply=reply: reply
        assert backend.refusal(MODES["text"]).reason.startswith(words)


@pytest.mark.parametrize(("public", "allowed"), [(True, False), (True, True), (False, False)])
def test_what_it_did_not_filter_is_shown_to_strangers_only_where_that_was_chosen(
    settings, open_backend, stand_in, generate, public, allowed
):
    backend, answer = (
        open_backend(Nim, replace(settings, nim_url=stand_in.origin, public=public, allow_unfiltered=allowed)),
        stand_in.answer,
    )
    assert backend.refusal(MODES["text"]) is None
    backend._container = replace(backend._container, limits=Limits(models={"base": "FLUX"}))

    def as_own_service(request):
        reply = answer(request)
        return replace(reply, headers=reply.headers | headers({"model": "FLUX", "safety": "unfiltered"}))

    stand_in.answer = as_own_service
    if public and not allowed:
        with pytest.raises(ContentRefused, match="without the content filter"):
            generate(backend)
    else:
        assert generate(backend).safety == "unfiltered"


@pytest.mark.parametrize(
    ("status", "kind"), [(422, InvalidRequest), (429, GenerationFailed), (500, GenerationFailed), (503, BackendUnavailable)]
)
def test_it_says_itself_why_there_is_no_image(nim, stand_in, generate, edge_map, status, kind):
    backend, detail = nim(), "The canny mode ran out of memory. Run it again: a tighter plan is used from now on."
    for header, said_so in ((OWN, True), ({}, False)):
        stand_in.replies.extend([Reply(status, {"detail": detail}, header)] * (1 if status == 422 else 3))
        with pytest.raises(kind if said_so else FluxDemoError) as refused:
            generate(backend, "canny", control=edge_map)
        assert (str(refused.value) == f"Your service says: {detail}") is said_so
        assert (backend.refusal(MODES["canny"]) is None) is (said_so or status != 422)
        stand_in.replies.clear()


MINI, FLUX = "mini", "black-forest-labs/FLUX.1-dev"
SIZES = {MINI: [Size(256, 256), Size(512, 256)], FLUX: DEFAULT_SIZES}


@pytest.fixture
def restart(stand_in):
    """``restart(model, **said)``: from now on the service runs the model, and says that of its images; None: it is a NIM of NVIDIA's again."""
    plain = stand_in.answer

    def restart_(model, **said):
        sizes = [str(size) for size in SIZES.get(model, ())]
        rows = {"base": {"cfg_scale": 3.5, "steps": 28}}
        about = {"sizes": sizes, "max_pixels": 2048**2, "models": {"base": model}, "concurrency": 1, "defaults": rows}

        def answer(request):
            if request.path == "/openapi.json":
                return Reply(body=document(about, width=SIDES, height=SIDES))
            reply = Reply(body=_drawn(request.json)) if request.method == "POST" else plain(request)
            return replace(reply, headers=reply.headers | headers({"Version": "1.0", "model": model, **said}))

        stand_in.answer = answer if model else plain

    return restart_


def _drawn(asked):
    return image_answer(encoded(Image.new("RGB", (asked["width"], asked["height"])), "PNG"), asked["seed"])


def generated(studio, **fields):
    return studio.generate(GenerationRequest("text", "a portrait of an astronaut", seed=1, **fields))


def test_a_service_that_was_restarted_with_another_model_is_asked_anew_and_what_is_said_is_of_the_one_that_answered(nim, restart, settings):
    studio = Studio(settings, [nim()], Gallery(settings.outputs_folder))
    for model, before, title in ((MINI, MINI, "the mini"), (FLUX, MINI, "FLUX"), (MINI, FLUX, "the mini")):
        restart(before)
        assert generated(studio).recipe.model == before
        restart(model)
        image = generated(studio, size=Size(512, 256) if before == MINI else Size(1024, 1024))
        assert image.recipe.model == model
        assert any("The mini does not know" in note for note in image.notes) is (model == MINI)
        route = studio.route("text")
        assert route.backend.title.endswith(f"which runs {title}") and route.dials.size_limits.sizes == tuple(SIZES[model])


def test_a_service_that_refuses_what_it_took_is_asked_anew(nim, restart, stand_in, settings):
    studio = Studio(settings, [nim()], Gallery(settings.outputs_folder))
    restart(MINI)
    assert generated(studio).recipe.width == 256
    restart(None)
    with pytest.raises(InvalidRequest, match="refused the request .*width"):
        generated(studio)
    assert studio.route("text").dials.size_limits.sizes == DEFAULT_SIZES
    assert generated(studio).recipe.model == "black-forest-labs/flux.1-dev (NVIDIA NIM)"


def test_a_nim_in_whose_place_the_own_service_answers_without_a_filter_shows_strangers_nothing(
    stand_in, settings, open_backend, restart, generate
):
    backend = open_backend(Nim, replace(settings, nim_url=stand_in.origin, public=True))
    assert generate(backend).safety == "your NIM's filter: passed"
    restart(FLUX, safety="unfiltered")
    with pytest.raises(ContentRefused, match="without the content filter"):
        generate(backend)


def test_a_restarted_service_that_does_not_say_what_it_is_keeps_what_was_known_and_the_image(nim, restart, stand_in, settings):
    studio = Studio(settings, [nim(probe=0.2, probe_again=0.0)], Gallery(settings.outputs_folder))
    restart(MINI)
    generated(studio)
    restart(FLUX)
    answer = stand_in.answer
    stand_in.answer = lambda request: Reply(503) if request.path == "/v1/health/ready" else answer(request)
    assert generated(studio).recipe.model == FLUX and studio.route("text").dials.size_limits.sizes == tuple(SIZES[MINI])
    with pytest.raises(BackendUnavailable):
        generated(studio)
    assert studio.route("text").dials.size_limits.sizes == tuple(SIZES[MINI])  # while it starts
    stand_in.answer = answer
    generated(studio)
    assert studio.route("text").dials.size_limits.sizes == DEFAULT_SIZES


@pytest.mark.parametrize("path", ["/v1/health/ready", "/openapi.json"])
def test_what_an_image_says_of_itself_counts_where_the_service_does_not_say_what_it_is(nim, restart, stand_in, generate, path):
    backend = nim(probe=0.2)
    generate(backend)
    restart(FLUX, safety="unfiltered")
    answer = stand_in.answer
    stand_in.answer = lambda request: Reply(503 if "health" in path else 404) if request.path == path else answer(request)
    output = generate(backend)
    assert (output.model, output.safety) == (FLUX, "unfiltered")
