"""A backend that is closed keeps no models in memory, whatever it was doing."""

import threading

import pytest

from flux_demo.backends.diffusion import mini
from flux_demo.errors import Cancelled
from flux_demo.request import GenerationRequest, Size

ASKED = GenerationRequest("text", "a red cube", 1, 1, 3.5, Size(128, 128))


def quiet(*_):
    pass


def test_what_a_stopped_load_brings_after_closing_is_released(settings, monkeypatch):
    backend, go_on, before = mini(settings), threading.Event(), {*threading.enumerate()}
    files = backend._weights.files
    monkeypatch.setattr(backend._weights, "files", lambda mode, say: go_on.wait(60) and files(mode, say))

    def stop(status):
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(ASKED, quiet, stop)
    (loading,) = (thread for thread in {*threading.enumerate()} - before if thread.name == "loading")
    backend.close()
    go_on.set()
    loading.join(60)
    assert not loading.is_alive() and backend.loading is None
    assert backend._cache is None
    assert backend.generate(ASKED, quiet, quiet).image.size == (128, 128)
    backend.close()
    assert backend._cache is None
