"""The app's start: the address it prints, what it loads before that, how it refuses and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(*words: str, python: tuple[str, ...] = (), **environment: str):
    """The app in a process of its own, with the lines it printed until its page answered, and its address."""
    command = [sys.executable, *python, "app.py", "--backend", "mini", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        try:
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                found = re.match(r"Running on (http://\S+)", line)
                if found:
                    yield process, found[1], lines
                    return
            pytest.fail("the app ended before its page answered: " + "".join(lines))
        finally:
            process.kill()


def answers(address: str) -> bool:
    with urllib.request.urlopen(address, timeout=30) as response:
        return response.status == 200


def refusal(*words: str) -> str:
    done = subprocess.run([sys.executable, "app.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_page_answers_at_the_printed_address_and_ends_cleanly(number):
    port = free_port()
    with started("--port", str(port)) as (process, address, _):
        assert address == f"http://127.0.0.1:{port}/"
        assert answers(address)
        process.send_signal(number)
        rest = process.stdout.read()
        assert (process.wait(timeout=30), rest) == (0, "")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_no_model_library_is_loaded_before_the_page_answers():
    with started("--port", str(free_port()), python=("-X", "importtime")) as (_, address, lines):
        before = {line.rpartition("|")[2].strip() for line in lines}
        assert "gradio" in before
        assert not before & {"torch", "diffusers", "transformers", "cv2"}


def test_gradios_own_variables_decide_when_no_address_is_given():
    port = free_port()
    with started(GRADIO_SERVER_PORT=str(port), GRADIO_SERVER_NAME="0.0.0.0") as (_, address, _lines):
        assert address.rstrip("/").endswith(f":{port}")
        assert answers(f"http://127.0.0.1:{port}/")


def test_a_proxy_for_everything_does_not_stop_the_page():
    with started("--port", str(free_port()), HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9", NO_PROXY="example.org") as (
        _,
        address,
        _lines,
    ):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(address, timeout=30).status == 200


def test_pictures_go_to_the_folder_that_is_named(tmp_path):
    from gradio_client import Client

    with started("--port", str(free_port()), "--outputs", str(tmp_path / "mine")) as (_, address, _lines):
        client = Client(address, verbose=False, download_files=str(tmp_path / "client"))
        client.predict("a red cube", size="128x128", steps=2, api_name="/text")
        client.close()
    assert len(list((tmp_path / "mine").glob("*.png"))) == 1


def test_a_port_that_is_taken_is_said_in_words():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "is taken by another program" in refusal("--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--port", "70000"), "is not a valid port"),
        (("--port", "0"), "is not a valid port"),
        (("--host", "nowhere.invalid"), "is not an address of this machine"),
        (("--host", "192.0.2.1"), "is not an address of this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_address_that_cannot_be_is_said_in_words(words, sentence):
    assert sentence in refusal(*words)


def test_a_wrong_setting_is_said_in_words(monkeypatch):
    monkeypatch.setenv("FLUX_DEMO_BACKEND", "abacus")
    assert "'abacus' is not a backend" in refusal()


@pytest.mark.parametrize("words", [("--backend", "abacus"), ("--port", "http"), ("--nonsense",)], ids=" ".join)
def test_what_the_parser_refuses_exits_2(words):
    done = subprocess.run([sys.executable, "app.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "usage: python app.py" in done.stderr
