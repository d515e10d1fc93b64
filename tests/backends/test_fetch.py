"""From a Hub to an image: text is fetched whole, canny only its transformer, and both generate from what was fetched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from stand_ins.hub import Hub
from tests.engine.runs import generate
from tests.engine.tiny import build, split

ROOT = Path(__file__).resolve().parents[2]
TEXT, CANNY = "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-Canny-dev"
SCRIPT = """
import json
from flux_demo import hub
from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.model_files import files_for
from flux_demo.modes import MODES
from flux_demo.settings import Settings

settings = Settings(hf_token="hf_right")
weights = Local(settings, Machine(Card("NVIDIA Test", 24 * 2**30), True, 64 * 2**30))

def refusal(mode):
    refused = weights.refusal(MODES[mode])
    return refused and vars(refused)

refusals = [refusal("text")]
answers = {}
for mode in ("text", "canny"):
    name, patterns = files_for(mode, settings)
    answers[mode] = hub.download_size(name, patterns, settings.hf_token).files
    hub.fetch(name, patterns, settings.hf_token)
    refusals.append(refusal(mode))
print(json.dumps(answers | {"refusals": refusals}))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models in the Hub's layout, with single-file copies beside them."""
    folder = build(tmp_path_factory.mktemp("tiny"), torch.bfloat16)
    found = {}
    for name, mode in ((TEXT, "text"), (CANNY, "canny")):
        whole = split(folder, tmp_path_factory.mktemp("hub") / mode, mode)
        found[name] = {file.relative_to(whole).as_posix(): file.read_bytes() for file in whole.rglob("*") if file.is_file()}
        found[name][f"{mode}.safetensors"] = bytes(5000)
    return found


def drawn(home, monkeypatch):
    """An image of each mode from what was fetched, and whether the modes share their text encoders and VAE."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    weights = Local(Settings(), Machine(Card("NVIDIA Test", 24 * 2**30), True, 64 * 2**30))
    model_cache = ModelCache(CPU_PLAN, torch.device("cpu"), torch.bfloat16, 64)
    text, canny = (model_cache.load(weights.files(MODES[mode], print)) for mode in ("text", "canny"))
    control = Image.new("RGB", (32, 32))
    images = [generate(text, "a cube", 32, 32, 1, 1, 3.5), generate(canny, "a cube", 32, 32, 1, 1, 3.5, control)]
    return [image.size for image in images], text.shared is canny.shared


def run(url, home):
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_came_with_text_is_not_fetched_again(models, tmp_path, monkeypatch):
    with Hub(models, gated=(TEXT, CANNY), token="hf_right") as hub:
        answers = run(hub.url, tmp_path / "home")
        fetched = [path.partition("/resolve/")[0] for method, path in hub.requests if method == "GET" and "/resolve/" in path]
        assert "is not on this machine" in answers["refusals"][0]["reason"] and answers["refusals"][0]["fetch"] == "text"
        assert answers["refusals"][1:] == [None, None]
        assert drawn(tmp_path / "home", monkeypatch) == ([(32, 32), (32, 32)], True)
        assert fetched.count(CANNY) == answers["canny"] == 4  # model_index, scheduler, and two files of the transformer
        assert not any(name.count("/") == 0 and name.endswith(".safetensors") for name in hub.downloads())


def test_a_mode_with_another_vae_fetches_its_own(models, tmp_path, monkeypatch):
    changed = {name: dict(files) for name, files in models.items()}
    vae = "vae/diffusion_pytorch_model.safetensors"
    changed[CANNY][vae] = changed[CANNY][vae][:-1] + b"\1"
    with Hub(changed, gated=(TEXT, CANNY), token="hf_right") as hub:
        answers = run(hub.url, tmp_path / "home")
        assert answers["refusals"][1:] == [None, None]
        assert drawn(tmp_path / "home", monkeypatch) == ([(32, 32), (32, 32)], False)
        assert answers["canny"] > 10
