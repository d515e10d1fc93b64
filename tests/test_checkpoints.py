"""What a file is, told from its tensors: every file that cannot be used is refused by a clause of its own, before anything is loaded."""

import shutil
import struct
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from flux_demo.checkpoints import NotUsable, inspect, why_not
from flux_demo.engine.sizes import sizes_of
from flux_demo.model_files import MINI, mini_files
from flux_demo.modes import MODES
from flux_demo.tensor_files import UnreadableFile, read_header
from tests.engine.formats import control_lora, in_bfl_layout, save, save_gguf, weights_of
from tests.engine.tiny import build


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


def changed(weights, **new):
    return {**weights, **new}


def without(weights, part):
    return {name: weight for name, weight in weights.items() if part not in name}


def one(name, *shape):
    return lambda text, canny: {name: torch.zeros(*(shape or (2, 2)))}


FILES = {
    "scaled fp8": (lambda text, canny: changed(text, **{"double_blocks.0.img_mod.lin.scale_weight": torch.ones(1)}), "scale_weight"),
    "scaled fp8, with a prefix": (
        lambda text, canny: {f"model.diffusion_model.{name}": value for name, value in changed(text, scaled_fp8=torch.ones(1)).items()},
        "scale_weight",
    ),
    "schnell": (lambda text, canny: without(text, "guidance"), "no guidance"),
    "flux 2": (one("double_stream_modulation_img.lin.weight"), "FLUX.2"),
    "stable diffusion": (one("model.diffusion_model.input_blocks.0.0.weight"), "Stable Diffusion model"),
    "stable diffusion 3": (one("joint_blocks.0.x_block.attn.qkv.weight"), "Stable Diffusion 3"),
    "vae": (one("decoder.up.0.block.0.conv1.weight"), "VAE"),
    "t5": (one("encoder.block.0.layer.0.SelfAttention.q.weight"), "T5"),
    "clip": (one("text_model.encoder.layers.0.mlp.fc1.weight"), "CLIP"),
    "another LoRA": (one("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"), "LoRA"),
    "anything else": (one("weight"), "not FLUX.1's transformer"),
    "a weight less": (lambda text, canny: without(text, "double_blocks.1.txt_mlp.2.bias"), "is missing"),
    "integers": (lambda text, canny: changed(text, **{"img_in.bias": torch.zeros(32, dtype=torch.int8)}), "stored as I8"),
    "fill": (lambda text, canny: changed(text, **{"img_in.weight": torch.zeros(32, 96)}), "FLUX.1-Fill"),
    "other channels": (lambda text, canny: changed(text, **{"img_in.weight": torch.zeros(32, 48)}), "48 input channels"),
    "bitsandbytes": (lambda text, canny: {"a.weight.quant_state.bitsandbytes__nf4": torch.zeros(2)}, "bitsandbytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_are_refused_by_what_they_are(tiny, tmp_path, name):
    make, words = FILES[name]
    file = save(tmp_path / "file.safetensors", make(in_bfl_layout(weights_of(tiny)), in_bfl_layout(weights_of(tiny, "canny"))))
    with pytest.raises(NotUsable, match=words):
        inspect(file)
    assert words in why_not(file, follows_map=False) and str(tmp_path) not in why_not(file, follows_map=False)


@pytest.mark.parametrize(
    "odd",
    [
        {"transformer_blocks.foo.attn.to_q.weight": torch.zeros(2, 2)},
        {"transformer_blocks.0.attn.norm_q.weight": torch.zeros(0)},
    ],
    ids=["a block without a number", "an empty norm"],
)
def test_names_and_shapes_that_no_model_has_are_refused_in_words(tiny, tmp_path, odd):
    file = save(tmp_path / "flux.safetensors", weights_of(tiny) | odd)
    assert "it is damaged" in why_not(file, follows_map=False)


def test_a_lora_with_a_name_that_no_layer_has_is_refused_in_words(tmp_path):
    halves = [f"{layer}.lora_{half}.weight" for layer in ("x_embedder", "transformer_blocks.0.attn.to_q") for half in "AB"]
    file = save(tmp_path / "flux.safetensors", dict.fromkeys((*halves, "scale"), torch.zeros(2, 2)))
    assert "it is damaged" in why_not(file, follows_map=True)


def test_the_mode_and_the_channels_must_agree(tiny, tmp_path):
    text = save(tmp_path / "canny.safetensors", in_bfl_layout(weights_of(tiny)))  # its name does not count
    canny = save_gguf(tmp_path / "dev.gguf", in_bfl_layout(weights_of(tiny, "canny")), gguf.GGMLQuantizationType.Q8_0)
    lora = save(tmp_path / "flux.safetensors", control_lora(weights_of(tiny)))
    assert "does not follow a map" in why_not(text, follows_map=True) and why_not(text, follows_map=False) is None
    assert "needs a map" in why_not(canny, follows_map=False) and why_not(canny, follows_map=True) is None
    assert "LoRA, not a model" in why_not(lora, follows_map=False) and why_not(lora, follows_map=True) is None


def test_titles_name_the_file_and_its_type_and_no_path(tiny, tmp_path):
    file = save_gguf(tmp_path / "flux1-dev-Q8_0.gguf", in_bfl_layout(weights_of(tiny)), gguf.GGMLQuantizationType.Q8_0)
    assert inspect(file).title == "flux1-dev-Q8_0.gguf, Q8_0"
    half = {name: weight.to(torch.bfloat16) for name, weight in weights_of(tiny).items()}
    assert inspect(save(tmp_path / "dev.safetensors", half)).title == "dev.safetensors, BF16"


@pytest.mark.parametrize("suffix", ["gguf", "safetensors"])
@pytest.mark.parametrize("part", [0, 3, 11, 23, 40, 0.2, 0.5, 0.999], ids=str)
def test_a_file_that_ends_early_is_refused(tiny, tmp_path, suffix, part):
    weights = in_bfl_layout(weights_of(tiny))
    file = tmp_path / f"flux.{suffix}"
    save(file, weights) if suffix == "safetensors" else save_gguf(file, weights, gguf.GGMLQuantizationType.Q8_0)
    whole = file.read_bytes()
    file.write_bytes(whole[: part if isinstance(part, int) else int(len(whole) * part)])
    with pytest.raises(NotUsable, match="incomplete|damaged|not a file of weights"):
        inspect(file)


@pytest.mark.parametrize(
    "content",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 2**62),
        b"GGUF" + struct.pack("<IQQ", 1, 1, 1),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 40) + b'{"a":{"dtype":"F32","shape":[9],"data_of' + b"x" * 9,
        b"<!DOCTYPE html><html><body>Access to model is restricted</body></html>" * 9,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64,
    ],
    ids=["tensors", "string", "version", "length", "list", "empty", "json", "html", "lfs pointer"],
)
def test_no_bytes_are_too_odd(tmp_path, content):
    file = tmp_path / "flux.gguf"
    file.write_bytes(content)
    with pytest.raises(UnreadableFile):
        read_header(file)


