"""Every form in which people have FLUX gives the weights that diffusers reads, and the images that they give."""

import shutil
from dataclasses import replace
from functools import cache

import gguf
import psutil
import pytest
import torch
from diffusers import FluxTransformer2DModel

from flux_demo.engine.load import load_transformer
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.tensor_files import GGUF_TYPES, read_header
from tests.engine.formats import COMFYUI, K_QUANTS, dequantised, in_bfl_layout, save, save_gguf, weights_of
from tests.engine.runs import generate_latents
from tests.engine.tiny import build

CPU = torch.device("cpu")
KIND = gguf.GGMLQuantizationType
# Relative L2 of latents against those of the unquantised file.
LIMITS = {KIND.Q8_0: 0.01, KIND.Q5_1: 0.03, KIND.Q5_0: 0.03, KIND.Q4_1: 0.05, KIND.Q4_0: 0.05}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A tiny FLUX whose rows are whole blocks of a K-quant."""
    return build(tmp_path_factory.mktemp("wide"), torch.float32, heads=16)


def read(place, components, dtype=torch.float32, **given):
    return load_transformer(place, dtype, lambda name: CPU, components=components, **given)


@cache
def model_cache(folder, dtype, plan):
    """One for all files beside the same text encoders and VAE, which it loads once."""
    return ModelCache(plan, CPU, dtype, 64)


def latents(folder, place, mode="text", dtype=torch.bfloat16, plan=CPU_PLAN, stripes=None, lora=None):
    files = replace(mini_files(MODES["text"], folder), transformer=place, lora=lora)
    pipeline = model_cache(folder, dtype, plan).load(files)
    return generate_latents(pipeline, "a red cube", 64, 48, 1, 2, 3.5, stripes and stripes((64, 48)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefix", ["", COMFYUI])
@pytest.mark.parametrize("layout", [in_bfl_layout, dict], ids=["bfl", "diffusers"])
def test_single_files_give_the_folders_weights(tiny, tmp_path, layout, prefix, mode):
    weights = weights_of(tiny, mode)
    file = save(tmp_path / "flux.safetensors", layout(weights), prefix)
    model = read(file, tiny)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    theirs = FluxTransformer2DModel.load_config(tiny / ("transformer" if mode == "text" else f"transformer_{mode}"))
    theirs["out_channels"] = theirs["out_channels"] or theirs["in_channels"]  # as diffusers reads it
    mine = dict(model.config)
    assert {name: mine[name] for name in mine if name in theirs and not name.startswith("_")} == {
        name: tuple(value) if isinstance(value, list) and isinstance(mine[name], tuple) else value
        for name, value in theirs.items()
        if name in mine and not name.startswith("_")
    }


def test_an_all_in_one_file_gives_up_its_transformer(tiny, tmp_path):
    weights = weights_of(tiny)
    with_others = {COMFYUI + name: weight for name, weight in in_bfl_layout(weights).items()}
    with_others |= {"vae.decoder.conv_in.weight": torch.zeros(3, 3), "text_encoders.t5xxl.shared.weight": torch.zeros(4, 4)}
    model = read(save(tmp_path / "all.safetensors", with_others), tiny)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("kind", ["F16", "BF16", "F8_E4M3"])
def test_other_types_of_floats_are_widened(tiny, tmp_path, kind):
    dtypes = {"F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}
    weights = {name: weight.to(dtypes[kind]) for name, weight in weights_of(tiny).items()}
    model = read(save(tmp_path / "flux.safetensors", weights), tiny, torch.bfloat16)
    assert all(torch.equal(weight, weights[name].to(torch.bfloat16)) for name, weight in model.state_dict().items())


def test_the_key_map_is_that_of_diffusers_at_full_width(tmp_path):
    """Their converter has FLUX's width built in; of each matrix one column is enough to see which rows go where."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    from flux_demo.engine.weights import _read
    from flux_demo.layouts import to_diffusers

    width, rows = 3072, {}
    with torch.device("meta"):
        real = FluxTransformer2DModel(num_layers=2, num_single_layers=2, guidance_embeds=True)
    for number, (name, weight) in enumerate(real.state_dict().items()):
        rows[name] = torch.arange(weight.shape[0], dtype=torch.float32) + number / 128
    bfl = in_bfl_layout(
        {
            name: values if name.endswith("bias") or "norm_" in name.split(".")[-2] and "norm_out" not in name else values[:, None]
            for name, values in rows.items()
        }
    )
    file = read_header(save(tmp_path / "flux.safetensors", bfl))
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(bfl))
    mine = {}
    with file.path.open("rb", buffering=0) as opened:
        for stored, tensor in file.tensors.items():
            mine |= {name: _read(opened, tensor, part) for name, part in to_diffusers(stored, stored, tensor.shape, width)}
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("kind", LIMITS, ids=lambda kind: kind.name)
def test_a_gguf_file_gives_nearly_the_same_latents(wide, tmp_path, kind):
    weights = {name: weight * 0.2 if weight.ndim == 2 else weight for name, weight in weights_of(wide).items()}  # as tame as trained ones
    whole = latents(wide, save(tmp_path / "flux.safetensors", weights))
    quantised = latents(wide, save_gguf(tmp_path / f"flux-{kind.name}.gguf", in_bfl_layout(weights), kind))
    deviation = ((quantised - whole).float().norm() / whole.float().norm()).item()
    assert 0 < deviation < LIMITS[kind]


