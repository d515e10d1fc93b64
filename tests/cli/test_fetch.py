"""fetch on the command line, from a hub on the loopback."""

import json
import os
import signal
import subprocess
import sys

import pytest

from flux_demo.model_files import WHOLE
from stand_ins.hub import Hub
from tests.cli.conftest import ROOT

NAME = "black-forest-labs/FLUX.1-dev"
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


def test_ctrl_c_stops_a_download_and_the_next_one_goes_on(start):
    with Hub({NAME: FILES}) as hub:
        hub.slow_s = 0.2
        process = start(hub, "text")
        assert "to fetch" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
        assert (code, out, err) == (130, "", "Interrupted.\n")
        hub.slow_s = 0
        assert ended(start(hub, "text"))[0] == 0


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
