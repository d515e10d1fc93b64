"""What this program's own service says beyond a NIM arrives as it was said; a NIM's own words are not taken for it."""

from dataclasses import replace

import httpx
import pytest

from flux_demo.backends.nvidia import Nim
from flux_demo.backends.nvidia.own_service import headers, said, said_lines
from flux_demo.backends.nvidia.schema import Limits
from flux_demo.errors import BackendUnavailable, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest
from flux_demo.modes import MODES
from stand_ins.nvidia_wire import Reply

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
        return replace(reply, headers=reply.headers | headers({"safety": "unfiltered"}))

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
