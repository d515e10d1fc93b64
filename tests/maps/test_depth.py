"""Depth maps: from inverse depth to grey, and the estimator that sees the depth."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from flux_demo.errors import GenerationFailed, OutOfMemory
from flux_demo.maps import depth
from flux_demo.maps.depth import Estimator, draw, grey_map
from flux_demo.maps.fit import fit
from flux_demo.model_files import MINI
from flux_demo.request import Size
from stand_ins.gpu import Gpu

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "examples" / "three-on-tiles.png"
SIZE = Size(64, 48)
RAMP = np.linspace(1, 5, 64, dtype=np.float32)[None].repeat(48, axis=0)  # inverse depth: nearer to the right


@pytest.fixture
def fitted(photo):
    return fit(photo, SIZE)


@pytest.fixture
def folder(tmp_path):
    """A tiny Depth Anything model with random weights, in transformers' layout."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=56,
        patch_size=14,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        out_features=["stage1", "stage2"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        patch_size=14,
        neck_hidden_sizes=[16, 16],
        reassemble_factors=[2, 1],
        fusion_hidden_size=16,
        head_hidden_size=8,
    )
    model = DepthAnythingForDepthEstimation(config)
    torch.nn.init.uniform_(model.head.conv3.bias, 1, 2)  # the last layer is a ReLU: keep it from being all zero
    model.save_pretrained(tmp_path / "estimator")
    DPTImageProcessor(size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True).save_pretrained(
        tmp_path / "estimator"
    )
    return tmp_path / "estimator"


def grey(drawn):
    pixels = np.asarray(drawn)
    assert drawn.mode == "RGB" and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def test_near_is_bright_and_the_whole_range_is_used(fitted):
    drawn = grey(grey_map(fitted, RAMP))
    assert drawn[0, 0] == 0 and drawn[0, -1] == 255 and (np.diff(drawn[0]) >= 0).all()
    assert abs(drawn[0, 32] - 255 * 32 / 63) <= 1


def test_near_and_far_cut_both_ends(fitted):
    drawn = grey(grey_map(fitted, RAMP, near=0.25, far=0.75))[0]
    assert (drawn[-15:] == 255).all() and (drawn[:15] == 0).all() and abs(drawn[32] - 128) < 6


def test_invert_swaps_near_and_far(fitted):
    assert (grey(grey_map(fitted, RAMP, invert=True)) == 255 - grey(grey_map(fitted, RAMP))).all()


def test_padding_is_far_and_does_not_set_the_range():
    padded = fit(Image.new("RGB", (64, 16)), Size(64, 48), "pad")
    inverse_depth = RAMP.copy()
    inverse_depth[:16] = 100
    drawn = grey(grey_map(padded, inverse_depth))
    assert drawn[:16].max() == 0 and drawn[16:32].max() == 255


@pytest.mark.parametrize("flat", [np.zeros((48, 64)), np.full((48, 64), 3.7), np.full((48, 64), np.nan), np.where(RAMP > 3, np.inf, RAMP)])
def test_a_photo_without_depth_is_refused_in_words_and_never_nan(fitted, flat):
    with pytest.raises(GenerationFailed, match="no depth"):
        grey_map(fitted, flat.astype(np.float32))


def test_the_map_is_drawn_from_what_the_estimator_sees(fitted):
    drawn = draw(fitted, SimpleNamespace(estimate=lambda seen: RAMP if seen is fitted else None), near=0.2, far=0.9, invert=True)
    assert drawn.tobytes() == grey_map(fitted, RAMP, 0.2, 0.9, True).tobytes()


def test_an_estimate_has_a_value_for_each_pixel_and_is_repeatable(folder, fitted):
    first = Estimator(folder, "tiny").estimate(fitted)
    assert first.shape == (48, 64) and first.dtype == np.float32 and np.isfinite(first).all()
    assert (Estimator(folder, "tiny").estimate(fitted) == first).all()


def test_its_answer_is_transformers_own(folder, photo):
    from transformers import pipeline

    fitted = fit(photo, Size(*photo.size))
    ours = Estimator(folder, "tiny").estimate(fitted)
    theirs = pipeline("depth-estimation", model=str(folder))(photo)["predicted_depth"]
    resized = np.asarray(Image.fromarray(theirs.float().numpy()).resize(photo.size, Image.Resampling.BICUBIC))
    assert np.corrcoef(ours.ravel(), resized.ravel())[0, 1] > 0.99


