"""What is found out about a NIM before anything is generated: whether it is ready, and what it can do; and when it is asked again."""

import re
from dataclasses import replace

import pytest

from flux_demo.backends.nvidia import Nim
from flux_demo.backends.nvidia.container import MAX_SCHEMA
from flux_demo.errors import BackendUnavailable
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.studio import Studio
from flux_demo.ui.tab_state import tab_state
from stand_ins.nvidia import Container
from stand_ins.nvidia_wire import Reply


def test_it_is_probed_once(nim, stand_in, generate):
    backend = nim()
    assert [backend.refusal(mode) for mode in MODES.values()] == [None] * 3
    generate(backend)
    assert [request.path for request in stand_in.requests] == ["/v1/health/ready", "/openapi.json", "/v1/infer"]


def test_a_nim_that_is_not_there_is_refused_in_words(settings, open_backend, generate):
    backend = open_backend(Nim, replace(settings, nim_url="http://127.0.0.1:9"))
    assert "Nothing answers at FLUX_DEMO_NIM_URL" in backend.refusal(MODES["text"]).reason
    with pytest.raises(BackendUnavailable, match="Start the container"):
        generate(backend)


def test_a_nim_that_never_answers_is_refused_after_a_short_while(stand_in, settings, open_backend):
    stand_in.answer = lambda request: Reply(delay_s=60)
    backend = open_backend(Nim, replace(settings, nim_url=stand_in.origin), probe=0.1, probe_again=60)
    assert all("sent nothing for 0.1 seconds" in backend.refusal(mode).reason for mode in MODES.values())
    assert len(stand_in.requests) == 1  # the modes do not wait one after the other


@pytest.mark.parametrize(
    ("speaks_tls", "scheme", "said"),
    [
        (True, "https", "The certificate of your NIM cannot be verified. Set SSL_CERT_FILE to"),
        (True, "http", "closes the connection without an answer. .* begin the address with that"),
        (False, "https", "The TLS handshake with your NIM failed. Begin FLUX_DEMO_NIM_URL with http://"),
    ],
)
def test_what_answers_in_another_way_than_it_was_asked_is_not_taken_for_nothing(
    stand_in, settings, open_backend, certificate, speaks_tls, scheme, said
):
    if speaks_tls:
        stand_in.speak_tls(*certificate)
    backend = open_backend(Nim, replace(settings, nim_url=f"{scheme}://localhost:{stand_in.port}"))
    assert re.search(said, backend.refusal(MODES["text"]).reason)


@pytest.mark.parametrize("reply", [Reply(body=b"x" * 100, headers={"Content-Encoding": "gzip"}), Reply(body=b"x" * (MAX_SCHEMA + 1))])
def test_a_server_whose_health_is_no_readable_answer_is_not_a_nim(nim, stand_in, reply):
    backend = nim()
    stand_in.answer = lambda request: reply
    assert "is not a NIM" in backend.refusal(MODES["text"]).reason


def test_a_starting_nim_is_refused_until_it_is_ready(nim, stand_in, generate):
    backend = nim(Container(ready_after=2))
    for _ in range(2):
        assert "20 minutes" in backend.refusal(MODES["text"]).reason
    assert backend.refusal(MODES["text"]) is None
    assert stand_in.posts() == []
    generate(backend)


def test_a_page_that_opened_while_the_nim_was_starting_says_what_makes_it_look_again(nim, stand_in, recording_backend, settings):
    def said(studio):
        state = tab_state(studio, MODES["text"])
        return state["where"]["value"] + state["refusal"]["value"]

    backend, mini = nim(Container(ready_after=99)), recording_backend()
    alone, studio = (Studio(settings, backends, Gallery(settings.outputs_folder)) for backends in ([backend], [backend, mini]))
    for each in (alone, studio):
        assert all(part in said(each) for part in ("still starting", "Check again"))
    stand_in.container = Container()
    assert studio.route("text").backend is mini
    studio.refresh()
    assert studio.route("text").backend is backend and "Check again" not in said(studio)
    stand_in.container = Container(ready_after=99)  # it was restarted; what has run is not asked again but by this
    assert backend.refusal(MODES["text"]) is None
    studio.refresh()
    assert studio.route("text").backend is mini


@pytest.mark.parametrize("status", [404, 405, 302])
def test_a_server_that_is_not_a_nim_is_refused(nim, stand_in, status):
    backend = nim()
    stand_in.answer = lambda request: Reply(status, headers={"Location": "http://127.0.0.1:9/"})
    assert "is not a NIM" in backend.refusal(MODES["text"]).reason


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "did not accept the request"),
        (401, "asks for a login"),
        (403, "asks for a login"),
        (407, "asks for a login"),
        (418, "HTTP 418"),
        (429, "busy with other images"),
        (500, "still starting"),
        (502, "cannot reach it"),
        (503, "still starting"),
        (504, "waited too long"),
    ],
)
def test_whatever_else_is_answered_is_not_taken_for_a_start_of_twenty_minutes(nim, stand_in, status, said):
    backend = nim()
    stand_in.answer = lambda request: Reply(status)
    reason = backend.refusal(MODES["text"]).reason
    assert said in reason and ("20 minutes" in reason) == (status in (500, 503))


def test_a_schema_that_comes_too_late_once_is_asked_for_again(nim, stand_in, generate, edge_map):
    backend, whole, late = nim(probe=0.2), stand_in.answer, [Reply(delay_s=60), Reply(503)]
    stand_in.answer = lambda request: late.pop() if late and request.path == "/openapi.json" else whole(request)
    assert backend.refusal(MODES["text"]) is None
    assert "too busy to say whether it accepts ready-made maps" in backend.refusal(MODES["canny"]).reason
    assert backend.refusal(MODES["canny"]) is None
    generate(backend, "canny", control=edge_map)


def test_a_nim_that_is_restarted_with_another_variant_is_noticed(nim, stand_in, generate, edge_map):
    backend = nim(Container(modes=("base",), variant="base"), remember_missing=0.0)
    assert backend.refusal(MODES["text"]) is None
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason
    stand_in.container = Container(modes=("canny",), variant="canny", ready_after=1)
    assert "still starting" in backend.refusal(MODES["canny"]).reason
    assert backend.refusal(MODES["canny"]) is None
    generate(backend, "canny", control=edge_map)
    assert "NIM_MODEL_VARIANT=base" in backend.refusal(MODES["text"]).reason


def test_a_nim_that_is_too_busy_for_a_second_probe_keeps_the_modes_that_it_has(nim, stand_in, generate):
    backend, whole = nim(Container(modes=("base",)), probe=0.2, remember_missing=0.0), stand_in.answer
    assert backend.refusal(MODES["text"]) is None
    stand_in.answer = lambda request: Reply(delay_s=60) if request.method == "GET" else whole(request)
    assert "NIM_MODEL_VARIANT=canny" in backend.refusal(MODES["canny"]).reason
    assert backend.refusal(MODES["text"]) is None and generate(backend)
