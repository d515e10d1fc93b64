"""A NIM is waited for as long as it is alive, and no longer: the limits of NVIDIA's gateway are not its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from flux_demo.errors import Unreachable
from stand_ins.nvidia_wire import Reply


def test_a_nim_may_take_as_long_as_it_needs_while_it_is_alive(nim, stand_in, generate):
    backend, answer, lively = nim(read=0.2, whole=0.3, check_alive=0.25, silence=1.0), stand_in.answer, []

    def busy(request):
        if request.path == "/v1/health/live":
            lively.append(request)
            return Reply(404)  # any answer is a sign of life
        return replace(answer(request), delay_s=2.0) if request.method == "POST" else answer(request)

    stand_in.answer = busy
    assert generate(backend).image.size == (1024, 1024)
    assert len(lively) >= 2


def test_a_nim_that_answers_nothing_at_all_any_more_is_given_up(nim, stand_in, generate):
    backend = nim(check_alive=0.25, silence=1.0)
    generate(backend)
    answer, stand_in.answer = stand_in.answer, lambda request: Reply(delay_s=60)
    with pytest.raises(Unreachable, match="has not answered for 1 seconds, not even its health check. Check the container's log"):
        generate(backend)
    stand_in.answer = answer
    generate(backend)


def test_a_nim_that_dies_at_work_is_noticed(nim, stand_in, generate):
    backend = nim()
    stand_in.replies.append(Reply(body=b"x" * 1000, cut=0))
    with pytest.raises(Unreachable, match="broke off before the answer was complete"):
        generate(backend)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells of its connections there")
def test_the_system_watches_over_a_connection_that_says_nothing(nim, stand_in, generate):
    generate(nim())
    client, server = f"0100007F:{stand_in.posts()[0].port:04X}", f"0100007F:{stand_in.port:04X}"
    timers = [row[5] for line in Path("/proc/net/tcp").read_text("ascii").splitlines() if (row := line.split())[1:3] == [client, server]]
    assert [timer.partition(":")[0] for timer in timers] == ["02"]  # that of keep-alive
