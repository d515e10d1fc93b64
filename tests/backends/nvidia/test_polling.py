"""Images of NVIDIA's hosted API that do not come with the answer: polled for while they are pending, and fetched where they are large."""

import pytest

from flux_demo.errors import GenerationFailed, Unreachable
from stand_ins.nvidia import GOOD_KEY, StandIn
from stand_ins.nvidia_wire import Reply

PENDING = Reply(202, headers={"nvcf-reqid": "none"})
CUT_OFF = Reply(body=b"{}", cut=0)


def test_a_pending_image_is_polled_for_with_the_key(hosted, stand_in, generate):
    assert generate(hosted(), prompt="__async__", seed=9).image.size == (1024, 1024)
    post, *polls = stand_in.requests
    assert post.method == "POST" and [poll.method for poll in polls] == ["GET", "GET"]
    for poll in polls:
        assert poll.path.startswith("/v2/nvcf/pexec/status/") and poll.headers["authorization"] == f"Bearer {GOOD_KEY}"
        assert poll.headers["accept"] == "application/json" and poll.headers["nvcf-poll-seconds"] == "240"


def test_a_large_image_is_fetched_without_the_key(hosted, stand_in, generate):
    assert generate(hosted(), prompt="__large__").image.size == (1024, 1024)
    post, fetched = stand_in.requests
    assert fetched.path.startswith("/large/") and fetched.headers["host"].startswith("localhost")
    assert GOOD_KEY not in str(fetched.headers) and "authorization" not in fetched.headers


@pytest.mark.parametrize(
    "location",
    ["", "ftp://localhost/x", "file:///etc/passwd", "http://", "/large/none.zip", "http://127.0.0.1:1/x"]
    + ["http://127.0.0.1:99999999/x", "http://127.0.0.1:-1/x", "http://[::1/x", "http://xn--a/x"],
)
def test_a_link_that_does_not_work_is_a_worded_error(hosted, stand_in, generate, location):
    backend = hosted()
    stand_in.replies.append(Reply(302, headers={"Location": location}))
    with pytest.raises((GenerationFailed, Unreachable)):
        generate(backend)
    generate(backend)


def test_a_chain_of_redirects_ends(hosted, stand_in, generate):
    with StandIn() as other:
        other.answer = lambda request: Reply(302, headers={"Location": other.origin + request.path + "x"})
        stand_in.replies.append(Reply(302, headers={"Location": f"{other.origin}/"}))
        with pytest.raises(GenerationFailed, match="link"):
            generate(hosted())
        assert len(other.requests) == 3 and not any("authorization" in request.headers for request in other.requests)


def test_an_image_that_was_handed_out_already_is_a_worded_error(hosted, stand_in, generate):
    stand_in.replies.append(Reply(202, headers={"nvcf-reqid": "11111111-1111-4111-8111-111111111111"}))
    with pytest.raises(GenerationFailed, match="only once"):
        generate(hosted())


@pytest.mark.parametrize("identity", [None, "../../secrets", "a b", "x" * 65])
def test_a_malformed_id_is_never_polled_for(hosted, stand_in, generate, identity):
    stand_in.replies.append(Reply(202, headers={"nvcf-reqid": identity} if identity else {}))
    with pytest.raises(GenerationFailed, match="did not say where"):
        generate(hosted())
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize("reply", [Reply(429), Reply(502), Reply(503), CUT_OFF], ids=["429", "502", "503", "cut off"])
def test_a_poll_that_is_turned_away_or_lost_asks_again_for_the_same_image(hosted, stand_in, generate, reply):
    stand_in.replies.extend([PENDING, reply, PENDING])
    with pytest.raises(GenerationFailed, match="only once"):
        generate(hosted())
    assert [request.method for request in stand_in.requests] == ["POST", "GET", "GET", "GET"]


def test_polls_that_are_lost_again_and_again_end_in_a_worded_error(hosted, stand_in, generate):
    stand_in.replies.extend([PENDING, *[CUT_OFF] * 3])
    with pytest.raises(Unreachable, match="The connection to NVIDIA broke off"):
        generate(hosted())
    assert [request.method for request in stand_in.requests] == ["POST", "GET", "GET", "GET"]


@pytest.mark.parametrize("status", [500, 504])
def test_a_request_that_failed_while_pending_is_sent_again(hosted, stand_in, generate, status):
    stand_in.replies.extend([PENDING, Reply(status)])
    generate(hosted())
    assert [request.method for request in stand_in.requests] == ["POST", "GET", "POST"]
