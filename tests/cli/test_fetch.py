"""fetch on the command line, from a hub on the loopback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from flux_demo.cli import run
from flux_demo.hub import DownloadSize
from flux_demo.model_files import WHOLE
from flux_demo.modes import MODES
from flux_demo.studio import Studio
from stand_ins.hub import Hub
from tests.cli.conftest import ROOT

NAME, LORA = MODES["text"].repo, MODES["canny"].lora
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
FILES = {pattern.replace("*", "config.json"): b"{}" for pattern in WHOLE} | {
    "transformer/model.safetensors": WEIGHTS,
    "flux1-dev.safetensors": WEIGHTS,
}
SIZE = sum(len(content) for name, content in FILES.items() if name != "flux1-dev.safetensors")


@pytest.fixture
def start(tmp_path):
    """``start(hub, words...)``: the command in a process of its own, with a cache of its own."""

    def begin(hub: Hub, *words: str, **environment: str) -> subprocess.Popen:
        whole = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"} | environment
        command = [sys.executable, "-m", "flux_demo", "fetch", *words]
        return subprocess.Popen(command, cwd=ROOT, env=whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_size_is_said_first_and_the_name_is_the_result(start):
    with Hub({NAME: FILES}) as hub:
        code, out, err = ended(start(hub, "text"))
        assert (code, out) == (0, f"{NAME}\n")
        assert err == f"{NAME}: 2 MB of 2 MB to fetch. An interrupted download continues where it stopped.\n"
        code, out, err = ended(start(hub, "text", "--json"))
        assert json.loads(out) == {"what": "text", "name": NAME, "bytes_total": SIZE, "bytes_fetched": 0}
        assert "already here" in err


def test_of_a_folder_that_holds_all_files_nothing_is_fetched(start, tmp_path):
    folder = tmp_path / "my-flux"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with Hub({}) as hub:
        code, out, err = ended(start(hub, "text", FLUX_DEMO_TEXT_MODEL=str(folder)))
        assert (code, out, err) == (0, f"{folder}\n", f"{folder} is already here, 2 MB.\n")
        (folder / "model_index.json").unlink()
        code, _, err = ended(start(hub, "text", FLUX_DEMO_TEXT_MODEL=str(folder)))
        assert code == 3 and "Copy the missing files into it" in err


def test_ctrl_c_stops_a_download_and_the_next_one_succeeds(start):
    with Hub({NAME: FILES}) as hub:
        hub.slow_s = 0.2
        process = start(hub, "text")
        assert "to fetch" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
        assert (code, out, err) == (130, "", "Interrupted.\n")
        hub.slow_s = 0
        assert ended(start(hub, "text"))[0] == 0


def test_a_ctrl_c_that_a_library_swallows_stops_the_work_at_its_next_progress(monkeypatch, capsys):
    def fetch(studio, what, on_bytes):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        on_bytes(1, 2)
        pytest.fail("the download went on")

    monkeypatch.setattr(Studio, "fetch_size", lambda *_: DownloadSize(NAME, 2, 2, 1))
    monkeypatch.setattr(Studio, "fetch", fetch)
    assert run(["fetch", "text"]) == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")


def test_a_control_lora_is_fetched_alone_and_goes_on_where_it_stopped(start, tmp_path):
    weights = WEIGHTS * 11
    models = {LORA: {"README.md": b"#" * 2000, "flux1-canny-dev-lora.safetensors": weights}, NAME: FILES, MODES["canny"].repo: FILES}
    with Hub(models) as hub:
        hub.slow_s = 0.002
        process = start(hub, "canny", FLUX_DEMO_CANNY_MODEL=LORA)
        assert process.stderr.readline() == f"{LORA}: 23 MB of 23 MB to fetch. An interrupted download continues where it stopped.\n"
        while not any(file.stat().st_size > 5_000_000 for file in (tmp_path / "home").rglob("*.part")):
            assert process.poll() is None
            time.sleep(0.01)
        hub.slow_s = 60  # nothing more comes
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
        hub.slow_s = 0
        code, out, err = ended(start(hub, "canny", FLUX_DEMO_CANNY_MODEL=LORA))
        assert (code, out) == (0, f"{LORA}\n")
        assert int(re.match(rf"{LORA}: (\d+) MB of 23 MB to fetch", err)[1]) <= 18
        assert set(hub.downloads()) == {"flux1-canny-dev-lora.safetensors"} and all(LORA in path for _, path in hub.requests)
    (file,) = (tmp_path / "home").rglob("flux1-canny-dev-lora.safetensors")
    assert file.read_bytes() == weights


def test_gated_weights_are_refused_with_the_page_and_the_variable(start):
    with Hub({NAME: FILES}, gated=(NAME,), token="hf_right") as hub:
        code, out, err = ended(start(hub, "text"))
        assert (code, out) == (3, "")
        assert f"https://huggingface.co/{NAME}" in err and "HF_TOKEN" in err
        assert ended(start(hub, "text", HF_TOKEN="hf_right"))[0] == 0


def test_without_a_network_it_is_said_in_words(start):
    with Hub({}) as hub:
        pass
    code, out, err = ended(start(hub, "estimator", "--json"))
    assert code == 3
    assert "cannot be reached" in json.loads(out)["error"] and "Traceback" not in err


def test_a_disk_that_is_a_little_too_small_does_not_read_as_large_enough(monkeypatch, capsys):
    monkeypatch.setattr(Studio, "fetch_size", lambda *_: DownloadSize(NAME, 33_720_000_000, 33_720_000_000, 1))
    monkeypatch.setattr("flux_demo.cli.check.free_for_downloads", lambda: 33_700_000_000)
    assert run(["fetch", "text"]) == 3
    assert "needs 33.72 GB more, and the disk has 33.70 GB free. " in capsys.readouterr().err
