"""Stage `export`: the averaged weights of every stage, in half precision and diffusers' layout.

`import_shipped` goes the other way: it turns the shipped weights into the checkpoints of a work folder, so that anyone can train them further.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextModel, DepthAnythingForDepthEstimation, DPTImageProcessor, T5EncoderModel

from flux_demo.gallery import PART
from training import Refused, networks, stage_estimator, stage_text, stage_vae, tokenizers

# By the name of its folder: how it is made, the stages whose checkpoints have its weights, the best first, and under which key.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], str]] = {
    "vae": (networks.vae, ("vae_decoder", "vae"), "averaged"),
    "text_encoder": (lambda: networks.clip(len(tokenizers.clip_tokenizer())), ("text",), "clip"),
    "text_encoder_2": (lambda: networks.t5(len(tokenizers.t5_tokenizer())), ("text",), "t5"),
    "transformer": (lambda: networks.transformer(control=False), ("order_text", "prefer_text", "refine_text", "distil_text"), "averaged"),
    "transformer_canny": (lambda: networks.transformer(control=True), ("distil_canny",), "averaged"),
    "transformer_depth": (lambda: networks.transformer(control=True), ("distil_depth",), "averaged"),
    "depth_estimator": (networks.depth_estimator, ("estimator",), "averaged"),
}


def assemble(work: Path, *names: str) -> dict[str, nn.Module]:
    """The networks of these names, or every one, with the best weights in `work`, float32, by the name of its folder."""
    found = {}
    for name in names or NETWORKS:
        build, stages, key = NETWORKS[name]
        with torch.random.fork_rng(devices=[]):  # a stage that calls this in the middle of its steps goes on with its own noise
            torch.default_generator.manual_seed(0)
            found[name] = build()
        load(found[name], work, *stages, key=key)
    if "vae" in found:
        stage_vae.fix_variance(found["vae"])
        found["vae"].register_to_config(**latent_scale(work))
    return found


def export(work: Path, target: Path) -> None:
    """Write the layout beside `target`, then move it into place folder by folder; other files in `target` stay.

    Raises Refused where a network has not been trained yet, and OverflowError if a weight does not fit half precision.
    """
    for name, (_, stages, _) in NETWORKS.items():
        if not any((work / f"{stage}.pt").exists() for stage in stages):
            raise Refused(f"There are no weights for {name} in {work}. Train {stages[-1]} first, or give another folder with --work.")
    found = {name: network.to(torch.float16).eval() for name, network in assemble(work).items()}
    for name, network in found.items():
        for key, value in network.state_dict().items():
            if not bool(value.isfinite().all()):
                raise OverflowError(f"{name}: {key} does not fit half precision. Train further with a smaller learning rate.")
    fresh = target.with_name(target.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    FluxPipeline(
        scheduler=networks.scheduler(),
        vae=found["vae"],
        text_encoder=found["text_encoder"],
        tokenizer=tokenizers.clip_tokenizer(),
        text_encoder_2=found["text_encoder_2"],
        tokenizer_2=tokenizers.t5_tokenizer(),
        transformer=found["transformer"],
    ).save_pretrained(fresh, safe_serialization=True)
    for name in ("transformer_canny", "transformer_depth", "depth_estimator"):
        found[name].save_pretrained(fresh / name, safe_serialization=True)
    DPTImageProcessor(
        size={"height": stage_estimator.SIDE, "width": stage_estimator.SIDE},
        ensure_multiple_of=14,
        keep_aspect_ratio=True,
        image_mean=list(stage_estimator.MEAN),
        image_std=list(stage_estimator.DEVIATION),
    ).save_pretrained(fresh / "depth_estimator")
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(fresh.iterdir()):
        old = target / path.name
        if old.is_dir():
            shutil.rmtree(old)
        path.replace(old)
    fresh.rmdir()


def import_shipped(shipped: Path, work: Path, steps: dict[str, int]) -> None:
    """Write the weights in `shipped` into `work` as checkpoints, from which further rounds start; `base` starts from `shipped.pt`.

    Raises Refused where there are checkpoints already.
    """
    if any(work.glob("*.pt")):
        raise Refused(f"There are checkpoints in {work}, and `shipped` would overwrite them. Give another folder with --work.")
    if not (shipped / "model_index.json").is_file():
        raise Refused(f"There are no weights in {shipped}. Give the folder of a mini with --target.")

    def weights(kind: type, folder: str) -> dict[str, torch.Tensor]:
        return kind.from_pretrained(shipped / folder).float().state_dict()  # in files some weights have other names than in their classes

    config = AutoencoderKL.load_config(shipped / "vae")
    clip, t5 = weights(CLIPTextModel, "text_encoder"), weights(T5EncoderModel, "text_encoder_2")
    encoders = stage_text.Encoders()  # its heads are not shipped: a further round of `text` learns them anew
    encoders.clip.load_state_dict(clip)
    encoders.t5.load_state_dict(t5)
    checkpoints: dict[str, dict[str, Any]] = {
        "latents": {key: config[key] for key in ("shift_factor", "scaling_factor")},
        "vae": {"step": steps["vae"], "averaged": weights(AutoencoderKL, "vae")},
        "text": {"step": steps["text"], "readers": encoders.state_dict(), "clip": clip, "t5": t5},
        "estimator": {"step": steps["estimator"], "averaged": weights(DepthAnythingForDepthEstimation, "depth_estimator")},
        "shipped": {"step": 0, "averaged": weights(FluxTransformer2DModel, "transformer_canny")},
    }
    for stage, folder in (("text", "transformer"), ("canny", "transformer_canny"), ("depth", "transformer_depth")):
        checkpoints[f"distil_{stage}"] = {"step": 0, "averaged": weights(FluxTransformer2DModel, folder)}
    work.mkdir(parents=True, exist_ok=True)
    parts = {name: work / PART.replace("*", name) for name in checkpoints}
    for name, content in checkpoints.items():
        torch.save(content, parts[name])
    for name, part in parts.items():  # only once all are there, so that it can be stopped and run again
        part.replace(work / f"{name}.pt")


def load(network: nn.Module, work: Path, *stages: str, key: str = "averaged") -> None:
    """Load the averaged weights of the first of `stages` that has a checkpoint, if any has."""
    for stage in stages:
        path = work / f"{stage}.pt"
        if path.exists():
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)[key])
            return


def latent_scale(work: Path) -> dict[str, float]:
    """Shift and scale of the latents, under their names in diffusers' VAE config. The stage `latents` measures them."""
    path = work / "latents.pt"
    return torch.load(path, weights_only=True) if path.exists() else {"shift_factor": 0.0, "scaling_factor": 1.0}
