"""What each setting of a model names, told from the files themselves: whole models, single files and LoRAs, in folders and in the Hub's cache."""

import json
import shutil

import pytest
import torch
from gguf import GGMLQuantizationType

from flux_demo.backends.local_models import LocalModels
from flux_demo.engine.load import load_scheduler
from flux_demo.engine.schedule import set_schedule
from flux_demo.errors import InvalidRequest
from flux_demo.model_files import WHOLE, ModelFiles, files_for
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from tests.engine.formats import control_lora, in_bfl_layout, save, save_gguf, weights_of
from tests.engine.tiny import build, split

TEXT, CANNY = (MODES[mode].repo for mode in ("text", "canny"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture(scope="module")
def text(tiny, tmp_path_factory):
    """A whole text model in a folder."""
    return split(tiny, tmp_path_factory.mktemp("whole") / "my-flux", "text")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """``cache(model's name)``: a folder for its files in the Hub's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def snapshot(name):
        folder = tmp_path / "cache" / f"models--{name.replace('/', '--')}" / "snapshots" / "abc"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    return snapshot


def find(mode, **models):
    return LocalModels(Settings(device="cpu", models={name: str(model) for name, model in models.items()})).find(MODES[mode])


def reason(mode, **models):
    """The refusal's reason where nothing can be fetched to remove it."""
    found = find(mode, **models)
    assert found.fetch is None and found.reason.rstrip(".").count(". ") == 1
    return found.reason


@pytest.mark.parametrize(("mode", "name"), [("text", TEXT), ("canny", CANNY)])
@pytest.mark.parametrize("file", ["ae.safetensors", "flux1.safetensors"])
def test_a_single_file_of_a_models_repository_is_no_lora(tiny, cache, mode, name, file):
    if file == "ae.safetensors":
        save(cache(name) / file, {"decoder.up.0.block.0.conv1.weight": torch.zeros(2, 2)})
    else:
        save(cache(name) / file, in_bfl_layout(weights_of(tiny, mode)))
    found = find(mode)
    assert found.fetch == mode and f"Only part of {name} is here" in found.reason


def test_a_folder_without_a_model_says_to_name_one_of_its_files(tiny, tmp_path):
    folder = tmp_path / "flux"
    folder.mkdir()
    assert "is incomplete" in reason("text", text=folder)
    save(folder / "flux1-dev.safetensors", in_bfl_layout(weights_of(tiny)))
    assert "Name one of the files itself" in reason("text", text=folder)


def test_a_folder_with_a_lora_beside_other_files_is_that_lora(tiny, text, tmp_path):
    save(tmp_path / "ae.safetensors", {"decoder.up.0.block.0.conv1.weight": torch.zeros(2, 2)})
    lora = save(tmp_path / "canny.safetensors", control_lora(weights_of(tiny)))
    found = find("canny", text=text, canny=tmp_path)
    assert isinstance(found, ModelFiles) and found.lora == lora and found.model == "my-flux + canny.safetensors at 0.85"
    save(tmp_path / "depth.safetensors", control_lora(weights_of(tiny)))
    assert "several LoRAs" in reason("canny", text=text, canny=tmp_path)


@pytest.mark.parametrize("file", ["whole.safetensors", "whole.gguf"])
def test_a_folder_with_a_lora_beside_a_whole_model_is_neither(tiny, text, tmp_path, file):
    folder = tmp_path / "mix"
    folder.mkdir()
    weights = in_bfl_layout(weights_of(tiny, "canny"))
    if file.endswith(".gguf"):
        save_gguf(folder / file, weights, GGMLQuantizationType.Q8_0)
    else:
        save(folder / file, weights)
    save(folder / "lora.safetensors", control_lora(weights_of(tiny)))
    assert "Name one of the files itself" in reason("text", text=folder)
    assert "Name one of the files itself" in reason("canny", text=text, canny=folder)


def test_a_lora_that_was_fetched_is_judged_by_its_files(tiny, text, cache):
    name, factors = "us/my-lora", control_lora(weights_of(tiny))
    assert find("canny", text=text, canny=name).fetch == "canny"
    save(cache(name) / "style.safetensors", {key: value for key, value in factors.items() if "x_embedder" not in key})
    assert "not one of BFL's control LoRAs" in reason("canny", text=text, canny=name)
    lora = save(cache(name) / "v1.safetensors", factors)
    assert find("canny", text=text, canny=name).lora == lora
    save(cache(name) / "v2.safetensors", factors)
    assert "several LoRAs" in reason("canny", text=text, canny=name)


def test_a_lora_is_no_model_for_text_and_is_not_fetched_for_it():
    assert "it names a LoRA, not a model" in reason("text", text="us/style-LoRA")
    with pytest.raises(InvalidRequest, match="it names a LoRA, not a model"):
        files_for("text", Settings(models={"text": "us/style-LoRA"}))


@pytest.mark.parametrize("named", ["file", "folder"])
def test_for_a_lora_that_is_here_its_base_is_fetched(tiny, tmp_path, named):
    lora = save(tmp_path / "canny.safetensors", control_lora(weights_of(tiny)))
    settings = Settings(models={"canny": str(lora if named == "file" else tmp_path)})
    assert files_for("canny", settings) == files_for("text", settings) == (TEXT, WHOLE)


@pytest.mark.parametrize("base", ["folder", "file"])
@pytest.mark.parametrize("inputs", [8, 16, 64, 96])
def test_a_lora_whose_input_layer_takes_no_map_is_refused_before_anything_is_loaded(tiny, text, tmp_path, base, inputs):
    whole = text if base == "folder" else save(tmp_path / "flux.safetensors", in_bfl_layout(weights_of(tiny)))
    models = LocalModels(
        Settings(device="cpu", components=str(text), models={"text": str(whole), "canny": str(tmp_path / "lora.safetensors")})
    )
    save(tmp_path / "lora.safetensors", control_lora(weights_of(tiny)))
    assert isinstance(models.find(MODES["canny"]), ModelFiles)
    save(tmp_path / "lora.safetensors", control_lora(weights_of(tiny), inputs=inputs))
    assert "it is a LoRA that does not follow a map" in models.find(MODES["canny"]).reason


def test_a_lora_for_more_blocks_is_refused_before_anything_is_loaded(tiny, text, tmp_path):
    factors = control_lora(weights_of(tiny))
    more = {name.replace("blocks.1.", "blocks.9."): factor for name, factor in factors.items()}
    lora = save(tmp_path / "lora.safetensors", factors | more)
    assert "it was made for a model with other layers" in reason("canny", text=text, canny=lora)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guidance_embeds": False}, "it takes no guidance, like FLUX.1-schnell"),
        ({"in_channels": 96, "out_channels": 16}, "it is a FLUX.1-Fill model"),
        ({"in_channels": 48, "out_channels": 16}, "it takes 48 input channels"),
    ],
)
@pytest.mark.parametrize("mode", ["text", "canny"])
def test_a_folder_is_refused_in_the_words_of_a_single_file(text, tmp_path, mode, change, words):
    folder = shutil.copytree(text, tmp_path / "flux")
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | change), "utf-8")
    assert words in reason(mode, **{mode: folder})


