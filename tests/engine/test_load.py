"""Files that cannot be used: each is a worded error, and the next load works."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from flux_demo.engine.load import WEIGHTS, load_transformer
from flux_demo.errors import GenerationFailed
from flux_demo.model_files import mini_files
from tests.engine.asking import draw_latents

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


def test_shards_are_read_and_counted_to_the_last_byte(copy):
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


def test_nothing_is_left_open_on_the_files_when_the_model_runs_on_the_cpu(copy, tiny_residents):
    """On the CPU weights are copied: a file that is replaced while the program runs changes nothing."""
    flux = tiny_residents().load(mini_files("text", copy))
    before = draw_latents(flux, "a cube", 32, 32, 1, 1, 3.5)
    file = copy / "transformer" / WEIGHTS
    content = bytearray(file.read_bytes())
    content[-1000:] = bytes(1000)
    with file.open("r+b") as open_file:
        open_file.write(content)
    assert torch.equal(before, draw_latents(flux, "a cube", 32, 32, 1, 1, 3.5))


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
def test_damaged_files_are_said_in_words_and_do_not_stay(copy, tiny, tiny_residents, damage):
    model_cache = tiny_residents()
    damage(copy)
    with pytest.raises(GenerationFailed) as caught:
        model_cache.load(mini_files("text", copy))
    words = str(caught.value)
    assert words.count(". ") == 1 and words.endswith(".") and str(copy) not in words
    good = model_cache.load(mini_files("text", tiny))
    assert torch.isfinite(draw_latents(good, "a cube", 32, 32, 1, 1, 3.5)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_end_the_run_in_words(copy, tiny_residents, value):
    file = copy / "transformer" / WEIGHTS
    weights = load_file(file)
    weights["proj_out.bias"].fill_(value)
    save_file(weights, file)
    model_cache = tiny_residents()
    previews = []
    with pytest.raises(GenerationFailed, match="out of range"):
        draw_latents(model_cache.load(mini_files("text", copy)), "a cube", 32, 32, 1, 2, 3.5, on_step=lambda *step: previews.append(step))
    assert len(previews) == 2
    draw_latents(model_cache.load(mini_files("canny", copy)), "a cube", 32, 32, 1, 1, 3.5, None or stripe())


def stripe():
    from PIL import Image

    return Image.linear_gradient("L").resize((32, 32)).convert("RGB")


def test_modes_share_everything_but_the_transformer(tiny, tiny_residents):
    model_cache = tiny_residents()
    text, canny, depth = (model_cache.load(mini_files(mode, tiny)) for mode in ("text", "canny", "depth"))
    assert text.shared is canny.shared is depth.shared
    assert len({id(flux.transformer) for flux in (text, canny, depth)}) == 3
    assert model_cache.load(mini_files("text", tiny)) is text
    assert canny.follows_map and not text.follows_map


def test_a_plan_for_one_mode_lets_the_last_one_go(tiny, tiny_residents):
    from dataclasses import replace

    from flux_demo.engine.memory import CPU_PLAN

    model_cache = tiny_residents(plan=replace(CPU_PLAN, modes=1))
    text, canny = mini_files("text", tiny), mini_files("canny", tiny)
    shared = model_cache.load(text).shared
    assert model_cache.load(canny).shared is shared
    assert model_cache.has(canny) and not model_cache.has(text)


def test_loading_in_parallel_threads_is_not_seen(tiny):
    """Loading sets nothing that other threads would notice: they may draw maps meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(read, tiny / "transformer")
        assert all(torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device == CPU for _ in range(100))
        loading.result()
