"""Control LoRAs: merged while loading, they give what diffusers' own way of merging gives."""

import pytest
import torch
from diffusers import FluxControlPipeline
from peft import LoraConfig
from safetensors.torch import save_file

from flux_demo.checkpoints import NotUsable, inspect
from flux_demo.engine.load import load_transformer
from flux_demo.engine.weights import find_source, read_lora
from flux_demo.errors import GenerationFailed
from flux_demo.model_files import LORA_SCALE
from tests.engine.formats import control_lora, in_bfl_layout, save, save_gguf, weights_of

CPU = torch.device("cpu")


@pytest.fixture
def lora(tiny, tmp_path):
    return save(tmp_path / "lora.safetensors", control_lora(weights_of(tiny)), "transformer.")


def read(place, tiny, lora=None, dtype=torch.float32):
    return load_transformer(place, dtype, lambda name: CPU, lora=lora, components=tiny)


def assert_merged_as_diffusers_merges_it(tiny, lora):
    stock = FluxControlPipeline.from_pretrained(tiny)
    stock.load_lora_weights(lora)
    stock.fuse_lora(lora_scale=LORA_SCALE)
    theirs = {name.replace(".base_layer", ""): weight for name, weight in stock.transformer.state_dict().items() if ".lora_" not in name}
    mine = read(tiny / "transformer", tiny, lora)
    assert mine.config.in_channels == stock.transformer.config.in_channels == 32
    assert mine.state_dict().keys() == theirs.keys()
    for name, weight in mine.state_dict().items():
        assert torch.allclose(weight, theirs[name], atol=1e-6), name


def test_it_is_merged_as_diffusers_merges_it(tiny, lora):
    assert_merged_as_diffusers_merges_it(tiny, lora)


