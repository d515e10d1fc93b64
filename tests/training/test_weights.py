"""What is shipped in assets/mini loads in stock diffusers and does what its card says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTokenizer, DepthAnythingForDepthEstimation, DPTImageProcessor

MINI = Path(__file__).parents[2] / "assets" / "mini"


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    loaded = FluxPipeline.from_pretrained(MINI, dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def generate(pipe, prompt: str, steps: int = 8, seed: int = 0, **more) -> np.ndarray:
    size = {"width": 128, "height": 128} | more
    return np.asarray(
        pipe(prompt, num_inference_steps=steps, max_sequence_length=64, generator=torch.Generator().manual_seed(seed), **size).images[0]
    )


def test_the_shipped_tokenizer_is_the_one_that_training_makes():
    """Otherwise the encoder, which is not trained again with each export, would get other token ids."""
    from training.tokenizers import clip_tokenizer

    shipped, made = (
        json.loads(one.backend_tokenizer.to_str())["model"] for one in (CLIPTokenizer.from_pretrained(MINI / "tokenizer"), clip_tokenizer())
    )
    assert (made["vocab"], made["merges"]) == (shipped["vocab"], shipped["merges"])


def test_the_weights_are_small_half_precision_and_finite():
    files = sorted(MINI.rglob("*.safetensors"))
    assert len(files) == 7
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) < 60e6
    for path in files:
        with safe_open(path, "pt") as opened:
            for name in opened.keys():
                tensor = opened.get_tensor(name)
                assert tensor.dtype == torch.float16 and tensor.isfinite().all(), (path, name)


def test_each_share_on_the_card_is_one_of_as_many_images_as_it_says():
    card = (MINI / "README.md").read_text("utf-8")
    each = int(re.search(r"figure \((\d+) images each", card)[1])
    shares = re.findall(r"^\| .+?(?:, (\d+) (?:images|answers))? \(%\) \| ([\d.]+) \|$", card, re.MULTILINE)
    assert len(shares) > 15
    for count, share in shares:
        hits = float(share) * int(count or each) / 100
        assert abs(hits - round(hits)) <= 0.0005 * int(count or each) + 1e-9, (count, share)


def test_the_pipeline_is_fluxs_own(pipe):
    assert pipe.vae_scale_factor == 8 and pipe.vae.config.latent_channels == 16
    assert pipe.transformer.config.guidance_embeds and pipe.scheduler.config.use_dynamic_shifting
    for mode in ("canny", "depth"):
        control = FluxTransformer2DModel.load_config(MINI / f"transformer_{mode}")
        assert control["in_channels"] == 2 * pipe.transformer.config.in_channels


@pytest.mark.parametrize("prompt", ["", "   ", "球と🎈 und ein Würfel", "\x00\u202e", "a red sphere " * 300, "Ⓡⓔⓓ \U0001f468‍\U0001f469"])
def test_any_text_gives_an_image(pipe, prompt):
    assert generate(pipe, prompt, steps=1).shape == (128, 128, 3)


def test_capitals_do_not_matter(pipe):
    one, other = (pipe.encode_prompt(text, text, max_sequence_length=64)[0] for text in ("a red sphere", "A RED Sphere"))
    assert torch.equal(one, other)


def test_the_prompts_light_is_followed(pipe):
    noon, night = (generate(pipe, f"a white cube on a snowy floor {light}", width=256, height=256) for light in ("at noon", "at night"))
    assert noon.mean() > night.mean() + 40


def test_a_higher_guidance_changes_the_image(pipe):
    low, high = (generate(pipe, "a red sphere on a gray floor", guidance_scale=g) for g in (1.0, 5.0))
    assert np.abs(low.astype(int) - high).mean() > 1


@pytest.mark.parametrize("mode, guidance", [("canny", 30.0), ("depth", 10.0)])
def test_the_control_pipelines_run(pipe, mode, guidance):
    transformer = FluxTransformer2DModel.from_pretrained(MINI / f"transformer_{mode}", dtype=torch.float32)
    components = {name: part for name, part in pipe.components.items() if name not in ("transformer", "image_encoder", "feature_extractor")}
    control = FluxControlPipeline(transformer=transformer, **components)
    control.set_progress_bar_config(disable=True)
    shown = generate(control, "a blue cone", steps=2, guidance_scale=guidance, control_image=Image.new("RGB", (128, 128)))
    assert shown.shape == (128, 128, 3)


def test_the_depth_estimator_sees_near_as_bright():
    from training import data, measures, stage_estimator

    processor = DPTImageProcessor.from_pretrained(MINI / "depth_estimator")
    estimator = DepthAnythingForDepthEstimation.from_pretrained(MINI / "depth_estimator", dtype=torch.float32)
    scores = []
    for rgbd in data.rendered(range(data.HELD_OUT, data.HELD_OUT + 4), (256, 256)):
        inputs = processor(images=Image.fromarray(rgbd[..., :3]), return_tensors="pt")
        trained_on, _ = stage_estimator.preprocessed(rgbd[None])
        assert (inputs["pixel_values"] - trained_on).abs().mean() < 0.02  # it sees colours as it was trained to
        with torch.inference_mode():
            output = estimator(**inputs)
        near = processor.post_process_depth_estimation(output, target_sizes=[(256, 256)])[0]["predicted_depth"].numpy()
        scores.append(measures.depth_correlation(rgbd[..., 3], near))
    assert np.mean(scores) > 0.9