def test_the_name_that_bfl_gave_its_first_files_is_that_of_a_file(tiny, text, tmp_path):
    file = save(tmp_path / "flux1-dev.sft", in_bfl_layout(weights_of(tiny)))
    found = LocalModels(Settings(device="cpu", components=str(text), models={"text": str(file)})).find(MODES["text"])
    assert isinstance(found, ModelFiles) and found.model == "flux1-dev.sft, F32"


DEV_SIGMAS = [1.0, 0.9045, 0.7595, 0.5128, 0.1048]  # of FLUX.1-dev at 1024x1024: every seventh of 28, and the last


@pytest.mark.parametrize(
    ("config", "sigmas"),
    [
        (None, DEV_SIGMAS),
        ({"use_dynamic_shifting": False, "shift": 1.0}, DEV_SIGMAS),  # FLUX.1-schnell's
        ({}, DEV_SIGMAS),
        ([], DEV_SIGMAS),
        ({"use_dynamic_shifting": True, "max_shift": 0.5}, [1.0, 0.8318, 0.6225, 0.3547, 0.0575]),  # another one that suits
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["text", "canny"])
def test_a_single_file_has_the_sigmas_of_flux_dev_whatever_scheduler_its_components_have(tiny, text, tmp_path, mode, config, sigmas):
    components = shutil.copytree(text, tmp_path / "flux")
    if config is not None:
        (components / "scheduler" / "scheduler_config.json").write_text(json.dumps(config), "utf-8")
    file = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(tiny, mode)), GGMLQuantizationType.Q8_0)
    found = LocalModels(Settings(device="cpu", components=str(components), models={mode: str(file)})).find(MODES[mode])
    scheduler = load_scheduler(found.scheduler)
    set_schedule(scheduler, 28, 4096, "cpu")
    assert scheduler.sigmas[[0, 7, 14, 21, 27]].tolist() == pytest.approx(sigmas, abs=1e-4)


def test_components_without_a_scheduler_are_incomplete(tiny, text, tmp_path):
    components = shutil.copytree(text, tmp_path / "flux")
    (components / "scheduler" / "scheduler_config.json").unlink()
    file = save(tmp_path / "flux.safetensors", in_bfl_layout(weights_of(tiny)))
    found = LocalModels(Settings(device="cpu", components=str(components), models={"text": str(file)})).find(MODES["text"])
    assert "scheduler/scheduler_config.json" in found.reason and found.reason.rstrip(".").count(". ") == 1
