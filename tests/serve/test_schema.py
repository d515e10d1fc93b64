"""What the service takes, without a service: the request's schema, its refusals, its options."""

import json
import socket

import pytest
import torch
from pydantic import ValidationError

from flux_demo.backends.diffusion import local, mini
from flux_demo.modes import MODES
from flux_demo.serve_schema import Options, faults, parse, request_model
from flux_demo.settings import Settings
from stand_ins import nvidia_schema
from stand_ins.nvidia_schema import NIM_ONLY, SHARED
from tests.engine.tiny import build
from tests.serve.running import SMALL
from tests.starting import free_port


@pytest.fixture
def model(settings):
    backend = mini(settings)
    return request_model({mode.nim: backend.dials(mode).to_dict() for mode in MODES.values()}, {}, 1, {})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prompt": 3}, {("string_type", "prompt")}),
        ({"prompt": "x" * 10_001}, {("string_too_long", "prompt")}),
        ({"mode": "sketch"}, {("literal_error", "mode")}),
        ({"width": 1000, "cfg_scale": 0.5}, {("literal_error", "width"), ("greater_than_equal", "cfg_scale")}),
        ({"width": "128"}, {("literal_error", "width")}),
        ({"height": 128.5}, {("literal_error", "height")}),
        ({"cfg_scale": 101}, {("less_than_equal", "cfg_scale")}),
        ({"cfg_scale": "3.5"}, {("float_type", "cfg_scale")}),
        ({"steps": 0}, {("greater_than_equal", "steps")}),
        ({"steps": 101}, {("less_than_equal", "steps")}),
        ({"steps": True}, {("int_type", "steps")}),
        ({"seed": -1}, {("greater_than_equal", "seed")}),
        ({"seed": 2**32}, {("less_than", "seed")}),
        ({"samples": 2}, {("less_than_equal", "samples")}),
        ({"negative_prompt": "blurry"}, {("extra_forbidden", "negative_prompt")}),
        ({"image": 7}, {("string_type", "image")}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",  # a set's order differs from process to process
)
def test_it_refuses_fields_as_nvidias_contract_says(model, change, expected):
    with pytest.raises(ValidationError) as refused:
        model.model_validate(SMALL | change)
    detail = faults(refused.value)
    assert {(fault["type"], fault["loc"][-1]) for fault in detail} == expected
    assert all(fault["loc"][0] == "body" and fault["msg"] for fault in detail)
    json.dumps(detail, allow_nan=False)


@pytest.mark.parametrize("body", ['{"seed": 1e999}', '{"prompt": "x", "seed": [-1e999]}', "[1e999]", '{"prompt": "x", "steps": 1e999}'])
def test_an_infinity_is_refused_in_json_wherever_it_stands(model, body):
    with pytest.raises(ValidationError) as refused:
        parse(body.encode(), model)
    assert "inf" in json.dumps(faults(refused.value), allow_nan=False)


def test_with_a_nims_limits_it_refuses_in_a_nims_words():
    """Compared with the stand-in, which keeps to NVIDIA's contract to the letter, one wrong value after the other and all together."""
    sizes = {"sizes": ["1024x1024"], "max_pixels": 2**24, "sides": [768, 1344, 64]}
    dials = sizes | {"guidance": 3.5, "steps": 50, "guidance_range": [1, 9], "guidance_open": True, "step_range": [5, 100]}
    model = request_model({mode.nim: dials for mode in MODES.values()}, {}, 1, {})
    sound = {"prompt": "x", "width": 1344, "height": 768, "cfg_scale": 3.5, "steps": 50, "seed": 0}
    wrong = {
        "prompt": ("x" * 10_001, 3, None),
        "image": (7, []),
        "width": (1000, "1024", 768.5),
        "height": (0, True),
        "cfg_scale": (1, 10, "3.5", True),
        "steps": (4, 101, 50.5, "50"),
        "seed": (-1, 2**32, "7"),
        "samples": (0, 2),
        "preprocess_image": ("yes", 1),
        "disable_safety_checker": ("no",),
        "negative_prompt": ("blurry",),
    }
    assert nvidia_schema.faults(sound, SHARED + NIM_ONLY) == [] and model.model_validate(sound)
    payloads = [sound | {name: value} for name, values in wrong.items() for value in values]
    payloads += [sound | {name: values[0] for name, values in wrong.items()}, {"mode": "base"}]
    for payload in payloads:
        with pytest.raises(ValidationError) as refused:
            model.model_validate(payload)
        ours, theirs = faults(refused.value), nvidia_schema.faults(payload, SHARED + NIM_ONLY)
        assert {(each["type"], *each["loc"], each["msg"]) for each in ours} == {
            (each["type"], *each["loc"], each["msg"]) for each in theirs
        }


def test_what_is_left_out_takes_the_defaults(model):
    asked = model.model_validate({"prompt": "x"})
    assert (asked.mode, asked.width, asked.height, asked.seed, asked.image) == ("base", 256, 256, 0, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at its import
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--backend", "mini", "--replicas", "0"), "not a number of replicas"),
        (("--backend", "local"), ". "),
        (("--backend", "mini", "--queue", "0"), "queue"),
        (("--backend", "mini", "--port", "99999"), "not a valid port"),
        (("--backend", "mini", "--host", "192.0.2.1"), "not an address of this machine"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(words, sentence, capsys):
    from flux_demo.serve import main

    assert main(["--port", "1", *words]) == 3
    assert sentence in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_port_that_is_taken_is_not_shared(capsys):
    from flux_demo.serve import main

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Ray does
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["--backend", "mini", "--port", str(other.getsockname()[1])]) == 3
    assert "taken by another program" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flux_on_the_processor_is_not_served(tmp_path, monkeypatch, capsys):
    """Though the page may run it so."""
    from flux_demo.serve import main

    monkeypatch.setenv("FLUX_DEMO_DEVICE", "cpu")
    monkeypatch.setenv("FLUX_DEMO_TEXT_MODEL", str(build(tmp_path / "tiny", torch.float32)))
    assert local(Settings.from_env()).refusal(MODES["text"]) is None
    assert main(["--backend", "local", "--port", str(free_port())]) == 3
    assert "FLUX_DEMO_DEVICE is cpu" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_ray_that_cannot_start_is_said_in_words(tmp_path, monkeypatch, capsys):
    from flux_demo.serve import main

    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    assert main(["--backend", "mini", "--port", str(free_port())]) == 3
    assert "Ray could not start on this machine (" in capsys.readouterr().err


def test_the_options_are_json():
    assert Options(**json.loads(json.dumps(Options("mini", "1-4").to_dict()))).replica_range == (1, 4)
