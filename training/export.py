"""Stage `export`: the averaged weights of every stage, in half precision and diffusers' layout. An untrained stage gives a random start.

`take_up` is the way back: the weights that are shipped become the work folder's checkpoints, so that anyone can train on from them.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextModel, DepthAnythingForDepthEstimation, DPTImageProcessor, T5EncoderModel

from training import networks, stage_vae, tokenizers

ESTIMATOR_SIDE = 196  # pixels of the shorter side that the depth estimator sees


def assemble(work: Path) -> dict[str, nn.Module]:
    """Every network with the best weights that `work` has, float32, by the name of its folder."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"vae": networks.vae()}
    stage_vae.fix_variance(found["vae"])
    load(found["vae"], work, "vae_decoder", "vae")
    stage_vae.fix_variance(found["vae"])
    scale = latent_scale(work)
    found["vae"].register_to_config(**scale)
    letters, pieces = tokenizers.clip_tokenizer(), tokenizers.t5_tokenizer()
    found["text_encoder"], found["text_encoder_2"] = networks.clip(len(letters), len(letters) - 1), networks.t5(len(pieces))
    load(found["text_encoder"], work, "text", part="clip")
    load(found["text_encoder_2"], work, "text", part="t5")
    found["transformer"] = networks.transformer(control=False)
    load(found["transformer"], work, "distil_text")
    for mode in ("canny", "depth"):
        found[f"transformer_{mode}"] = networks.transformer(control=True)
        load(found[f"transformer_{mode}"], work, f"distil_{mode}")
    found["depth_estimator"] = networks.depth_estimator()
    load(found["depth_estimator"], work, "estimator")
    return found


def export(work: Path, target: Path) -> None:
    """Write the layout beside `target` first and then put it in its place, folder by folder; other files there stay."""
    found = {name: network.to(torch.float16).eval() for name, network in assemble(work).items()}
    for name, network in found.items():
        for key, value in network.state_dict().items():
            if not bool(value.isfinite().all()):
                raise OverflowError(f"{name}: {key} does not fit half precision. Train on with a smaller rate.")
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
        size={"height": ESTIMATOR_SIDE, "width": ESTIMATOR_SIDE},
        ensure_multiple_of=14,
        keep_aspect_ratio=True,
    ).save_pretrained(fresh / "depth_estimator")
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(fresh.iterdir()):
        old = target / path.name
        if old.is_dir():
            shutil.rmtree(old)
        path.replace(old)
    fresh.rmdir()


def take_up(shipped: Path, work: Path, steps: dict[str, int]) -> None:
    """Make the weights in `shipped` this work folder's finished stages, but for the transformers: `base` starts from them."""

    def weights(kind: type, folder: str) -> dict[str, torch.Tensor]:
        return kind.from_pretrained(shipped / folder).float().state_dict()  # files name some weights otherwise than their classes

    work.mkdir(parents=True, exist_ok=True)
    config = AutoencoderKL.load_config(shipped / "vae")
    torch.save({key: config[key] for key in ("shift_factor", "scaling_factor")}, work / "latents.pt")
    torch.save({"step": steps["vae"], "averaged": weights(AutoencoderKL, "vae")}, work / "vae.pt")
    text = {"clip": weights(CLIPTextModel, "text_encoder"), "t5": weights(T5EncoderModel, "text_encoder_2")}
    torch.save({"step": steps["text"]} | text, work / "text.pt")
    estimator = weights(DepthAnythingForDepthEstimation, "depth_estimator")
    torch.save({"step": steps["estimator"], "averaged": estimator}, work / "estimator.pt")
    torch.save({"step": 0, "averaged": weights(FluxTransformer2DModel, "transformer_canny")}, work / "shipped.pt")


def load(network: nn.Module, work: Path, *stages: str, part: str = "averaged") -> str | None:
    """Put in the averaged weights of the first of `stages` that has a checkpoint, and name it."""
    for stage in stages:
        path = work / f"{stage}.pt"
        if path.exists():
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)[part])
            return stage
    return None


def latent_scale(work: Path) -> dict[str, float]:
    """The measured mean and deviation of the latents, as diffusers' VAE config has them; stage `latents` writes them."""
    path = work / "latents.pt"
    return torch.load(path, weights_only=True) if path.exists() else {"shift_factor": 0.0, "scaling_factor": 1.0}
