"""The layers that are taken out of the transformer, and what is computed once in place of them."""

import torch
from diffusers import FluxTransformer2DModel

from flux_demo.engine import memory
from flux_demo.engine.load import load_transformer
from flux_demo.engine.model_cache import ModelCache
from flux_demo.engine.modulation import PrecomputedModulation, modulated_norms
from flux_demo.engine.sizes import is_modulation
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from tests.engine.runs import generate_latents

CPU = torch.device("cpu")


def test_the_modulation_layers_are_taken_out_of_the_transformer(tiny):
    transformer = load_transformer(tiny / "transformer", torch.float32, lambda name: CPU)
    before = dict(transformer.named_parameters())
    modulation = PrecomputedModulation(transformer)
    taken_out = set(before) - set(dict(transformer.named_parameters()))
    assert {name for name in before if is_modulation(name)} <= taken_out
    assert all(name.startswith(("time_text_embed", "context_embedder")) or is_modulation(name) for name in taken_out)
    assert len(modulation.layers) == 2 * 2 + 2 + 1  # two in each double block, one in each single block, one at the end


def test_it_is_27_percent_of_the_real_transformer():
    with torch.device("meta"):
        real = FluxTransformer2DModel(guidance_embeds=True)
    modulation = sum(weight.numel() for name, weight in real.named_parameters() if is_modulation(name))
    whole = sum(weight.numel() for weight in real.parameters())
    assert len(modulated_norms(real)) == 2 * 19 + 38 + 1
    assert round(modulation / whole, 3) == 0.273
    assert round(modulation * 2 / 2**30, 2) == memory.MODULATION
    assert abs(whole * 2 / 2**30 - memory.BODY - memory.MODULATION) < 0.01


def test_rows_are_computed_once_for_the_same_prompt_guidance_and_schedule(tiny):
    pipeline = ModelCache(memory.CPU_PLAN, CPU, torch.float32, 64).load(mini_files(MODES["text"], tiny))
    runs = []
    make = pipeline.modulation._make_rows
    pipeline.modulation._make_rows = lambda *given: runs.append(given[-1]) or make(*given)
    generate_latents(pipeline, "one", 64, 64, 1, 2, 3.5)
    generate_latents(pipeline, "one", 64, 64, 2, 2, 3.5)
    generate_latents(pipeline, "one", 32, 128, 2, 2, 3.5)  # as many tokens: the same schedule
    assert len(runs) == 1
    generate_latents(pipeline, "one", 64, 64, 2, 2, 4.0)
    generate_latents(pipeline, "two", 64, 64, 2, 2, 4.0)
    generate_latents(pipeline, "two", 64, 48, 2, 2, 4.0)
    assert len(runs) == 4
