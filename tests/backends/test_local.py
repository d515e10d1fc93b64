"""Why FLUX cannot run on this machine's GPU, from the hardest reason to remove to the easiest; and where its files are found."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from flux_demo.backends.local import CONTEXT_BYTES, Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine import memory
from flux_demo.engine.memory import GIB
from flux_demo.failures import failure_of
from flux_demo.model_files import COMPONENTS, files_for
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from tests.engine.tiny import build, split

GPU_FULL = failure_of(MemoryError("CUDA out of memory"))
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


def test_a_gpu_that_ran_out_of_memory_is_offered_the_next_tighter_plan(settings):
    weights = Local(settings, BIG)
    roomy = memory.plan(23 * GIB, 64 * GIB)
    tighter = memory.plan(23 * GIB, 64 * GIB, below=roomy)
    tightest = memory.plan(0 + 4 * GIB, 64 * GIB)
    assert (roomy.name, tighter.name, tightest.kept_shares) == ("body", "streamed", 0)
    assert tighter.sentence in str(weights.out_of_memory(SimpleNamespace(plan=roomy), GPU_FULL))
    assert "No plan uses less" in str(weights.out_of_memory(SimpleNamespace(plan=tightest), GPU_FULL))


def test_the_tighter_plan_that_is_offered_is_one_that_main_memory_allows(settings):
    weights = Local(settings, Machine(BIG.card, cuda_torch=True, memory_bytes=16 * GIB))
    model_cache = SimpleNamespace(plan=memory.plan(23 * GIB, 16 * GIB))
    assert "47% of the model stays on the GPU" in str(weights.out_of_memory(model_cache, GPU_FULL))  # main memory cannot hold the whole
    assert "47% of the model stays on the GPU" in weights.plan_sentence(MODES["text"], None)


def test_each_mode_has_the_plan_of_its_own_files(folder, tmp_path):
    weights = Local(Settings(models={"text": str(split(folder, tmp_path / "flux", "text"))}), card(total_bytes=12 * GIB))
    small, large = (weights.plan_sentence(MODES[mode], None) for mode in ("text", "canny"))
    assert small.startswith("All three modes") and large.startswith("32% of the model stays")
    merged, in_files = (
        SimpleNamespace(plan=weights._plan(weights._machine, replace(memory.FLUX, in_files=each))) for each in (False, True)
    )
    assert weights.plan_sentence(MODES["text"], merged) == merged.plan.sentence  # where it is loaded already
    # What is in no file of its own, as with a LoRA, needs main memory that this plan does not count on; another kind of file has another plan.
    assert weights.plan_sentence(MODES["text"], in_files) == small
    quantised = replace(merged.plan.sizes, quantised=True, kind="Q8_0")
    assert weights.plan_sentence(MODES["text"], SimpleNamespace(plan=replace(merged.plan, sizes=quantised))) == small


def test_a_damaged_file_has_no_plan_and_takes_no_other_modes(folder, tmp_path):
    flux = split(folder, tmp_path / "flux", "text")
    weights = Local(Settings(models={"text": str(flux), "canny": str(split(folder, tmp_path / "canny", "canny"))}), BIG)
    whole = weights.plan_sentence(MODES["canny"], None)
    shard = flux / "transformer" / "diffusion_pytorch_model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert weights.plan_sentence(MODES["text"], None) is None and weights.refusal(MODES["text"]) is not None
    assert weights.plan_sentence(MODES["canny"], None) == whole is not None


def test_a_plan_that_another_model_ran_out_with_is_forgotten_where_nothing_is_tighter(settings, folder, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (23 * GIB, 24 * GIB))
    weights = Local(Settings(models={"text": str(split(folder, tmp_path / "flux", "text"))}), BIG)
    weights._failed_plan = replace(memory.plan(23 * GIB, 64 * GIB), sizes=memory.WeightSizes(0, 0, 0, 0, 0))
    assert weights.model_cache(weights.files(MODES["text"], quiet)).plan.name == "three"


def refusal(machine=BIG, mode="text", **given):
    return Local(Settings(**given), machine).refusal(MODES[mode])


def reason(*args, **given):
    """The refusal's reason where nothing can be fetched to remove it; None if there is no refusal."""
    refused = refusal(*args, **given)
    assert refused is None or refused.fetch is None
    return refused and refused.reason


