"""Pictures from the command line, drawn by the mini: where they go, what they carry, and how a run is followed and stopped."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from flux_demo import read_recipe
from flux_demo.cli import run
from flux_demo.modes import MODES
from tests.cli.conftest import ROOT

QUICK = ("--backend", "mini", "--size", "128x128", "--steps", "2", "--seed", "7")


def typed(*words: str, folder: Path, **options) -> subprocess.CompletedProcess:
    """A command in a process of its own, as a shell would start it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flux_demo", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False, **options)


def test_a_picture_goes_where_it_was_asked_for_with_its_recipe(place):
    done = typed("text", "a red cube", *QUICK, "-o", "cube.png", folder=place)
    assert (done.returncode, done.stdout) == (0, "cube.png\n")
    assert Image.open(place / "cube.png").size == (128, 128)
    assert "Warning" not in done.stderr and "\r" not in done.stderr
    told = typed("recipe", "cube.png", folder=place)
    recipe = json.loads(told.stdout)
    assert (recipe["prompt"], recipe["seed"], recipe["steps"], recipe["backend"]) == ("a red cube", 7, 2, "mini")
    assert recipe == read_recipe(place / "cube.png").to_dict()


def test_json_of_a_picture_holds_its_path_and_recipe(place, capsys):
    assert run(["text", "a red cube", *QUICK, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert read_recipe(said["path"]).to_dict() == said["recipe"]


def test_the_same_words_give_the_same_pixels(place, capsys):
    for name in ("a.png", "b.png"):
        assert run(["text", "a blue cone", *QUICK, "-o", name]) == 0
    assert Image.open("a.png").tobytes() == Image.open("b.png").tobytes()


@pytest.mark.parametrize("mode", [mode.name for mode in MODES.values() if mode.control])
def test_a_mode_follows_the_map_that_the_map_command_draws(mode, place, capsys):
    assert run(["map", mode, "photo.jpg", "--size", "128x128", "--backend", "mini", "-o", "map.png"]) == 0
    assert run([mode, "photo.jpg", "a red ball", *QUICK, "-o", "from-photo.png"]) == 0
    assert run([mode, "map.png", "a red ball", *QUICK, "--as-map", "-o", "from-map.png"]) == 0
    assert Image.open("from-photo.png").tobytes() == Image.open("from-map.png").tobytes()
    assert read_recipe("from-photo.png").control.sha256 == read_recipe("from-map.png").control.sha256


def test_a_photo_that_looks_like_a_map_is_noticed_and_said(place, capsys):
    assert run(["map", "canny", "photo.jpg", "--size", "256x256", "-o", "map.png"]) == 0
    assert run(["canny", "map.png", "a red ball", *QUICK]) == 0
    assert "--as-map" in capsys.readouterr().err


def test_ctrl_c_exits_130_without_a_stack_trace(place):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "flux_demo",
        "text",
        "a red cube",
        "--backend",
        "mini",
        "--size",
        "512x512",
        "--steps",
        "100",
        "--json",
    ]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "Runs on" in process.stderr.readline()  # models begin to load now
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["exit_code"] == 130
    assert "Traceback" not in err
    assert not list(place.rglob("*.part"))


def test_a_terminal_sees_the_steps(place):
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, "-m", "flux_demo", "text", "a red cube", *QUICK]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:  # the other end has closed
                break
            shown += more
            if not more:
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"step 2 of 2" in shown
