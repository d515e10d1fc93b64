"""Builds a FLUX with a few thousand random weights, in diffusers' layout, with the tokens, patches and factors of the real one."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

torch.set_num_threads(1)  # models this small run slower on more threads
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.0123456789"


def build(folder: Path, dtype: torch.dtype, seed: int = 0, heads: int = 2) -> Path:
    """Save the models of all modes under the folder and return it."""
    torch.manual_seed(seed)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
        vae=vae(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer(16, heads),
    )
    pipeline.to(dtype).save_pretrained(folder)
    for mode in ("canny", "depth"):
        transformer(32, heads).to(dtype).save_pretrained(folder / f"transformer_{mode}")
    return folder


def split(folder: Path, target: Path, mode: str) -> Path:
    """Copy one mode to a folder in the Hub's layout, its transformer named ``transformer``."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("transformer*"))
    shutil.copytree(folder / (f"transformer_{mode}" if mode != "text" else "transformer"), target / "transformer")
    return target


def transformer(in_channels: int, heads: int = 2) -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=in_channels,
        out_channels=None if in_channels == 16 else 16,  # FLUX.1-dev's own config names none
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    for weight in model.parameters():  # large enough for every detail to show in the result
        torch.nn.init.normal_(weight, std=0.1)
    return model


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        shift_factor=0.1159,
        scaling_factor=0.3611,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def clip() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(vocab_size=600, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, eos_token_id=1)
    )


def t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=len(LETTERS) + 3, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    )


def clip_tokenizer() -> CLIPTokenizer:
    letters = [letter for symbol in LETTERS.replace(" ", "") for letter in (symbol, f"{symbol}</w>")]
    vocab = {token: number for number, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(letter.replace(" ", "▁"), -1.0) for letter in LETTERS]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
