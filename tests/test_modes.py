import numpy as np
import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.modes import MODES, find_mode
from flux_demo.settings import Settings
from flux_demo.studio import Studio


def test_the_defaults_are_those_of_the_models_makers():
    assert {name: mode.guidance for name, mode in MODES.items()} == {"text": 3.5, "canny": 30, "depth": 10}
    assert all((mode.steps, mode.quality_steps) == (28, 50) for mode in MODES.values())
    assert MODES["canny"].control.complete({}) == {"low": 50, "high": 200}
    assert MODES["depth"].control.complete({}) == {"near": 0, "far": 1, "invert": False}


@pytest.mark.parametrize("options", [{"low": -1}, {"low": 1001}, {"low": float("nan")}, {"low": "50"}, {"low": True}, {"blur": 3}])
def test_an_option_that_cannot_be_is_named(options):
    with pytest.raises(InvalidRequest, match=next(iter(options))):
        MODES["canny"].control.complete(options)


@pytest.mark.parametrize(
    ("mode", "options", "said"),
    [
        ("canny", {"low": 300}, "With low at 300, high must be at least 300, and it is 200. Change one of the two."),
        ("depth", {"near": 0.8, "far": 0.2}, "With near at 0.8, far must be at least 0.81, and it is 0.2. Change one of the two."),
        (
            "depth",
            {"near": 0.5, "far": 0.5000001},
            "With near at 0.5, far must be at least 0.51, and it is 0.5000001. Change one of the two.",
        ),
    ],
)
def test_two_numbers_that_cross_or_nearly_meet_are_refused_before_anything_is_read(mode, options, said):
    with pytest.raises(InvalidRequest) as refused:
        Studio.from_settings(Settings(backend="mini")).preview(mode, "no file", **options)
    assert str(refused.value) == said


def test_two_numbers_may_come_as_near_as_the_sliders():
    assert MODES["canny"].control.complete({"low": 200, "high": 200})
    assert all(MODES["depth"].control.complete({"near": near / 100, "far": (near + 1) / 100}) for near in range(100))


def test_options_may_be_numbers_of_numpy():
    drawn = (
        MODES["canny"].control.complete({"low": np.int64(40), "high": np.float32(120)}),
        MODES["depth"].control.complete({"invert": np.True_}),
    )
    assert drawn == ({"low": 40, "high": 120}, {"near": 0, "far": 1, "invert": True})
    assert all(type(value).__module__ == "builtins" for options in drawn for value in options.values())


def test_a_switch_takes_only_yes_and_no():
    with pytest.raises(InvalidRequest, match="switch"):
        MODES["depth"].control.complete({"invert": 1})


def test_an_unknown_mode_is_answered_with_the_list():
    with pytest.raises(InvalidRequest, match="text, canny, depth"):
        find_mode("fill")


def test_every_mode_has_a_setting_for_its_weights():
    assert {Settings().model(name) for name in MODES} == {mode.repo for mode in MODES.values()}