@pytest.mark.parametrize(
    "given",
    [
        {"lora_alpha": 8},
        {"lora_alpha": 2, "alpha_pattern": {"attn.to_q": 16, "^proj_out": 1}},
        {"lora_alpha": 6, "rank_pattern": {"attn.to_k": 2}},
        {"lora_alpha": 4, "use_rslora": True},
    ],
    ids=["alpha", "alphas", "ranks", "root of the rank"],
)
def test_its_alpha_counts_as_diffusers_counts_it(tiny, tmp_path, given):
    factors = control_lora(weights_of(tiny))
    for name in [name for name in factors if "rank_pattern" in given and ".attn.to_k.lora_" in name]:
        factors[name] = factors[name][:2] if "lora_A" in name else factors[name][:, :2].contiguous() if "weight" in name else factors[name]
    layers = sorted({name.partition(".lora_")[0] for name in factors if ".lora_" in name})
    config = LoraConfig(r=4, lora_bias=True, target_modules=layers, **given).to_dict()
    FluxControlPipeline.save_lora_weights(tmp_path, factors, transformer_lora_adapter_metadata=config)
    assert_merged_as_diffusers_merges_it(tiny, tmp_path / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize(
    "metadata", ["{", "[]", "{}", '{"transformer.lora_alpha": "x"}', '{"transformer.lora_alpha": 1, "transformer.alpha_pattern": {"(": 1}}']
)
def test_metadata_that_cannot_be_read_is_refused(tiny, tmp_path, metadata):
    file = tmp_path / "lora.safetensors"
    save_file(control_lora(weights_of(tiny)), file, metadata={"lora_adapter_metadata": metadata})
    with pytest.raises(GenerationFailed, match="its LoRA's metadata cannot be read"):
        read(tiny / "transformer", tiny, file)


def test_alphas_among_the_weights_are_refused(tiny, tmp_path):
    """As other trainers write them: the strength that they mean is not guessed."""
    bfl = {name: weight for name, weight in in_bfl_layout(weights_of(tiny)).items() if name.startswith("img_in")}
    factors = {"img_in.lora_A.weight": torch.ones(4, 32), "img_in.lora_B.weight": torch.ones(*bfl["img_in.bias"].shape, 4)}
    assert inspect(save(tmp_path / "lora.safetensors", factors)).is_lora
    with pytest.raises(NotUsable, match="it is a LoRA"):
        inspect(save(tmp_path / "alpha.safetensors", factors | {"img_in.alpha": torch.tensor(8.0)}))


def test_every_detail_of_a_merge(tiny, lora):
    base, factors = weights_of(tiny), control_lora(weights_of(tiny))
    merged = read(tiny / "transformer", tiny, lora).state_dict()
    assert merged["x_embedder.weight"].shape == (32, 32)  # the map's channels beside the image's
    for name in ("x_embedder", "transformer_blocks.0.norm1.linear", "single_transformer_blocks.1.proj_mlp", "norm_out.linear", "proj_out"):
        change = LORA_SCALE * factors[f"{name}.lora_B.weight"] @ factors[f"{name}.lora_A.weight"]
        whole = base[f"{name}.weight"]
        padded = torch.cat([whole, torch.zeros(whole.shape[0], change.shape[1] - whole.shape[1])], dim=1)
        assert torch.allclose(merged[f"{name}.weight"], padded + change, atol=1e-6)
        assert torch.allclose(merged[f"{name}.bias"], base[f"{name}.bias"] + LORA_SCALE * factors[f"{name}.lora_B.bias"], atol=1e-6)
    norm = "transformer_blocks.1.attn.norm_added_q.weight"
    assert torch.equal(merged[norm], factors[norm]) and not torch.equal(merged[norm], base[norm])  # replaced, not scaled


def test_bfls_layout_gives_the_same_as_diffusers(tiny, tmp_path, lora):
    """In BFL's layout the second factors are joined as the weights are, and the first one is common to all that share a matrix."""
    factors = control_lora(weights_of(tiny))
    groups = [("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")]
    for name in list(factors):
        for first, *others in groups:
            if f".{first}.lora_A" in name:
                factors.update({name.replace(first, other): factors[name] for other in others if name.replace(first, other) in factors})
    bfl = {}
    norms = {name: factor for name, factor in factors.items() if ".lora_" not in name}
    for factor in ("lora_A", "lora_B"):
        half = {name.replace(f".{factor}", ""): value for name, value in factors.items() if factor in name} | norms
        for name, value in in_bfl_layout(half).items():
            layer, _, suffix = name.rpartition(".")
            if suffix == "scale":
                bfl[name] = value
            elif factor == "lora_B":
                bfl[f"{layer}.lora_B.{suffix}"] = value
            elif suffix == "weight":  # joined above once for each that shares it
                rank = 4
                bfl[f"{layer}.lora_A.weight"] = half["norm_out.linear.weight"] if "adaLN" in layer else value[:rank].clone()
    file = save(tmp_path / "bfl.safetensors", bfl)
    expected = read(tiny / "transformer", tiny, save(tmp_path / "same.safetensors", factors)).state_dict()
    for name, weight in read(tiny / "transformer", tiny, file).state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_a_quantised_base_is_refused(tiny, tmp_path, lora):
    import gguf

    file = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(tiny)), gguf.GGMLQuantizationType.Q8_0)
    with pytest.raises(GenerationFailed, match="cannot be merged into a GGUF file"):
        read(file, tiny, lora)
    assert read_lora(lora, LORA_SCALE, find_source(tiny / "transformer", tiny)).in_channels == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda name, value: torch.cat([value, value], dim=1) if "x_embedder.lora_A" in name else value,
        lambda name, value: value[0] if "x_embedder.lora_A" in name else value,
        lambda name, value: value[:, :3] if "proj_out.lora_A" in name else value,
        lambda name, value: value[:3] if "proj_out.lora_B.weight" in name else value,
        lambda name, value: value[:, :3] if "x_embedder.lora_A" in name else value,
        lambda name, value: value[:1] if "norm_q" in name else value,
        lambda name, value: value[:2] if "proj_out.lora_A" in name else value,
    ],
    ids=["more inputs", "a vector", "columns", "rows", "inputs", "norms", "rank"],
)
def test_a_lora_of_another_shape_is_refused(tiny, tmp_path, change):
    factors = {name: change(name, value) for name, value in control_lora(weights_of(tiny)).items()}
    with pytest.raises(
        GenerationFailed, match="The LoRA cannot be used: it (was made for a model with other layers|is a LoRA that does not)"
    ):
        read(tiny / "transformer", tiny, save(tmp_path / "other.safetensors", factors))