@pytest.mark.parametrize("kind", [*LIMITS, *K_QUANTS], ids=lambda kind: kind.name)
def test_a_gguf_file_is_unpacked_as_gguf_does(wide, tmp_path, kind):
    """The same latents as from a file of the values that gguf itself unpacks, up to the rounding of half precision scales."""
    file = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(wide)), kind)
    assert kind.name in {tensor.kind for tensor in read_header(file).tensors.values()}
    unpacked = latents(wide, save(tmp_path / "unpacked.safetensors", dequantised(file)), dtype=torch.float32)
    mine = latents(wide, file, dtype=torch.float32)
    assert ((mine - unpacked).norm() / unpacked.norm()).item() < 5e-3


@pytest.mark.parametrize("mode", MODES)
def test_a_gguf_of_every_mode_runs_streamed_as_it_runs_resident(wide, tmp_path, mode, stripes):
    file = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(wide, mode)), KIND.Q8_0)
    control = stripes if MODES[mode].control else None
    streamed = replace(CPU_PLAN, stream_body=True, stream_t5=True)
    assert torch.equal(latents(wide, file, stripes=control), latents(wide, file, stripes=control, plan=streamed))


def test_the_types_are_those_that_diffusers_unpacks():
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES

    assert {name for name, _, _ in GGUF_TYPES.values()} == {kind.name for kind in SUPPORTED_GGUF_QUANT_TYPES} | {"F32", "F16"}
    assert all(gguf.GGML_QUANT_SIZES[KIND(number)] == (values, size) for number, (_, values, size) in GGUF_TYPES.items())


def test_mapped_weights_are_the_same_and_hold_one_descriptor(tiny, tmp_path):
    file = save(tmp_path / "flux.safetensors", in_bfl_layout(weights_of(tiny)))
    held = descriptors()
    mapped = read(file, tiny, mapped=True).state_dict()
    assert len(mapped) > 50 and descriptors() <= held + 5  # other threads may open a few
    copied = read(file, tiny).state_dict()
    assert all(torch.equal(mapped[name], copied[name]) for name in copied)


def descriptors():
    """How many this process holds; 0 on Windows, which has no small limit."""
    process = psutil.Process()
    return process.num_fds() if hasattr(process, "num_fds") else 0


def test_a_file_that_is_replaced_by_a_shorter_one_while_it_is_read_is_said(tiny, tmp_path, monkeypatch):
    from flux_demo.engine import load
    from flux_demo.errors import GenerationFailed

    file = save(tmp_path / "flux.safetensors", weights_of(tiny))
    found = load.find_source(file, tiny)
    shutil.copy(file, tmp_path / "whole")
    file.write_bytes(file.read_bytes()[:20_000])
    monkeypatch.setattr(load, "find_source", lambda place, components: found)
    with pytest.raises(GenerationFailed, match="it ends before its last weights"):
        read(file, tiny)