def test_what_a_metric_model_calls_near_is_bright(tmp_path):
    """With the mini's weights, a metric model gives more metres where the mini's own model gives more inverse depth."""
    fitted = fit(Image.open(EXAMPLE).convert("RGB"), Size(128, 128))
    folder = shutil.copytree(MINI / "depth_estimator", tmp_path / "metric")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"depth_estimation_type": "metric", "max_depth": 20}), "utf-8")
    inverse, metric = Estimator(MINI / "depth_estimator", "mini"), Estimator(folder, "metric")
    assert np.corrcoef(grey(draw(fitted, inverse)).ravel(), grey(draw(fitted, metric)).ravel())[0, 1] < -0.9
    torch.nn.init.constant_(metric._load()[0].head.conv3.bias, -1000)  # everything at 0 metres
    assert np.isfinite(metric.estimate(fit(Image.new("RGB", (64, 48)), SIZE))).all()


def test_broken_files_raise_a_worded_error_and_it_can_be_tried_again(folder, fitted):
    whole = (folder / "model.safetensors").read_bytes()
    estimator = Estimator(folder, "tiny")
    (folder / "model.safetensors").write_bytes(whole[:5000])
    with pytest.raises(GenerationFailed, match="fetch estimator`, or name another") as error:
        estimator.estimate(fitted)
    assert str(folder) not in str(error.value)
    (folder / "model.safetensors").write_bytes(whole)
    assert estimator.estimate(fitted).shape == (48, 64)


@pytest.mark.parametrize("when", ["loading", "running"])
def test_memory_that_runs_out_is_said_and_no_file_is_called_damaged(folder, fitted, when, monkeypatch):
    from transformers import AutoModelForDepthEstimation, DepthAnythingForDepthEstimation

    def run_out(*_, **__):
        raise RuntimeError("unable to mmap 99 bytes from file: Cannot allocate memory (12)")

    estimator = Estimator(folder, "tiny")
    with monkeypatch.context() as patch:
        patch.setattr(
            *((AutoModelForDepthEstimation, "from_pretrained") if when == "loading" else (DepthAnythingForDepthEstimation, "forward")),
            run_out,
        )
        with pytest.raises(OutOfMemory, match=r"^The main memory ran out\. Close other programs and try again\.$"):
            estimator.estimate(fitted)
    assert estimator.estimate(fitted).shape == (48, 64)


@pytest.mark.parametrize("capacity", [None, 50_000], ids=["room", "full"])
def test_the_estimator_leaves_nothing_on_the_gpu(fitted, folder, monkeypatch, capacity):
    on_cpu = Estimator(folder, "tiny").estimate(fitted)
    estimator = Estimator(folder, "tiny")
    model, _ = estimator._load()
    with Gpu(capacity) as gpu:
        monkeypatch.setattr(depth, "_device", lambda: gpu.device)
        found = estimator.estimate(fitted)
    assert gpu.peak > 40_000 and gpu.live == 0
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
    assert found.shape == on_cpu.shape
    assert np.array_equal(found, on_cpu) == (capacity is not None)  # full: it fell back to the CPU; with room: the stand-in has no values


def test_a_gpu_that_cannot_be_asked_or_used_is_not_needed(folder, fitted, monkeypatch):
    def refuse(*_):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    expected = Estimator(folder, "tiny").estimate(fitted)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", refuse)
    assert np.array_equal(Estimator(folder, "tiny").estimate(fitted), expected)
    monkeypatch.setattr(depth, "_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(depth, "_run_copies", refuse)
    assert np.array_equal(Estimator(folder, "tiny").estimate(fitted), expected)


@pytest.mark.parametrize(
    ("free", "reserved", "allocated", "chosen"),
    [(23.2, 0, 0, "cuda"), (6.5, 16.6, 16.6, "cpu"), (2, 22, 16.6, "cuda"), (7, 0.5, 0.5, "cpu")],
)
def test_the_estimator_leaves_a_scarce_gpu_to_generation(monkeypatch, free, reserved, allocated, chosen):
    gib = 2**30
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (int(free * gib), 24 * gib))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: int(reserved * gib))
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda: int(allocated * gib))
    assert depth._device().type == chosen