def two_sentences(message):
    return message.rstrip(".").count(". ") == 1 and message.endswith(".")


def test_no_gpu():
    message = reason(Machine(None, cuda_torch=True, memory_bytes=64 * GIB))
    assert "No NVIDIA GPU" in message and two_sentences(message)


def test_torch_without_cuda():
    message = reason(Machine(BIG.card, cuda_torch=False, memory_bytes=64 * GIB))
    assert "NVIDIA Test" in message and "without CUDA" in message and two_sentences(message)


def card(**given):
    return Machine(replace(BIG.card, **given), cuda_torch=True, memory_bytes=64 * GIB)


def test_a_card_that_torch_has_no_code_for_is_refused_and_a_slow_one_is_named(settings):
    message = reason(card(capability=(6, 1)))
    assert "6.1" in message and "7.5" in message and two_sentences(message)
    assert "(compute capability 7.5)" in Local(settings, card(capability=(7, 5))).notice
    assert "capability" not in (Local(settings, card(capability=(8, 0))).notice or "")
    slow, fast = (Local(settings, card(capability=each, total_bytes=23 * GIB, free_bytes=None)) for each in ((7, 5), (8, 0)))
    assert "streamed block by block" in slow.plan_sentence(MODES["text"], None)  # it needs more beside the model
    assert "One mode stays on the GPU" in fast.plan_sentence(MODES["text"], None)


def test_memory_that_is_free_counts_and_not_what_the_card_has(settings):
    assert "2 GB of GPU memory is free" in reason(card(free_bytes=3 * GIB))
    busy, idle = (Local(settings, card(free_bytes=free * GIB)).plan_sentence(MODES["text"], None) for free in (13, 24))
    assert (
        busy == memory.plan(13 * GIB - CONTEXT_BYTES, 64 * GIB).sentence != idle == Local(settings, BIG).plan_sentence(MODES["text"], None)
    )


def test_of_several_gpus_the_plan_names_the_one_that_is_taken(settings):
    several = Local(settings, card(among=2)).plan_sentence(MODES["text"], None)
    assert (
        several
        == f"{Local(settings, BIG).plan_sentence(MODES['text'], None)} Of several GPUs it runs on the NVIDIA Test, which had the most free memory."
    )


def test_models_go_to_the_card_that_was_said_and_later_plans_forget_what_they_take(settings, folder, tmp_path, monkeypatch):
    import torch

    free = [4 * GIB, 21 * GIB]
    uuids = ["0000aaaa", "1111bbbb"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 24 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))
    files = Local(Settings(models={"text": str(split(folder, tmp_path / "flux", "text"))}), BIG).files(MODES["text"], quiet)
    for uuid, expected in (("GPU-0000aaaa", 0), ("GPU-1111bbbb", 1), ("GPU-unknown", 1), ("", 1)):
        weights = Local(settings, card(among=2, uuid=uuid))
        cache = weights.model_cache(files)
        assert cache._device == torch.device("cuda", expected) and "NVIDIA Test" in cache.plan.sentence
    looks = [card(free_bytes=24 * GIB, uuid="GPU-1111bbbb"), card(free_bytes=1 * GIB, uuid="GPU-1111bbbb")]
    monkeypatch.setattr("flux_demo.backends.local.this_machine", lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    weights = Local(settings)
    weights.model_cache(files)
    assert (
        weights.plan_sentence(MODES["text"], None) == memory.plan(21 * GIB, 64 * GIB).sentence
    )  # with what was free, and not with the one GiB that is left


def test_too_little_memory():
    assert "GPU memory" in reason(Machine(Card("NVIDIA Small", 3 * GIB), True, 64 * GIB))
    assert "main memory" in reason(Machine(Card("NVIDIA Small", 8 * GIB), True, 8 * GIB))


def test_files_that_are_not_here_name_the_size_the_command_and_the_licence(tmp_path):
    refused = refusal(mode="canny")
    assert refused.fetch == "canny"
    assert "about 34 GB" in refused.reason and "`python -m flux_demo fetch canny`" in refused.reason and two_sentences(refused.reason)
    assert "https://huggingface.co/black-forest-labs/FLUX.1-Canny-dev" in refused.reason and "HF_TOKEN" in refused.reason
    assert "HF_TOKEN" not in refusal(hf_token="hf_mine").reason
    (tmp_path / "token").write_text("hf_mine")  # logged in with the Hub's own command
    assert "HF_TOKEN" not in refusal().reason
    assert "licence" not in refusal(models={"text": "someone/free-flux"}).reason


def test_advice_on_stock_fluxs_memory_is_for_those_who_would_fetch_stock_flux(folder, tmp_path):
    """24 GB of GPU memory and 8 GB of main memory: too little for FLUX's own files, enough for a quantised one."""
    import gguf

    from tests.engine.formats import in_bfl_layout, save_gguf, weights_of

    machine = Machine(BIG.card, cuda_torch=True, memory_bytes=8 * GIB)
    file, lost = str(tmp_path / "flux.gguf"), str(tmp_path / "lost.gguf")
    save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(folder)), gguf.GGMLQuantizationType.Q8_0)
    assert "main memory" in reason(machine)
    lacking = refusal(machine, models={"text": file})
    assert lacking.fetch == "text" and "The text encoders and the VAE" in lacking.reason
    assert "a file that does not exist" in reason(machine, models={"text": lost})


