"""How the service is started: what it serves. Without Ray."""

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
