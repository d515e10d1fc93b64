"""The first backend that can run a mode is taken, and the reasons of those before it are kept."""

import pickle

import pytest

from flux_demo.backends import NoRoute, PassedOver, Refusal, all_backends, choose
from flux_demo.errors import InvalidRequest
from flux_demo.experiments.cells import CellsRefused
from flux_demo.modes import MODES
from flux_demo.settings import BACKENDS, ONLY_BY_NAME, Settings


def test_the_first_that_can_is_taken_and_the_others_give_their_reasons(recording_backend):
    backends = [recording_backend("local", refuses=MODES), recording_backend("hosted", refuses=["canny"]), recording_backend("mini")]
    route = choose(backends, MODES["canny"])
    assert route.backend is backends[2]
    assert route.passed_over == (
        PassedOver("local", "Backend local", Refusal("local cannot run canny. Try another.")),
        PassedOver("hosted", "Backend hosted", Refusal("hosted cannot run canny. Try another.")),
    )
    assert choose(backends, MODES["text"]).backend is backends[1]


def test_where_all_refuse_every_reason_is_given(recording_backend):
    with pytest.raises(NoRoute, match="local cannot.*mini cannot") as raised:
        choose([recording_backend("local", refuses=MODES), recording_backend("mini", refuses=MODES)], MODES["text"])
    assert [each.backend for each in raised.value.passed_over] == ["local", "mini"]


def test_an_error_comes_back_from_another_process(recording_backend):
    refused = CellsRefused([(1, "No. Try again."), (3, "No. Try again.")], 4)
    with pytest.raises(NoRoute) as nowhere:
        choose([recording_backend("local", refuses=MODES)], MODES["text"])
    for error in (refused, nowhere.value, InvalidRequest("No. Try again.")):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error) and str(back) == str(error) and vars(back) == vars(error)


def test_a_single_backend_gives_its_own_reason_alone(recording_backend):
    with pytest.raises(NoRoute) as raised:
        choose([recording_backend("local", refuses=MODES)], MODES["text"])
    assert str(raised.value) == "local cannot run text. Try another."


def test_auto_tries_all_in_the_fixed_order():
    assert [backend.name for backend in all_backends(Settings())] == [name for name in BACKENDS if name not in ONLY_BY_NAME]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_named_backend_stands_alone(name):
    assert [backend.name for backend in all_backends(Settings(backend=name))] == [name]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"models": {"depth": "mine"}}, "local"),
        ({"components": "mine"}, "local"),
        ({"preset": "compiled"}, "local"),
        ({"device": "cpu"}, "local"),
        ({"nim_url": "http://nim:8000"}, "nim"),
        ({"nvidia_api_key": "nvapi-mine"}, "hosted"),
        ({}, None),
    ],
)
def test_what_only_one_backend_takes_tells_that_it_is_expected(given, name):
    assert [backend.name for backend in all_backends(Settings(**given)) if backend.configured] == ([name] if name else [])
