"""What ``check`` says: every backend of every mode, and what is wrong with the settings themselves."""

import json

import pytest

from flux_demo.cli import run
from flux_demo.modes import MODES
from tests.cli.test_commands import refusal


def test_check_lists_every_backend_of_every_mode(capsys):
    code = run(["check"])
    text = capsys.readouterr().out
    for name in MODES:
        assert f"\n{name}: " in text
    assert text.count("NVIDIA_API_KEY") >= 1
    assert text.count("FLUX_DEMO_NIM_URL is not set") == len(MODES)
    assert text.count("  yes  ") >= len(MODES)
    assert code == 0


def test_check_as_json_and_exit_3_when_nothing_can_run(capsys):
    assert run(["check", "--json", "--backend", "nim"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert set(said["modes"]) == set(MODES)
    assert [row["backend"] for row in said["modes"]["text"]["backends"]] == ["nim"]
    assert said["modes"]["text"]["backend"] is None


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("photo.jpg", "it names a file that is not a model"),
        ("other.jpg", "'other.jpg' is neither a file nor a folder here, nor the name of a model"),
        ("a b", "'a b' is neither a file nor a folder here, nor the name of a model"),
        ("someone/a--b", "nor the name of a model"),
        ("a/b/c", "it names a folder that does not exist"),
        ("./nowhere", "it names a folder that does not exist"),
        ("https://huggingface.co/black-forest-labs/FLUX.1-dev", "a model on Hugging Face is named as OWNER/NAME"),
        ("huggingface.co/black-forest-labs/FLUX.1-dev", "a model on Hugging Face is named as OWNER/NAME"),
        ("nowhere.gguf", "it names a file that does not exist"),
    ],
)
def test_a_name_that_no_model_has_is_refused_before_anything_is_asked_or_counted(place, monkeypatch, capsys, named, why):
    monkeypatch.setenv("FLUX_DEMO_TEXT_MODEL", named)
    monkeypatch.setenv("FLUX_DEMO_DEVICE", "cpu")
    comes_later = named.endswith(".gguf")  # and its components may be fetched meanwhile
    for words in (("text", "a cat", "--backend", "local"), *([] if comes_later else [("fetch", "text")])):
        said = refusal(capsys, *words)
        assert said.startswith("FLUX_DEMO_TEXT_MODEL cannot be used: ") and why in said and "GB" not in said
    run(["check", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["models_refusals"] == [said.strip()]
    assert report["modes"]["text"]["backends"][0]["refusal"] == said.strip()
    monkeypatch.delenv("FLUX_DEMO_TEXT_MODEL")
    monkeypatch.setenv("FLUX_DEMO_DEPTH_ESTIMATOR", named)
    assert refusal(capsys, "fetch", "estimator").startswith("FLUX_DEMO_DEPTH_ESTIMATOR cannot be used: ")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("/nosuch", "The folder in FLUX_DEMO_COMPONENTS does not exist. "),
        ("photo.jpg", "FLUX_DEMO_COMPONENTS names a file. "),
        (".", "The folder in FLUX_DEMO_COMPONENTS is incomplete. "),
    ],
)
def test_components_that_are_not_there_are_said_whatever_runs(place, monkeypatch, capsys, named, said):
    monkeypatch.setenv("FLUX_DEMO_COMPONENTS", named)
    assert run(["check"]) == 0
    assert said in capsys.readouterr().out


def test_check_names_the_model_that_is_set(monkeypatch, capsys):
    monkeypatch.setenv("FLUX_DEMO_TEXT_MODEL", "someone/FLUX.1-finetune")
    run(["check", "--json"])
    said = json.loads(capsys.readouterr().out)["modes"]
    assert (said["text"]["model"], said["canny"]["model"]) == ("someone/FLUX.1-finetune", MODES["canny"].repo)


@pytest.mark.parametrize(
    ("named", "way"), [("/nosuch", "Name another folder"), ("empty", "Name another folder"), ("someone/depth", "fetch estimator")]
)
def test_a_depth_estimator_that_is_set_and_not_here_is_refused(place, monkeypatch, capsys, named, way):
    (place / "empty").mkdir()
    monkeypatch.setenv("FLUX_DEMO_DEPTH_ESTIMATOR", str(place / named) if named == "empty" else named)
    said = refusal(capsys, "map", "depth", "photo.jpg", "--size", "128x128")
    assert "FLUX_DEMO_DEPTH_ESTIMATOR" in said and way in said and str(place) not in said
    assert refusal(capsys, "depth", "photo.jpg", "a cat", "--backend", "mini", "--size", "128x128") == said
    assert run(["check"]) == 0
    assert f"Depth is estimated by: nothing here. {said}" in capsys.readouterr().out


def test_no_key_is_printed(monkeypatch, capsys):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run(["check"])
    run(["check", "--json"])
    said = capsys.readouterr()
    assert "secret" not in said.out + said.err
