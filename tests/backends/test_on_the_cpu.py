"""``local`` on the CPU, whole: every form in which people have FLUX goes from its file to a PNG with a true recipe, in all three modes."""

import shutil
from contextlib import suppress

import gguf
import pytest
import torch
from diffusers import FluxTransformer2DModel
from gradio_client import Client, handle_file
from PIL import Image

from flux_demo import Studio, read_recipe
from flux_demo.backends.diffusion import local
from flux_demo.backends.local import Local
from flux_demo.backends.machine import Machine
from flux_demo.cli import run
from flux_demo.engine import memory
from flux_demo.engine.sizes import FLOAT32, sizes_of
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from tests.engine.formats import COMFYUI, control_lora, in_bfl_layout, save, save_gguf, weights_of
from tests.engine.tiny import build, split
from tests.starting import free_port

KIND = gguf.GGMLQuantizationType
QUICK = ("--size", "256x256", "--steps", "1", "--seed", "7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.float32, heads=16)


def as_folder(folder, place, mode):
    return split(folder, place / f"my-{mode}", mode), f"my-{mode}"


def as_shards(folder, place, mode):
    whole = split(folder, place / f"my-{mode}", mode)
    model = FluxTransformer2DModel.from_pretrained(whole / "transformer")
    shutil.rmtree(whole / "transformer")
    model.save_pretrained(whole / "transformer", max_shard_size="1MB")
    assert len(list((whole / "transformer").glob("*.safetensors"))) > 1
    return whole, f"my-{mode}"


def as_bfl_file(folder, place, mode):
    return save(place / f"{mode}.safetensors", in_bfl_layout(weights_of(folder, mode)), COMFYUI), f"{mode}.safetensors, F32"


def as_diffusers_file(folder, place, mode):
    return save(place / f"{mode}.safetensors", weights_of(folder, mode)), f"{mode}.safetensors, F32"


def as_gguf(kind):
    def write(folder, place, mode):
        name = f"flux-{mode}-{kind.name}.gguf"
        return save_gguf(place / name, in_bfl_layout(weights_of(folder, mode)), kind), f"{name}, {kind.name}"

    write.__name__ = kind.name
    return write


def as_lora(folder, place, mode):
    if mode == "text":
        return as_bfl_file(folder, place, mode)
    return save(
        place / f"{mode}-lora.safetensors", control_lora(weights_of(folder))
    ), f"text.safetensors, F32 + {mode}-lora.safetensors at 0.85"


FORMS = [as_folder, as_shards, as_bfl_file, as_diffusers_file, *map(as_gguf, (KIND.Q8_0, KIND.Q5_1, KIND.Q4_0, KIND.Q4_K)), as_lora]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_runs_every_mode_from_the_command_line(folder, tmp_path, monkeypatch, photo, capsys, form):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUX_DEMO_DEVICE", "cpu")
    monkeypatch.setenv("FLUX_DEMO_BACKEND", "local")
    monkeypatch.setenv("FLUX_DEMO_COMPONENTS", str(folder))
    monkeypatch.setenv("FLUX_DEMO_DEPTH_ESTIMATOR", "nobody/nothing")
    photo.save("photo.png")
    models = {}
    for mode in MODES:
        place, models[mode] = form(folder, tmp_path, mode)
        monkeypatch.setenv(f"FLUX_DEMO_{mode.upper()}_MODEL", str(place))
    images = set()
    for mode, title in models.items():
        words = [mode, "photo.png", "a red cube", "--as-map"] if mode != "text" else [mode, "a red cube"]
        if mode != "text":
            Image.linear_gradient("L").convert("RGB").save("photo.png")
        assert run([*words, *QUICK, "-o", f"{mode}.png"]) == 0, capsys.readouterr().err
        recipe = read_recipe(f"{mode}.png")
        assert (recipe.model, recipe.backend, recipe.seed, recipe.mode) == (title, "local", 7, mode)
        assert "on the CPU" in recipe.plan and "minutes per image" in recipe.plan and str(tmp_path) not in str(recipe.to_dict())
        images.add(Image.open(f"{mode}.png").tobytes())
    assert len(images) == 3
    capsys.readouterr()
    assert run(["check", "--json"]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path) not in said and all(title in said for title in models.values())


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    """A page with ``local`` on the CPU, its studio, and a client of its API. One for all forms: each puts its models in."""
    from flux_demo.ui import build, launch_options, remove_temporary

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        shared = studio(folder, tmp_path_factory.mktemp("page"))
        page = build(shared)
        page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        yield shared, Client(page.local_url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))
        page.close(verbose=False)
        remove_temporary(page.folder)


