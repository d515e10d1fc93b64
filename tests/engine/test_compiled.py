"""The preset ``compiled``: blocks are compiled beside the runs, whole or streamed, and give the same image. With torch's own front end and
without its code generator, which takes minutes on a CPU, the result is bit-equal; with it the latents differ by a relative 8e-8 in float32.
"""

from dataclasses import replace
from math import prod

import gguf
import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks.subjects.files import transformer_shapes
from flux_demo import GenerationRequest, Studio
from flux_demo.backends import all_backends
from flux_demo.engine.memory import COMPILING, CPU_PLAN, GIB, PLANS
from flux_demo.engine.model_cache import ModelCache
from flux_demo.engine.presets import why_not_compiled
from flux_demo.engine.sizes import is_modulation
from flux_demo.errors import InvalidRequest
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.request import Size
from flux_demo.settings import Settings
from stand_ins.gpu import Gpu
from tests.engine.formats import in_bfl_layout, save_gguf, weights_of
from tests.engine.runs import generate_latents
from tests.engine.tiny import split

STREAMED = replace(CPU_PLAN, stream_body=True, stream_t5=True, kept_shares=10)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr("flux_demo.engine.compiled.BACKEND", "eager")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def run(pipeline, preset, size=(64, 48)):
    with pipeline.blocks.running(compiled=preset == "compiled", pixels=size[0] * size[1]) as compiled:
        return compiled, generate_latents(pipeline, "a cube", *size, 1, 2, 3.5)


def test_a_streamed_model_is_compiled_after_the_first_image_and_the_next_waits_for_nothing(tiny, new_model_cache):
    pipeline = new_model_cache(torch.float32, STREAMED).load(mini_files(MODES["text"], tiny))
    _, expected = run(pipeline, "exact")
    assert pipeline.blocks._preparing is None  # whoever asks for ``exact`` never compiles
    compiled, first = run(pipeline, "compiled")
    assert not compiled and torch.equal(first, expected)
    pipeline.blocks.wait()
    assert pipeline.blocks.failure is None
    graphs = counters["stats"]["unique_graphs"]
    compiled, second = run(pipeline, "compiled")
    assert compiled and torch.equal(second, expected)
    assert counters["stats"]["unique_graphs"] == graphs  # everything was compiled before: nothing waited
    again, other = run(pipeline, "exact")
    assert not again and torch.equal(other, expected)


@pytest.mark.parametrize("kept", [0, 10])
def test_compiling_takes_memory_only_where_no_block_of_the_kind_stays(tiny, monkeypatch, kept):
    twins = []
    monkeypatch.setattr("flux_demo.background.start", lambda work, name: work())  # the stand-in sees this thread only
    monkeypatch.setattr("flux_demo.engine.compiled._compiled", lambda forward: (twins.append(forward.__self__), forward)[1])
    plan = replace(next(row for row in PLANS if row.stream_body), kept_shares=kept)
    with Gpu() as gpu:
        pipeline = ModelCache(plan, gpu.device, torch.bfloat16, 64).load(mini_files(MODES["text"], tiny))
        own = {id(weight) for weight in pipeline.transformer.parameters()}
        run(pipeline, "compiled")
        assert len({type(twin) for twin in twins}) == 2 and pipeline.blocks.failure is None
        assert {id(weight) in own for twin in twins for weight in twin.parameters()} == {bool(kept)}
    assert plan.work_bytes(tiled=True) - replace(plan, kept_shares=1).work_bytes(tiled=True) == pytest.approx(
        0 if kept else COMPILING * GIB, abs=2
    )


def test_the_plan_has_room_for_the_largest_block_twice():
    weights = transformer_shapes(1, 1)
    largest = sum(2 * prod(shape) for name, shape in weights.items() if name.startswith("transformer_blocks.") and not is_modulation(name))
    assert 0.9 * COMPILING * GIB < largest < COMPILING * GIB


def test_where_compiling_fails_images_go_on(tiny, new_model_cache, monkeypatch):
    monkeypatch.setattr("flux_demo.engine.compiled.BACKEND", "a compiler that is not here")
    pipeline = new_model_cache().load(mini_files(MODES["text"], tiny))
    _, first = run(pipeline, "compiled", (64, 64))
    pipeline.blocks.wait()
    compiled, second = run(pipeline, "compiled", (64, 64))
    assert pipeline.blocks.failure and not compiled and torch.equal(first, second)


def test_the_recipe_says_which_preset_was_really_used(tiny, tmp_path):
    model = split(tiny, tmp_path / "flux", "text")
    given = Settings(backend="local", device="cpu", outputs=str(tmp_path / "outputs"), models={"text": str(model)}, preset="compiled")
    studio = Studio.from_settings(given)
    assert studio.route("text").dials.presets == ("compiled", "exact")
    asked = GenerationRequest("text", "a cube", seed=7, steps=1, size=Size(256, 256))
    first = studio.generate(asked)
    assert first.recipe.preset == "exact" and "once this image is done" in first.notes[0]
    studio.backends[0]._cache.load(studio.backends[0]._files["text"]).blocks.wait()
    second = studio.generate(asked)
    assert (second.recipe.preset, second.notes) == ("compiled", ())
    difference = np.abs(np.asarray(first.image, float) - np.asarray(second.image, float))
    assert difference.max() <= 2  # of 255


def test_what_cannot_be_compiled_is_said_before_the_run(tiny, tmp_path, monkeypatch):
    model = save_gguf(tmp_path / "flux.gguf", in_bfl_layout(weights_of(tiny)), gguf.GGMLQuantizationType.Q8_0)
    given = Settings(backend="local", device="cpu", components=str(tiny), models={"text": str(model)})
    quantised = all_backends(given)[0].dials(MODES["text"])
    with pytest.raises(InvalidRequest, match="flux.gguf, Q8_0.*Choose the preset exact"):
        quantised.complete(GenerationRequest("text", "a cube", preset="compiled"))
    assert "cannot run flux.gguf" in all_backends(replace(given, preset="compiled"))[0].refusal(MODES["text"]).reason
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "needs a C++ compiler, and g++" in why_not_compiled(on_cpu=True, quantised=None).replace("clang++", "g++")
    monkeypatch.setenv("CXX", "/opt/mine/my-compiler")
    assert "and my-compiler is not" in why_not_compiled(on_cpu=True, quantised=None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "triton" in why_not_compiled(on_cpu=False, quantised=None)
