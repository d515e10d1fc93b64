"""Loading: weights arrive unchanged, damaged files give a worded error, and the next load works."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, DepthAnythingForDepthEstimation

from flux_demo.engine.load import load_encoders, load_transformer, load_vae
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.errors import GenerationFailed
from flux_demo.maps.depth import Estimator
from flux_demo.maps.fit import fit
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.request import Size
from flux_demo.settings import ASSETS
from tests.engine.formats import WEIGHTS
from tests.engine.runs import generate_latents

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny FLUX that a test may damage."""
    return shutil.copytree(tiny, tmp_path / "copy")


def read(folder, on_bytes=lambda done, total: None):
    return load_transformer(folder, torch.float32, lambda name: CPU, on_bytes)


def test_weights_arrive_as_diffusers_reads_them(tiny):
    theirs = FluxTransformer2DModel.from_pretrained(tiny / "transformer").state_dict()
    mine = read(tiny / "transformer").state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_shards_are_read_and_their_bytes_counted(copy):
    folder = copy / "transformer"
    whole = read(folder).state_dict()
    model = FluxTransformer2DModel.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*-of-*.safetensors"))) > 2
    seen = []
    sharded = read(folder, lambda done, total: seen.append((done, total))).state_dict()
    assert all(torch.equal(sharded[name], whole[name]) for name in whole)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[0][0] == 0 and seen[-1][0] > 0.9 * seen[-1][1]


def test_nothing_is_left_open_on_the_files_when_the_model_runs_on_the_cpu(copy, new_model_cache):
    """On the CPU weights are copied, so replacing a file while the program runs changes nothing."""
    pipeline = new_model_cache().load(mini_files(MODES["text"], copy))
    before = generate_latents(pipeline, "a cube", 32, 32, 1, 1, 3.5)
    file = copy / "transformer" / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1000:] = bytes(1000)
    with file.open("r+b") as open_file:
        open_file.write(content)
    assert torch.equal(before, generate_latents(pipeline, "a cube", 32, 32, 1, 1, 3.5))


def truncate(folder):
    file = folder / "transformer" / WEIGHTS
    file.write_bytes(file.read_bytes()[:5000])


def remove(folder):
    (folder / "transformer" / WEIGHTS).unlink()


def lose_a_shard(folder):
    index = {"metadata": {}, "weight_map": {"proj_out.bias": "one.safetensors", "proj_out.weight": "two.safetensors"}}
    (folder / "transformer" / WEIGHTS).rename(folder / "transformer" / "one.safetensors")
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def lose_a_weight(folder):
    file = folder / "transformer" / WEIGHTS
    weights = load_file(file)
    weights.pop("proj_out.bias")
    save_file(weights, file)


def change_a_shape(folder):
    file = folder / "transformer" / WEIGHTS
    save_file({name: weight[:1] if name == "proj_out.bias" else weight for name, weight in load_file(file).items()}, file)


def change_the_architecture(folder):
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": 3}))


def garble_the_config(folder):
    (folder / "transformer" / "config.json").write_text("{")


def truncate_t5(folder):
    file = next((folder / "text_encoder_2").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:500])


def truncate_the_vae(folder):
    file = next((folder / "vae").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:500])


def empty_the_tokenizer(folder):
    for file in (folder / "tokenizer_2").iterdir():
        file.write_text("")


def remove_the_scheduler(folder):
    shutil.rmtree(folder / "scheduler")