@pytest.mark.parametrize("mode", MODES)
def test_the_encoders_of_a_single_file_are_fetched_without_the_rest_of_their_model(folder, tmp_path, mode):
    from tests.engine.formats import save, weights_of

    file = save(tmp_path / "flux.safetensors", weights_of(folder, mode))
    lacking = refusal(mode=mode, models={mode: str(file)})
    assert lacking.fetch == mode and f"`python -m flux_demo fetch {mode}`" in lacking.reason and "about 10 GB" in lacking.reason
    assert files_for(lacking.fetch, Settings(models={mode: str(file)})) == (MODES["text"].repo, COMPONENTS)


def test_half_a_download_can_be_continued(tmp_path):
    home = tmp_path / "cache" / "models--black-forest-labs--FLUX.1-dev"
    (home / "snapshots" / "abc").mkdir(parents=True)
    refused = refusal(hf_token="hf_mine")
    assert refused.fetch == "text"
    assert "Only part" in refused.reason and "it continues" in refused.reason and two_sentences(refused.reason)


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
    assert weights.files(MODES["text"], quiet).model == "my-flux"
    files = weights.files(MODES["canny"], quiet)
    assert (files.model, files.shared, files.transformer) == ("my-canny", text, canny / "transformer")  # the same bytes are loaded once


def test_encoders_that_differ_are_not_shared(folder, tmp_path):
    text, canny = split(folder, tmp_path / "text", "text"), split(folder, tmp_path / "canny", "canny")
    file = canny / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    weights = Local(Settings(models={"text": str(text), "canny": str(canny)}), BIG)
    assert weights.files(MODES["canny"], quiet).shared == canny


def test_a_transformer_alone_takes_the_encoders_of_text(folder, tmp_path):
    text, canny = split(folder, tmp_path / "text", "text"), split(folder, tmp_path / "canny", "canny")
    for name in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.rmtree(canny / name)
    given = dict(models={"text": str(text), "canny": str(canny)})
    assert refusal(mode="canny", **given) is None
    assert Local(Settings(**given), BIG).files(MODES["canny"], quiet).shared == text


def test_folders_that_cannot_be_used_are_refused_by_their_variable(folder, tmp_path):
    text = split(folder, tmp_path / "text", "text")
    assert "does not follow a map" in reason(mode="canny", models={"canny": str(text)})
    canny = split(folder, tmp_path / "canny", "canny")
    assert "needs a map" in reason(models={"text": str(canny)})
    (canny / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "is missing" in reason(mode="canny", models={"canny": str(canny)})
    config = text / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "SD3Transformer2DModel"}))
    answers = [
        reason(models={"text": str(text)}),
        reason(models={"text": str(tmp_path / "nowhere")}),
        reason(models={"text": "./nowhere"}),
    ]
    assert "SD3Transformer2DModel" in answers[0] and "does not exist" in answers[1] and "does not exist" in answers[2]
    for message in answers:
        assert "FLUX_DEMO_TEXT_MODEL" in message and str(tmp_path) not in message and two_sentences(message)
