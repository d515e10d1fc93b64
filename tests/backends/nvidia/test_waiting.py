"""Waiting for NVIDIA: it is shown, it can be stopped at any moment, it ends, and one connection serves all requests."""

import threading
import time
from dataclasses import replace

import pytest

from flux_demo.backends.nvidia import Hosted
from flux_demo.backends.nvidia.client import TICK_S
from flux_demo.errors import Cancelled, Unreachable
from flux_demo.modes import MODES
from flux_demo.request import GenerationRequest
from stand_ins.nvidia import GOOD_KEY, StandIn
from stand_ins.nvidia_wire import Reply


class Stopping:
    """Listens, and stops at the first sentence with a word in it."""

    def __init__(self, word):
        self.word = word
        self.heard = []

    def __call__(self, sentence):
        self.heard.append(sentence)
        if self.word in sentence:
            raise Cancelled


def test_a_busy_service_is_tried_again_and_the_page_is_told(hosted, draw):
    heard = []
    assert draw(hosted("nvapi-test-ratelimit", retries=(0.5, 0.01)), on_status=heard.append)
    assert heard[0] == "Sending to NVIDIA" and "NVIDIA is busy, trying again in 1 s" in heard


def test_what_went_wrong_is_said_while_the_next_try_is_waited_for(hosted, stand_in, draw):
    stand_in.replies.append(Reply(500, headers={"Retry-After": "8"}))
    stopping = Stopping("trying again")
    with pytest.raises(Cancelled):
        draw(hosted(), on_status=stopping)
    assert stopping.heard[-1] == "NVIDIA had an error, trying again in 8 s"


def test_a_retry_after_is_waited_for(hosted, stand_in, draw):
    stand_in.replies.append(Reply(429, headers={"Retry-After": "1"}))
    heard = []
    draw(hosted(), on_status=heard.append)
    assert "NVIDIA is busy, trying again in 1 s" in heard


def test_a_retry_after_may_be_a_date_and_may_be_nonsense(hosted, stand_in, draw):
    for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "1e9", "Wed, 99 Oct"):
        stand_in.replies.append(Reply(429, headers={"Retry-After": value}))
        draw(hosted())


def test_a_long_retry_after_is_told_instead_of_waited_for(hosted, stand_in, draw):
    stand_in.replies.append(Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(Unreachable, match="Try again in 3600 seconds"):
        draw(hosted())
    draw(hosted())


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (Reply(delay_s=60), "Sending"),  # before anything is sent
        (Reply(delay_s=60), "Waiting for NVIDIA, 0 s"),  # while nothing has come
        (Reply(body=b"x" * 1000, drip_s=0.05), "Waiting for NVIDIA, 0 s"),  # in the middle of an answer
        (Reply(503, headers={"Retry-After": "100"}), "trying again in"),  # between two tries
        (Reply(202, headers={"nvcf-reqid": "none"}), "Waiting"),  # between two polls
    ],
)
def test_stop_ends_every_kind_of_wait_and_the_next_request_works(hosted, stand_in, draw, reply, word):
    backend = hosted(between_polls=60)
    stand_in.replies.append(reply)
    with pytest.raises(Cancelled):
        draw(backend, on_status=Stopping(word))
    stand_in.replies.clear()
    assert draw(backend).image.size == (1024, 1024)


def test_stop_closes_the_connection_that_was_waited_on(nim, stand_in, draw):
    backend = nim()
    draw(backend)
    stand_in.replies.append(Reply(delay_s=60))
    with pytest.raises(Cancelled):
        draw(backend, on_status=Stopping("Waiting for your NIM"))
    draw(backend)
    first, stopped, after = stand_in.posts()
    assert first.port == stopped.port != after.port


def test_signs_of_life_come_often_enough_to_be_stopped(hosted, stand_in, draw):
    stand_in.replies.append(Reply(503, delay_s=1.0))
    heard = []
    draw(hosted(), on_status=heard.append)
    assert TICK_S <= 0.2 and heard.count("Waiting for NVIDIA, 0 s") >= 2


def test_the_seconds_are_counted(hosted, stand_in, draw):
    stand_in.replies.append(Reply(delay_s=60))
    stopping = Stopping("1 s")
    with pytest.raises(Cancelled):
        draw(hosted(), on_status=stopping)
    assert stopping.heard[-1] == "Waiting for NVIDIA, 1 s"


def test_one_connection_serves_all_requests(hosted, nim, stand_in, draw):
    service, container = hosted(), nim()
    for _ in range(3):
        draw(service)
    assert len({request.port for request in stand_in.requests}) == 1
    stand_in.requests.clear()
    for _ in range(3):
        draw(container)
    assert len({request.port for request in stand_in.requests}) == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(hosted, stand_in, draw):
    backend = hosted()
    stand_in.replies.append(Reply(422, headers={"Connection": "close"}))
    with pytest.raises(Exception, match="refused"):
        draw(backend)
    draw(backend)
    assert len({request.port for request in stand_in.requests}) == 2


def test_silence_ends_in_words(hosted, stand_in, draw):
    backend = hosted(read=1.0)
    stand_in.replies.append(Reply(delay_s=60))
    with pytest.raises(Unreachable, match="sent nothing for 1 seconds"):
        draw(backend)
    draw(backend)


def test_an_answer_that_trickles_ends_in_words(hosted, stand_in, draw):
    backend = hosted(read=5, whole=0.4)
    stand_in.replies.append(Reply(body=b"x" * 1000, drip_s=0.05))
    with pytest.raises(Unreachable, match="did not finish within 0.4 seconds"):
        draw(backend)


def test_a_picture_that_is_never_finished_ends_in_words(hosted, stand_in, draw):
    stand_in.replies.extend([Reply(202, headers={"nvcf-reqid": "none"})] * 1000)
    with pytest.raises(Unreachable, match="did not finish"):
        draw(hosted(whole=0.4))


def test_a_service_that_is_not_there_is_said_so(stand_in, hosted, draw):
    backend = hosted()
    stand_in.__exit__()
    with pytest.raises(Unreachable, match="cannot be reached"):
        draw(backend)
    with StandIn(stand_in.port) as stand_in.again:
        draw(backend)


def test_two_pictures_at_once_do_not_disturb_each_other(hosted, stand_in, draw):
    backend = hosted()
    pictures = {}

    def one(seed):
        pictures[seed] = draw(backend, seed=seed).image.tobytes()

    threads = [threading.Thread(target=one, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert pictures == {seed: draw(backend, seed=seed).image.tobytes() for seed in (1, 2, 3)}


def test_a_closed_backend_leaves_no_thread(hosted, draw):
    before = threading.active_count()
    backend = hosted()
    draw(backend)
    assert any(thread.name == "nvidia" for thread in threading.enumerate())
    backend.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:  # the stand-in's own handler may linger
        time.sleep(0.01)
    assert not any(thread.name == "nvidia" for thread in threading.enumerate())
    assert draw(backend).image.size == (1024, 1024)  # it opens again when it is needed


def test_a_backend_that_nobody_holds_ends_its_thread(stand_in, settings):
    backend = Hosted(replace(settings, nvidia_api_key=GOOD_KEY, hosted_url=stand_in.hosted_url))
    whole = backend.dials(MODES["text"]).complete(GenerationRequest("text", "a house"))
    backend.generate(whole, lambda *step: None, lambda sentence: None)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "nvidia"]
    del backend
    thread.join(5)
    assert not thread.is_alive()
