"""Waiting for NVIDIA: it is reported, can be stopped at any moment, and ends; one connection serves all requests."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flux_demo.backends.nvidia import Hosted, Nim
from flux_demo.errors import Cancelled, Unreachable
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.progress import Phase
from flux_demo.request import GenerationRequest
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from stand_ins.nvidia import GOOD_KEY, StandIn
from stand_ins.nvidia_wire import Reply


class Listener:
    """An ``on_status`` that keeps the statuses' sentences, and stops at the first one that contains ``stop_at``."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.heard = []

    def __call__(self, status):
        assert status.phase is Phase.WAITING
        self.heard.append(status.text)
        if self.stop_at and self.stop_at in status.text:
            raise Cancelled


def test_a_busy_service_is_tried_again_and_the_person_is_told(hosted, generate):
    listener = Listener()
    assert generate(hosted("nvapi-test-ratelimit", retries=(0.5, 0.01)), on_status=listener)
    assert listener.heard[0] == "Sending to NVIDIA" and "NVIDIA is busy, trying again in 1 s" in listener.heard


def test_before_the_next_try_the_status_says_what_went_wrong(hosted, stand_in, generate):
    stand_in.replies.append(Reply(500, headers={"Retry-After": "8"}))
    listener = Listener("trying again")
    with pytest.raises(Cancelled):
        generate(hosted(), on_status=listener)
    assert listener.heard[-1] == "NVIDIA had an error, trying again in 8 s"


def test_a_retry_after_is_respected(hosted, stand_in, generate):
    stand_in.replies.append(Reply(429, headers={"Retry-After": "1"}))
    listener, started = Listener(), time.monotonic()
    generate(hosted(), on_status=listener)
    assert time.monotonic() - started >= 1 and "NVIDIA is busy, trying again in 1 s" in listener.heard


def test_a_retry_after_may_be_a_date_and_may_be_nonsense(hosted, stand_in, generate):
    for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "1e9", "Wed, 99 Oct"):
        stand_in.replies.append(Reply(429, headers={"Retry-After": value}))
        generate(hosted())


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("121", "121 seconds"),
        ("3581", "60 minutes"),
        ("36000", "10 hours"),
        ("9" * 400, "a week or more"),
        ("Wed, 21 Oct 9015 07:28:00 GMT", "a week or more"),
    ],
)
def test_a_long_retry_after_ends_the_run_and_the_person_is_told(hosted, stand_in, generate, value, wait):
    stand_in.replies.append(Reply(429, headers={"Retry-After": value}))
    with pytest.raises(Unreachable, match=f"Try again in {wait}, when"):
        generate(hosted())
    generate(hosted())


@pytest.mark.parametrize(
    ("reply", "stop_at"),
    [
        (Reply(delay_s=60), "Sending"),  # before anything is sent
        (Reply(delay_s=60), "Waiting for NVIDIA, 0 s"),  # while nothing has arrived
        (Reply(body=b"x" * 1000, drip_s=0.05), "Waiting for NVIDIA, 0 s"),  # in the middle of an answer
        (Reply(503, headers={"Retry-After": "100"}), "trying again in"),  # between two tries
        (Reply(202, headers={"nvcf-reqid": "none"}), "Waiting"),  # between two polls
    ],
)
def test_stop_ends_every_kind_of_wait_and_the_next_request_works(hosted, stand_in, generate, reply, stop_at):
    backend = hosted(between_polls=60)
    stand_in.replies.append(reply)
    with pytest.raises(Cancelled):
        generate(backend, on_status=Listener(stop_at))
    stand_in.replies.clear()
    assert generate(backend).image.size == (1024, 1024)


def test_stop_closes_the_connection_that_was_waited_on(nim, stand_in, generate):
    backend = nim()
    generate(backend)
    stand_in.replies.append(Reply(delay_s=60))
    with pytest.raises(Cancelled):
        generate(backend, on_status=Listener("Waiting for your NIM"))
    generate(backend)
    first, stopped, after = stand_in.posts()
    assert first.port == stopped.port != after.port


def test_statuses_come_often_enough_to_stop_at_once(hosted, stand_in, generate):
    stand_in.replies.append(Reply(503, delay_s=1.0))
    listener = Listener()
    generate(hosted(), on_status=listener)
    assert listener.heard.count("Waiting for NVIDIA, 0 s") >= 5  # in one second: at least every 0.2 s


def test_the_seconds_are_counted(hosted, stand_in, generate):
    stand_in.replies.append(Reply(delay_s=60))
    listener = Listener("1 s")
    with pytest.raises(Cancelled):
        generate(hosted(), on_status=listener)
    assert listener.heard[-1] == "Waiting for NVIDIA, 1 s"


def test_one_connection_serves_all_requests(hosted, nim, stand_in, generate):
    service, container = hosted(), nim()
    for _ in range(3):
        generate(service)
    assert len({request.port for request in stand_in.requests}) == 1
    stand_in.requests.clear()
    for _ in range(3):
        generate(container)
    assert len({request.port for request in stand_in.requests}) == 1


def test_a_connection_that_was_closed_is_opened_again(hosted, stand_in, generate):
    backend = hosted()
    stand_in.replies.append(Reply(422, headers={"Connection": "close"}))
    with pytest.raises(Exception, match="refused"):
        generate(backend)
    generate(backend)
    assert len({request.port for request in stand_in.requests}) == 2