@pytest.mark.filterwarnings("ignore:.*(no_silent_downcasting|copy keyword is deprecated)")  # Gradio's own
@pytest.mark.parametrize("form", [as_folder, as_bfl_file, as_gguf(KIND.Q8_0), as_lora], ids=lambda form: form.__name__)
def test_every_kind_of_layout_runs_every_mode_through_the_pages_api(folder, page, tmp_path, form):
    shared, client = page
    placed = {mode: form(folder, tmp_path, mode) for mode in MODES}
    shared.backends[:] = [local(settings(folder, tmp_path, **{mode: place for mode, (place, _) in placed.items()}))]
    shared.refresh()
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "map.png")
    for mode, (_, title) in placed.items():
        given = {"size": "256x256"} if mode == "text" else {"map": handle_file(tmp_path / "map.png")}
        path, recipe = client.predict(prompt="a red cube", **given, seed="7", steps=1, api_name=f"/{mode}")
        assert (recipe["model"], recipe["backend"], recipe["mode"], recipe["seed"]) == (title, "local", mode, 7)
        assert str(tmp_path) not in str(recipe) and read_recipe(path).to_dict() == recipe
        with Image.open(path) as image:
            assert image.size == (256, 256)


def settings(folder, tmp_path, **models):
    return Settings(
        backend="local",
        device="cpu",
        components=str(folder),
        outputs=str(tmp_path / "outputs"),
        models={name: str(place) for name, place in models.items()},
    )


def studio(folder, tmp_path, **models):
    with suppress(FileNotFoundError):
        shutil.rmtree(tmp_path / "outputs")
    return Studio.from_settings(settings(folder, tmp_path, **models))


def reason(studio, mode):
    refusal = studio.backends[0].refusal(MODES[mode])
    return refusal and refusal.reason


def test_files_of_the_wrong_kind_are_refused_and_the_next_run_works(folder, tmp_path):
    text = save(tmp_path / "flux1-canny-dev.safetensors", weights_of(folder))
    base = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(folder)), KIND.Q8_0)
    lora = save(tmp_path / "lora.safetensors", control_lora(weights_of(folder)))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(base.read_bytes()[:-1000])
    answers = {
        "does not follow a map": reason(studio(folder, tmp_path, canny=text), "canny"),
        "is a LoRA, not a model": reason(studio(folder, tmp_path, text=lora), "text"),
        "which is quantised": reason(studio(folder, tmp_path, text=base, canny=lora), "canny"),
        "ends before its last weights": reason(studio(folder, tmp_path, text=broken), "text"),
        "does not exist": reason(studio(folder, tmp_path, text=tmp_path / "nothing.gguf"), "text"),
    }
    for words, said in answers.items():
        assert said and words in said and str(tmp_path) not in said and said.rstrip(".").count(". ") == 1, (words, said)
    assert reason(studio(folder, tmp_path, text=base), "text") is None


def test_without_components_the_way_to_them_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    base = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(folder)), KIND.Q8_0)
    lonely = Studio.from_settings(Settings(backend="local", device="cpu", models={"text": str(base)}))
    refusal = lonely.backends[0].refusal(MODES["text"])
    assert refusal.fetch == "text" and "about 10 GB" in refusal.reason and "FLUX_DEMO_COMPONENTS" in refusal.reason


def test_auto_takes_the_lora_where_the_checkpoint_is_not_here(folder, tmp_path, monkeypatch):
    from flux_demo.backends.local_models import LocalModels

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    text = split(folder, tmp_path / "my-flux", "text")
    models = LocalModels(Settings(device="cpu", models={"text": str(text)}))
    assert models.find(MODES["canny"]).fetch == "canny"
    snapshot = tmp_path / "cache" / "models--black-forest-labs--FLUX.1-Canny-dev-lora" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save(snapshot / "flux1-canny-dev-lora.safetensors", control_lora(weights_of(folder)))
    found = models.find(MODES["canny"])
    assert (
        found.model == "my-flux + black-forest-labs/FLUX.1-Canny-dev-lora at 0.85" and found.lora.name == "flux1-canny-dev-lora.safetensors"
    )


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("room", [1, -1], ids=["for float32", "for bfloat16 only"])
def test_before_loading_no_plan_is_said_but_one_that_may_run(folder, tmp_path, monkeypatch, fast, room):
    """Only torch knows what the processor computes fast, and it is not loaded yet."""
    monkeypatch.setattr("flux_demo.backends.local.computes_bfloat16", lambda: fast)
    given, mode = settings(folder, tmp_path, text=split(folder, tmp_path / "my-flux", "text")), MODES["text"]
    files = Local(given).files(mode, print)
    machine = Machine(None, False, memory.Plan("cpu", 1, on_cpu=True, sizes=sizes_of(files, FLOAT32)).memory_bytes + room)
    weights = Local(given, machine)
    before = weights.plan_sentence(mode, None)
    plan = weights.model_cache(files).plan
    either = "One mode stays in main memory and runs on the CPU in bfloat16 or float32: minutes per image at full size."
    assert before == (either if room > 0 else plan.sentence)
    assert f"in {'bfloat16' if fast or room < 0 else 'float32'}:" in plan.sentence
    assert weights.plan_sentence(mode, None) == plan.sentence  # from now on it is known
