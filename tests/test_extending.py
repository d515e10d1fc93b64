"""The two promises of extension: a row is enough for another mode, one file and one line for another backend."""

import json
import textwrap

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from flux_demo.cli import run
from flux_demo.modes import EDGES, MODES, Mode
from flux_demo.recipe import read_recipe
from flux_demo.request import GenerationRequest
from flux_demo.settings import BACKENDS, Settings
from flux_demo.studio import Studio
from tests.starting import free_port

SMALL = "128x128"


@pytest.fixture
def sketch(monkeypatch):
    """A further mode: another checkpoint that follows edges."""
    row = Mode("sketch", "Sketch", "someone/FLUX.1-Sketch-dev", "sketch", guidance=20.0, control=EDGES)
    monkeypatch.setitem(MODES, "sketch", row)
    return row


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """``serve(studio)`` launches the page and returns a client of it."""
    from flux_demo.ui import build, launch_options

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    pages = []

    def launch(studio):
        page = build(studio)
        pages.append(page)
        _, url, _ = page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        return Client(url, verbose=False, download_files=str(tmp_path / "downloads"))

    yield launch
    for page in pages:
        page.close(verbose=False)


def test_another_mode_is_one_row(sketch, serve, photo, tmp_path, capsys, monkeypatch):
    photo_file = tmp_path / "room.png"
    photo.save(photo_file)
    monkeypatch.setenv("FLUX_DEMO_SKETCH_MODEL", "me/my-sketch")
    studio = Studio.from_settings(Settings.from_env({"FLUX_DEMO_BACKEND": "mini", "FLUX_DEMO_OUTPUTS": str(tmp_path)}))
    assert Settings.from_env().model("sketch") == "me/my-sketch"
    assert "FLUX_DEMO_SKETCH_MODEL" in [variable.name for variable in Settings.variables()]

    # Python
    drawn = studio.preview("sketch", photo, SMALL, low=20)
    made = studio.generate(GenerationRequest("sketch", "a red cube", seed=3, steps=1, control=drawn))
    assert read_recipe(made.path).mode == "sketch" and made.recipe.control.sha256 == drawn.sha256

    # the command line
    target = tmp_path / "out.png"
    words = ["sketch", str(photo_file), "a red cube", "--size", SMALL, "--low", "20", "--seed", "3", "--steps", "1"]
    assert run([*words, "--backend", "mini", "-o", str(target)]) == 0
    assert read_recipe(target).control == made.recipe.control
    with Image.open(target) as image:
        assert image.tobytes() == made.image.tobytes()
    capsys.readouterr()
    assert run(["check", "--json", "--backend", "mini"]) == 0
    assert json.loads(capsys.readouterr().out)["modes"]["sketch"]["backend"] == "mini"
    assert run(["fetch", "nonsense"]) == 2 and "sketch" in capsys.readouterr().err

    # the page and its API
    client = serve(studio)
    assert client.predict(api_name="/status")["modes"]["sketch"]["backend"] == "mini"
    over_http = client.predict(handle_file(photo_file), SMALL, low=20, api_name="/sketch_map")
    with Image.open(over_http) as image:
        assert image.tobytes() == drawn.image.tobytes()
    path, recipe = client.predict("a red cube", handle_file(over_http), "3", 1, api_name="/sketch")
    assert recipe["mode"] == "sketch"
    with Image.open(path) as image:
        assert image.tobytes() == made.image.tobytes()
    assert any(component["props"].get("label") == "Sketch" for component in client.config["components"])


def test_another_backend_is_one_file_and_one_line(serve, tmp_path, monkeypatch):
    (tmp_path / "flat_backend.py").write_text(
        textwrap.dedent("""
            from PIL import Image
            from flux_demo.backends import Backend, Refusal
            from flux_demo.modes import MAP_LIMITS
            from flux_demo.request import Dials, BackendOutput

            class Flat(Backend):
                name, title = "flat", "One flat colour"

                def __init__(self, settings):
                    pass

                def refusal(self, mode):
                    return Refusal("It does not follow maps. Choose another backend.") if mode.control else None

                def dials(self, mode):
                    return Dials(1, 1.0, range(1, 3), (1, 9), MAP_LIMITS)

                def generate(self, request, on_step, on_status):
                    return BackendOutput(Image.new("RGB", (request.size.width, request.size.height), "teal"), "flat")
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    others = dict(BACKENDS)
    BACKENDS.clear()
    BACKENDS.update({"flat": "flat_backend:Flat"} | others)
    try:
        studio = Studio.from_settings(Settings.from_env({"FLUX_DEMO_OUTPUTS": str(tmp_path)}))
        client = serve(studio)
        assert studio.route("text").backend.name == "flat"
        assert [passed.backend for passed in studio.route("canny").passed_over][0] == "flat"
        path, recipe = client.predict("a fox", size=SMALL, api_name="/text")
        assert recipe["backend"] == "flat" and Image.open(path).getpixel((5, 5)) == (0, 128, 128)
        assert client.predict(api_name="/status")["modes"]["canny"]["backend"] == "mini"
    finally:
        BACKENDS.clear()
        BACKENDS.update(others)