def test_silence_ends_in_a_worded_error(hosted, stand_in, generate):
    backend = hosted(read=1.0)
    stand_in.replies.append(Reply(delay_s=60))
    with pytest.raises(Unreachable, match="sent nothing for 1 seconds"):
        generate(backend)
    generate(backend)


def test_an_answer_that_trickles_ends_in_a_worded_error(hosted, stand_in, generate):
    backend = hosted(read=5, whole=0.4)
    stand_in.replies.append(Reply(body=b"x" * 1000, drip_s=0.05))
    with pytest.raises(Unreachable, match="did not finish within 0.4 seconds"):
        generate(backend)


def test_an_image_that_is_never_finished_ends_in_a_worded_error(hosted, stand_in, generate):
    stand_in.replies.extend([Reply(202, headers={"nvcf-reqid": "none"})] * 1000)
    with pytest.raises(Unreachable, match="did not finish"):
        generate(hosted(whole=0.4))


def test_a_service_that_is_not_there_is_a_worded_error(stand_in, hosted, generate):
    backend = hosted()
    stand_in.__exit__()
    with pytest.raises(Unreachable, match="NVIDIA cannot be reached. Correct FLUX_DEMO_HOSTED_URL, or leave it unset"):
        generate(backend)
    with StandIn(stand_in.port) as stand_in.again:
        generate(backend)


def test_several_requests_at_once_do_not_disturb_each_other(hosted, stand_in, generate):
    backend = hosted()
    images = {}

    def one(seed):
        images[seed] = generate(backend, seed=seed).image.tobytes()

    threads = [threading.Thread(target=one, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert images == {seed: generate(backend, seed=seed).image.tobytes() for seed in (1, 2, 3)}


def test_a_nim_is_sent_one_image_at_a_time_and_the_others_wait_in_the_queue(nim, stand_in, tmp_path):
    """One that waited inside the container would hold a connection, which a proxy in between may cut."""
    studio = Studio(Settings(backend="nim"), [nim()], Gallery(tmp_path))
    answer, at_work, together = stand_in.answer, [], []

    def slow(request):
        at_work.append(request)
        together.append(len(at_work))
        time.sleep(0.3)
        at_work.pop()
        return answer(request)

    stand_in.answer = slow
    with ThreadPoolExecutor(3) as pool:
        images = list(pool.map(lambda seed: studio.generate(GenerationRequest("text", "a house", seed=seed)), (1, 2, 3)))
    assert len(images) == 3 and max(together) == 1


def nvidia_threads():
    """The threads of the backends that are open, those of other tests among them."""
    return {thread for thread in threading.enumerate() if thread.name == "nvidia"}


def test_a_closed_backend_leaves_no_thread(hosted, generate):
    before = nvidia_threads()
    backend = hosted()
    generate(backend)
    (thread,) = nvidia_threads() - before
    backend.close()
    thread.join(5)
    assert not thread.is_alive()
    assert generate(backend).image.size == (1024, 1024)  # it opens again when needed


def test_the_thread_of_a_dropped_backend_ends(stand_in, settings):
    before = nvidia_threads()
    backend = Hosted(replace(settings, nvidia_api_key=GOOD_KEY, hosted_url=stand_in.hosted_url))
    whole = backend.dials(MODES["text"]).complete(GenerationRequest("text", "a house"))
    backend.generate(whole, lambda *step: None, lambda status: None)
    (thread,) = nvidia_threads() - before
    del backend
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("refuses", [False, True])
def test_a_proxy_that_is_in_the_way_is_named_and_not_shown(stand_in, settings, open_backend, generate, monkeypatch, refuses):
    stand_in.answer = lambda request: Reply(403)
    proxy = stand_in.origin if refuses else "http://127.0.0.1:9"
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy.replace("://", "://me:secret@"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    hosted = open_backend(Hosted, replace(settings, backend="hosted", nvidia_api_key=GOOD_KEY))
    with pytest.raises(Unreachable, match="cannot be reached through the proxy in HTTPS_PROXY") as caught:
        generate(hosted)
    assert "secret" not in str(caught.value) and "FLUX_DEMO_HOSTED_URL" not in str(caught.value)  # which nobody set
    nim = open_backend(Nim, replace(settings, nim_url="http://gpu.invalid:8000"))
    assert "FLUX_DEMO_NIM_URL through the proxy in HTTP_PROXY" in nim.refusal(MODES["text"]).reason
    behind_tls = open_backend(Nim, replace(settings, nim_url="https://gpu.invalid:8000"))
    assert ("which refuses the connection" in behind_tls.refusal(MODES["text"]).reason) is refuses


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.parametrize("service", ["hosted", "nim"])
def test_a_forked_process_has_a_connection_of_its_own_and_disturbs_none(service, request, stand_in, generate):
    backend = request.getfixturevalue(service)()
    generate(backend)
    child = multiprocessing.get_context("fork").Process(target=generate, args=(backend,))
    child.start()
    child.join(30)
    child.kill()
    assert child.exitcode == 0
    generate(backend)
    assert len(stand_in.posts()) == 3
