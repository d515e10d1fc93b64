"""Why FLUX cannot run on this machine's GPU, from the hardest to change to the easiest; and where its files are taken from."""

import json
import shutil
import subprocess
import sys

import pytest

from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine import memory
from flux_demo.engine.memory import GIB
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from tests.engine.tiny import build, split

BIG = Machine(Card("NVIDIA Test", 24 * GIB), cuda_torch=True, memory_bytes=64 * GIB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny FLUX in diffusers' layout."""
    import torch

    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


def quiet(*_):
    pass


def test_a_gpu_that_ran_out_is_offered_the_next_tighter_plan(settings):
    weights = Local(settings, BIG)
    model_cache = type("ModelCache", (), {})()
    model_cache.plan = memory.plan(23 * GIB, 64 * GIB)
    assert model_cache.plan.name == "body"
    assert "streamed from main memory while it works" in str(weights.ran_out(model_cache))
    model_cache.plan = memory.plan(23 * GIB, 64 * GIB, below=model_cache.plan)
    assert "no plan uses less" in str(weights.ran_out(model_cache))


def test_the_tighter_plan_that_is_offered_is_one_that_main_memory_allows(settings):
    weights = Local(settings, Machine(BIG.card, cuda_torch=True, memory_bytes=16 * GIB))
    model_cache = type("ModelCache", (), {})()
    model_cache.plan = memory.plan(23 * GIB, 16 * GIB)
    assert "89% of the model stays on the GPU" in str(weights.ran_out(model_cache))  # whole, the main memory could not hold it
    assert "89% of the model stays on the GPU" in weights.planned()


def refusal(machine=BIG, mode="text", **given):
    refusal = Local(Settings(**given), machine).refusal(MODES[mode])
    return refusal and refusal.reason


def two_sentences(words):
    return words.rstrip(".").count(". ") == 1 and words.endswith(".")


def test_a_preset_that_there_is_not():
    words = refusal(preset="fast")
    assert "'fast'" in words and "exact" in words and two_sentences(words)


def test_no_gpu():
    words = refusal(Machine(None, cuda_torch=True, memory_bytes=64 * GIB))
    assert "No NVIDIA GPU" in words and two_sentences(words)


def test_torch_without_cuda():
    words = refusal(Machine(BIG.card, cuda_torch=False, memory_bytes=64 * GIB))
    assert "NVIDIA Test" in words and "without CUDA" in words and two_sentences(words)


def test_too_little_memory():
    assert "GPU memory" in refusal(Machine(Card("NVIDIA Small", 3 * GIB), True, 64 * GIB))
    assert "main memory" in refusal(Machine(Card("NVIDIA Small", 8 * GIB), True, 8 * GIB))


def test_files_that_are_not_here_name_the_size_the_command_and_the_licence(tmp_path):
    words = refusal(mode="canny")
    assert "about 34 GB" in words and "`python -m flux_demo fetch canny`" in words and two_sentences(words)
    assert "https://huggingface.co/black-forest-labs/FLUX.1-Canny-dev" in words and "HF_TOKEN" in words
    assert "HF_TOKEN" not in refusal(hf_token="hf_mine")
    (tmp_path / "token").write_text("hf_mine")  # logged in with the Hub's own command
    assert "HF_TOKEN" not in refusal()
    assert "licence" not in refusal(models={"text": "someone/free-flux"})


def test_half_a_download_goes_on(tmp_path):
    home = tmp_path / "cache" / "models--black-forest-labs--FLUX.1-dev"
    (home / "snapshots" / "abc").mkdir(parents=True)
    words = refusal(hf_token="hf_mine")
    assert "Only a part" in words and "goes on where it ended" in words and two_sentences(words)


def test_refusals_are_quick_and_load_nothing_heavy():
    script = """
import sys, time
from flux_demo.backends import all_backends
from flux_demo.modes import MODES
from flux_demo.settings import Settings
backends = all_backends(Settings())
[backend.refusal(mode) for backend in backends for mode in MODES.values()]
begun = time.process_time()
[backend.refusal(mode) for backend in backends if backend.name in ("local", "mini") for mode in MODES.values()]
spent = time.process_time() - begun
assert spent < 0.6, spent  # six answers; generous, for machines that are busy
heavy = {"torch", "diffusers", "transformers", "numpy", "cv2", "gradio", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_folders_in_diffusers_layout_are_taken(folder, tmp_path):
    text, canny = split(folder, tmp_path / "my-flux", "text"), split(folder, tmp_path / "my-canny", "canny")
    given = dict(models={"text": str(text), "canny": str(canny)})
    assert refusal(**given) is None and refusal(mode="canny", **given) is None
    weights = Local(Settings(**given), BIG)
    assert weights.parts("text", quiet).model == "my-flux"
    parts = weights.parts("canny", quiet)
    assert (parts.model, parts.shared, parts.transformer) == ("my-canny", text, canny / "transformer")  # the same bytes: loaded once


def test_encoders_that_differ_are_not_shared(folder, tmp_path):
    text, canny = split(folder, tmp_path / "text", "text"), split(folder, tmp_path / "canny", "canny")
    file = canny / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    weights = Local(Settings(models={"text": str(text), "canny": str(canny)}), BIG)
    assert weights.parts("canny", quiet).shared == canny


def test_a_transformer_alone_takes_texts_encoders(folder, tmp_path):
    text, canny = split(folder, tmp_path / "text", "text"), split(folder, tmp_path / "canny", "canny")
    for name in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.rmtree(canny / name)
    given = dict(models={"text": str(text), "canny": str(canny)})
    assert refusal(mode="canny", **given) is None
    assert Local(Settings(**given), BIG).parts("canny", quiet).shared == text


def test_folders_that_cannot_be_used_are_refused_by_their_variable(folder, tmp_path):
    text = split(folder, tmp_path / "text", "text")
    assert "follows no map" in refusal(mode="canny", models={"canny": str(text)})
    canny = split(folder, tmp_path / "canny", "canny")
    assert "wants a map" in refusal(models={"text": str(canny)})
    (canny / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "is missing" in refusal(mode="canny", models={"canny": str(canny)})
    config = text / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "SD3Transformer2DModel"}))
    answers = [
        refusal(models={"text": str(text)}),
        refusal(models={"text": str(tmp_path / "nowhere")}),
        refusal(models={"text": "./nowhere"}),
    ]
    assert "SD3Transformer2DModel" in answers[0] and "is not there" in answers[1] and "is not there" in answers[2]
    for words in answers:
        assert "FLUX_DEMO_TEXT_MODEL" in words and str(tmp_path) not in words and two_sentences(words)
