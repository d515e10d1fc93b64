"""How the service is started: what it serves, and which signals it takes. Ray itself is not started."""

import os
import signal

import pytest

from tests.starting import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at its import


@pytest.mark.parametrize(
    ("words", "variable", "taken"),
    [
        ((), "mini", "mini"),
        ((), "local", "local"),
        ((), "auto", "local"),
        ((), "nim", "local"),  # where a page runs, beside a service
        (("--backend", "local"), "mini", "local"),
    ],
)
def test_the_variable_chooses_what_is_served_unless_the_option_does(words, variable, taken, monkeypatch):
    from flux_demo import serve

    started = []

    def start(options, *_):
        started.append(options.backend)
        raise KeyboardInterrupt

    monkeypatch.setenv("FLUX_DEMO_BACKEND", variable)
    monkeypatch.setattr(serve, "_why_not_local", lambda: None)
    monkeypatch.setattr(serve, "start", start)
    assert serve.main(["--port", str(free_port()), *words]) == 130
    assert started == [taken]


@pytest.mark.parametrize("signalled", [KeyboardInterrupt(), SystemExit(signal.SIGTERM)], ids=["SIGINT", "SIGTERM as Ray handles it"])
def test_a_signal_while_the_models_load_ends_ray_and_is_an_interruption(signalled, monkeypatch, capsys):
    from flux_demo import serve

    def start(*_):
        raise signalled

    ended = []
    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(serve.ray, "shutdown", lambda: ended.append(True))
    assert serve.main(["--backend", "mini", "--port", str(free_port())]) == 130
    assert ended == [True] and capsys.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize(("before", "deployed"), [(signal.SIG_DFL, 1), (signal.SIG_IGN, 0)])
def test_a_signal_that_nohup_had_ignored_redeploys_nothing(before, deployed, monkeypatch):
    from flux_demo import serve

    deploys, next_event = [], serve._next
    numbers = (signal.SIGHUP, *serve.STOP_SIGNALS)
    kept = [signal.getsignal(number) for number in numbers]

    signals = [signal.SIGTERM, signal.SIGHUP]

    def after_signal(events):
        assert all(callable(signal.getsignal(number)) for number in serve.STOP_SIGNALS)  # else it would end the tests
        assert before == signal.SIG_IGN or callable(signal.getsignal(signal.SIGHUP))
        if signals:
            os.kill(os.getpid(), signals.pop())
        if signals and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # no event comes of it
            os.kill(os.getpid(), signals.pop())
        return next_event(events)

    monkeypatch.setattr(serve, "start", lambda *_: None)
    monkeypatch.setattr(serve, "deploy", lambda *_: deploys.append(1))
    monkeypatch.setattr(serve, "_next", after_signal)
    monkeypatch.setattr(serve, "_end", lambda *_: 0)
    try:
        signal.signal(signal.SIGHUP, before)
        assert serve.main(["--backend", "mini", "--port", str(free_port())]) == 0
    finally:
        for number, handler in zip(numbers, kept, strict=True):
            signal.signal(number, handler)
    assert len(deploys) == deployed
