"""One replica, without Ray: what it says of itself, and what it has in memory when it is ready."""

import asyncio
import base64

import gguf
import pytest
import torch

from flux_demo.backends.diffusion import Diffusion
from flux_demo.backends.mini import Mini
from flux_demo.errors import GpuFailed
from flux_demo.modes import MODES
from flux_demo.serve_generator import Generator
from flux_demo.serve_schema import Options
from flux_demo.settings import BACKENDS
from tests.conftest import RecordingBackend
from tests.engine.formats import in_bfl_layout, save_gguf, weights_of
from tests.engine.tiny import build
from tests.serve.running import SMALL, address


def test_it_names_the_model_of_each_mode_and_no_path(tmp_path, monkeypatch):
    folder = build(tmp_path / "tiny", torch.float32, heads=16)
    monkeypatch.setenv("FLUX_DEMO_DEVICE", "cpu")
    monkeypatch.setenv("FLUX_DEMO_COMPONENTS", str(folder))
    for mode in MODES:
        weights = in_bfl_layout(weights_of(folder, mode))
        file = save_gguf(tmp_path / f"my-{mode}.gguf", weights, gguf.GGMLQuantizationType.Q8_0)
        monkeypatch.setenv(f"FLUX_DEMO_{mode.upper()}_MODEL", str(file))
    about = asyncio.run(Generator(Options("local", "1-4", public=False).to_dict()).describe())
    assert about["models"] == {"base": "my-text.gguf, Q8_0", "canny": "my-canny.gguf, Q8_0", "depth": "my-depth.gguf, Q8_0"}
    assert (about["refused"], about["concurrency"]) == ({}, 4) and str(tmp_path) not in str(about)


class Recording(RecordingBackend):
    def __init__(self, settings):
        super().__init__()


def test_the_base64_of_a_map_may_have_line_breaks(monkeypatch, photo):
    monkeypatch.setitem(BACKENDS, "mini", f"{__name__}:Recording")
    head, _, content = address(photo.resize((128, 128))).partition(",")
    lines = base64.encodebytes(base64.b64decode(content)).decode()
    asked = SMALL | {"mode": "canny", "cfg_scale": 3.5, "image": f"{head},{lines}", "preprocess_image": False}
    assert asyncio.run(Generator(Options("mini").to_dict()).generate(asked))["reason"] == "SUCCESS"


class OnFailedGpu(Mini):
    def model_cache(self, files):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def on_failed_gpu(settings):
    return Diffusion(OnFailedGpu())


def test_a_replica_whose_gpu_has_failed_is_not_healthy(monkeypatch):
    monkeypatch.setitem(BACKENDS, "mini", f"{__name__}:on_failed_gpu")
    replica = Generator(Options("mini").to_dict())
    replica.check_health()
    answer = asyncio.run(replica.generate(SMALL | {"mode": "base", "cfg_scale": 3.5}))
    assert answer["status"] == 500 and "GPU reported an error" in answer["detail"]
    with pytest.raises(GpuFailed):
        replica.check_health()