DAMAGES = [
    truncate,
    remove,
    lose_a_shard,
    lose_a_weight,
    change_a_shape,
    change_the_architecture,
    garble_the_config,
    truncate_t5,
    truncate_the_vae,
    empty_the_tokenizer,
    remove_the_scheduler,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_raise_a_worded_error_and_do_not_stay_loaded(copy, tiny, new_model_cache, damage):
    model_cache = new_model_cache()
    damage(copy)
    with pytest.raises(GenerationFailed) as caught:
        model_cache.load(mini_files(MODES["text"], copy))
    message = str(caught.value)
    assert message.count(". ") == 1 and message.endswith(".") and str(copy) not in message
    good = model_cache.load(mini_files(MODES["text"], tiny))
    assert torch.isfinite(generate_latents(good, "a cube", 32, 32, 1, 1, 3.5)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_end_the_run_with_a_worded_error(copy, new_model_cache, stripes, value):
    file = copy / "transformer" / WEIGHTS
    weights = load_file(file)
    weights["proj_out.bias"].fill_(value)
    save_file(weights, file)
    model_cache = new_model_cache()
    previews = []
    with pytest.raises(GenerationFailed, match="out of range"):
        generate_latents(
            model_cache.load(mini_files(MODES["text"], copy)), "a cube", 32, 32, 1, 2, 3.5, on_step=lambda *step: previews.append(step)
        )
    assert len(previews) == 2
    generate_latents(model_cache.load(mini_files(MODES["canny"], copy)), "a cube", 32, 32, 1, 1, 3.5, stripes((32, 32)))


def test_modes_share_everything_but_the_transformer(tiny, new_model_cache):
    model_cache = new_model_cache()
    text, canny, depth = (model_cache.load(mini_files(MODES[mode], tiny)) for mode in ("text", "canny", "depth"))
    assert text.shared is canny.shared is depth.shared
    assert len({id(pipeline.transformer) for pipeline in (text, canny, depth)}) == 3
    assert model_cache.load(mini_files(MODES["text"], tiny)) is text
    inputs = [pipeline.transformer.config.in_channels for pipeline in (canny, text)]
    assert inputs[0] == 2 * inputs[1]


def test_a_plan_for_one_mode_frees_the_one_before(tiny, new_model_cache):
    model_cache = new_model_cache(plan=replace(CPU_PLAN, modes=1))
    text, canny = mini_files(MODES["text"], tiny), mini_files(MODES["canny"], tiny)
    shared = model_cache.load(text).shared
    assert model_cache.load(canny).shared is shared
    assert model_cache.has(canny) and not model_cache.has(text)


def test_a_model_that_cannot_be_built_leaves_the_default_dtype(copy):
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "down_block_types": ["NoSuchBlock"]}), "utf-8")
    with pytest.raises(GenerationFailed, match="The VAE cannot be read"):
        load_vae(copy, torch.bfloat16, CPU)
    assert torch.get_default_dtype() == torch.float32


def test_loading_changes_nothing_for_other_threads(tiny):
    """Loading sets no global default: other threads may be drawing maps meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(read, tiny / "transformer")
        assert all(torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device == CPU for _ in range(100))
        loading.result()


def test_two_models_that_are_built_at_once_leave_the_default_dtype(tiny, monkeypatch):
    """A photo's depth model is built within the building of the text encoders, as far as it is let in."""
    within, inside, after = threading.Event(), threading.Event(), threading.Event()
    build_clip, build_depth = CLIPTextModel.__init__, DepthAnythingForDepthEstimation.__init__

    def build_first(*words, **options):
        within.set()
        inside.wait(1)
        build_clip(*words, **options)

    def build_second(*words, **options):
        inside.set()
        after.wait(20)
        build_depth(*words, **options)

    monkeypatch.setattr(CLIPTextModel, "__init__", build_first)
    monkeypatch.setattr(DepthAnythingForDepthEstimation, "__init__", build_second)
    with ThreadPoolExecutor(2) as pool:
        encoders = pool.submit(load_encoders, tiny, 64, torch.bfloat16, CPU)
        encoders.add_done_callback(lambda _: after.set())
        assert within.wait(60)
        pool.submit(
            Estimator(ASSETS / "mini" / "depth_estimator", "mini").estimate, fit(Image.new("RGB", (64, 64)), Size(64, 64), "crop")
        ).result()
        assert encoders.result().t5.dtype == torch.bfloat16
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # for the tests that follow, if this one fails
    assert default == torch.float32
