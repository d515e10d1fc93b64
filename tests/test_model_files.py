"""Which files a mode needs, which are fetched, and which are shared with the text mode."""

import json
import shutil

import pytest

from flux_demo import model_files
from flux_demo.backends.local_models import OWN_GB, LocalModels
from flux_demo.engine.sizes import FLOAT32, sizes_of
from flux_demo.errors import InvalidRequest
from flux_demo.model_files import OWN, SHARED, WHOLE, ModelFiles, files_for, listed_as_same, local_files
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from stand_ins.hub import COMMIT

TEXT, CANNY = "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-Canny-dev"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def write(name, here, hashes):
        """Put a model's files into the cache, with a listing of all of them by hash."""
        home = tmp_path / f"models--{name.replace('/', '--')}"
        for file in here:
            (home / "snapshots" / COMMIT / file).parent.mkdir(parents=True, exist_ok=True)
            (home / "snapshots" / COMMIT / file).write_text("x")
        (home / "trees").mkdir()
        listing = {file: {"size": 1, "blob_id": blob} for file, blob in hashes.items()}
        (home / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listing}))
        return home / "snapshots" / COMMIT

    return write


SHARED_FILES = {f"{folder}/file": "1" for folder in model_files.SHARED_FOLDERS}
OWN_FILES = {"model_index.json": "2", "scheduler/scheduler_config.json": "2", "transformer/config.json": "2"}


def test_a_mode_is_fetched_whole_where_text_is_not_here():
    assert files_for("text", Settings()) == (TEXT, WHOLE)
    assert files_for("canny", Settings()) == (CANNY, WHOLE)
    assert files_for("canny", Settings(models={"canny": "someone/else"}))[0] == "someone/else"


def test_the_single_file_copies_are_never_fetched():
    from fnmatch import fnmatch

    for name in ("flux1-dev.safetensors", "ae.safetensors", "flux1-canny-dev.safetensors", "README.md", "dev_grid.jpg"):
        assert not any(fnmatch(name, pattern) for pattern in WHOLE)


def test_the_estimators_files_are_named_one_by_one():
    name, patterns = files_for("estimator", Settings())
    assert name == "LiheYoung/depth-anything-large-hf"
    assert {"config.json", "preprocessor_config.json", "model.safetensors"} == set(patterns)  # not the .bin copy beside them


def test_a_wrong_name_is_answered_with_what_can_be_fetched():
    with pytest.raises(InvalidRequest, match="text, canny, depth, estimator or filter"):
        files_for("everything", Settings())


def test_only_the_transformer_is_fetched_where_text_is_here_and_the_hub_says_that_the_rest_is_the_same(cache, monkeypatch):
    cache(TEXT, [*SHARED_FILES, *OWN_FILES], {**SHARED_FILES, **OWN_FILES})
    asked, answers = [], [True, False]
    monkeypatch.setattr(model_files, "same_files", lambda *given: asked.append(given) or answers.pop(0))
    for patterns in (OWN, WHOLE):
        assert files_for("canny", Settings(hf_token="hf_x")) == (CANNY, patterns)
    assert asked == [(CANNY, TEXT, SHARED, "hf_x")] * 2


def test_where_text_is_a_single_file_the_encoders_beside_it_are_the_ones_that_are_shared(cache, monkeypatch):
    settings = Settings(models={"text": "flux1-dev-Q8_0.gguf"})
    monkeypatch.setattr(model_files, "same_files", lambda mine, theirs, *rest: (mine, theirs) == (CANNY, TEXT))
    assert files_for("canny", settings) == (CANNY, WHOLE)
    text = cache(TEXT, [*SHARED_FILES, "scheduler/scheduler_config.json"], {**SHARED_FILES, **OWN_FILES})
    assert files_for("canny", settings) == (CANNY, OWN)
    assert LocalModels(settings).find(MODES["canny"]).reason.startswith(f"{CANNY} is not on this machine (about {OWN_GB} GB")
    canny = cache(CANNY, OWN_FILES, {**SHARED_FILES, **OWN_FILES})
    files = local_files("canny", settings)
    assert (files.shared, files.transformer) == (text, canny / "transformer")