def test_a_header_is_read_again_after_the_file_changed(tiny, tmp_path):
    file = save(tmp_path / "flux.safetensors", in_bfl_layout(weights_of(tiny)))
    assert not inspect(file).follows_map
    save(file, in_bfl_layout(weights_of(tiny, "canny")))
    assert inspect(file).follows_map


def reads_of(monkeypatch, folder):
    """The files below the folder, once for each time that one is opened."""
    opened, original = [], Path.open

    def watched(path, *args, **kwargs):
        if path.is_relative_to(folder):
            opened.append(path)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watched)
    return opened


def test_a_file_is_read_once_until_it_changes_whatever_it_is(tiny, tmp_path, monkeypatch):
    text, canny = in_bfl_layout(weights_of(tiny)), in_bfl_layout(weights_of(tiny, "canny"))
    opened = reads_of(monkeypatch, tmp_path)
    file = tmp_path / "file.safetensors"
    seen = []
    for reads, weights in enumerate((text, canny, FILES["fill"][0](text, canny), text), 1):
        save(file, weights)
        seen.append([(why_not(file, follows_map=False), why_not(file, follows_map=True)) for _ in range(3)])
        assert opened == [file] * reads
    file.write_bytes(file.read_bytes()[:-100])
    opened.clear()
    seen.append([(why_not(file, follows_map=False), why_not(file, follows_map=True)) for _ in range(3)])
    assert len(opened) == 1
    assert all(answers == answers[:1] * 3 for answers in seen)
    usable = [[why is None for why in answers[0]] for answers in seen]
    assert usable == [[True, False], [False, True], [False, False], [True, False], [False, False]]
    assert "Fill" in seen[2][0][0] and "incomplete" in seen[4][0][0]


def test_a_file_that_comes_back_is_seen(tiny, tmp_path):
    file = save(tmp_path / "file.safetensors", in_bfl_layout(weights_of(tiny)))
    inspect(file)
    moved = file.rename(tmp_path / "moved.safetensors")
    with pytest.raises(NotUsable, match="cannot be opened"):
        inspect(file)
    moved.rename(file)
    inspect(file)


def test_the_sizes_of_a_model_are_added_up_once_until_one_of_its_files_changes(tmp_path, monkeypatch):
    shutil.copytree(MINI, tmp_path / "mini")
    files = mini_files(MODES["text"], tmp_path / "mini")
    opened = reads_of(monkeypatch, tmp_path)
    before = [sizes_of(files) for _ in range(3)]
    assert before[0] is before[1] is before[2]
    assert len(opened) == len(set(opened)) == 4  # the transformer, both text encoders and the VAE
    weights = load_file(file := files.shared / "text_encoder_2" / "model.safetensors")
    save_file(weights | {"more": torch.zeros(1024, 1024)}, file)
    assert sizes_of(files).t5 > before[0].t5
