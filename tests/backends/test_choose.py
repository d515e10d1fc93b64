import pytest

from flux_demo.backends import all_backends, choose
from flux_demo.errors import BackendUnavailable
from flux_demo.modes import MODES
from flux_demo.settings import BACKENDS, Settings


def test_the_first_that_can_is_taken_and_the_others_are_named(recording_backend):
    backends = [recording_backend("local", refuses=MODES), recording_backend("hosted", refuses=["canny"]), recording_backend("mini")]
    route = choose(backends, MODES["canny"])
    assert route.backend is backends[2]
    assert [(refusal.backend, refusal.reason) for refusal in route.passed_over] == [
        ("local", "local cannot run canny. Try another."),
        ("hosted", "hosted cannot run canny. Try another."),
    ]
    assert choose(backends, MODES["text"]).backend is backends[1]


def test_where_all_refuse_every_reason_is_given(recording_backend):
    with pytest.raises(BackendUnavailable, match="local cannot.*mini cannot"):
        choose([recording_backend("local", refuses=MODES), recording_backend("mini", refuses=MODES)], MODES["text"])


def test_a_single_backend_gives_its_own_reason_alone(recording_backend):
    with pytest.raises(BackendUnavailable) as error:
        choose([recording_backend("local", refuses=MODES)], MODES["text"])
    assert str(error.value) == "local cannot run text. Try another."


def test_auto_tries_all_in_the_fixed_order():
    assert [backend.name for backend in all_backends(Settings())] == list(BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_named_backend_stands_alone(name):
    assert [backend.name for backend in all_backends(Settings(backend=name))] == [name]