def test_where_text_is_a_single_file_a_folder_of_encoders_is_shared_if_its_bytes_are_the_same(tmp_path):
    whole = ModelFiles("a model", mini_copy(tmp_path).shared, tmp_path / "transformer", tmp_path / "scheduler")
    settings = Settings(models={"text": "flux1-dev-Q8_0.gguf"}, components=str(model_files.MINI))
    assert model_files.with_shared_text_files(whole, settings).shared == model_files.MINI
    assert files_for("canny", settings) == (CANNY, WHOLE), "the Hub cannot compare a folder"


def test_a_mode_without_its_own_encoders_takes_those_of_text_if_the_listings_agree(cache):
    text = cache(TEXT, [*SHARED_FILES, *OWN_FILES], {**SHARED_FILES, **OWN_FILES})
    canny = cache(CANNY, OWN_FILES, {**SHARED_FILES, **OWN_FILES})
    assert listed_as_same(CANNY, TEXT) is True
    files = local_files("canny", Settings())
    assert (files.model, files.shared, files.transformer) == (CANNY, text, canny / "transformer")


def test_it_does_not_take_them_if_the_listings_differ(cache):
    cache(TEXT, [*SHARED_FILES, *OWN_FILES], {**SHARED_FILES, **OWN_FILES})
    cache(CANNY, OWN_FILES, {**SHARED_FILES, **OWN_FILES, "vae/file": "another"})
    assert listed_as_same(CANNY, TEXT) is False
    assert local_files("canny", Settings()) is None


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
def test_the_shipped_mini_is_whole(mode):
    files = model_files.mini_files(mode)
    assert model_files.missing_files(files) == []
    assert model_files.wrong_kind(files, follows_map=mode.control is not None) is None


def mini_copy(tmp_path):
    shutil.copytree(model_files.MINI, tmp_path / "mini")
    return model_files.mini_files(MODES["text"], tmp_path / "mini")


def test_another_variant_beside_the_weights_is_neither_read_nor_counted(tmp_path):
    files = mini_copy(tmp_path)
    sizes = sizes_of(files)
    for folder, name in ((files.transformer, "diffusion_pytorch_model"), (files.shared / "text_encoder_2", "model")):
        shutil.copy(folder / f"{name}.safetensors", folder / f"{name}.fp16.safetensors")
    assert sizes_of(files) == sizes and model_files.missing_files(files) == []
    (files.transformer / "diffusion_pytorch_model.safetensors").unlink()
    assert model_files.missing_files(files) == ["transformer/diffusion_pytorch_model.safetensors"]


def test_weights_stay_in_their_files_only_where_hardly_any_must_be_converted(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    files = mini_copy(tmp_path)
    file = files.transformer / "diffusion_pytorch_model.safetensors"
    weights = {name: weight.float() for name, weight in load_file(file).items()}
    save_file(weights, file)
    assert not sizes_of(files).in_files and sizes_of(files, FLOAT32).in_files
    save_file({name: weight if "norm_q" in name else weight.to(torch.bfloat16) for name, weight in weights.items()}, file)
    assert sizes_of(files).in_files and not sizes_of(files, FLOAT32).in_files


@pytest.mark.parametrize(("folder", "what"), [("transformer", "its transformer"), ("text_encoder_2", "its text encoder")])
def test_a_folder_that_a_library_quantised_is_named(tmp_path, folder, what):
    files = mini_copy(tmp_path)
    config = json.loads((files.shared / folder / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"_load_in_4bit": True, "quant_method": "bitsandbytes"}
    (files.shared / folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert f"{what} was quantised by bitsandbytes" in model_files.wrong_kind(files, follows_map=False)


@pytest.mark.parametrize("folder", model_files.SHARED_FOLDERS)
def test_an_empty_folder_is_lacking(tmp_path, folder):
    files = mini_copy(tmp_path)
    shutil.rmtree(files.shared / folder)
    (files.shared / folder).mkdir()
    assert folder in model_files.missing_files(files)
