"""What is measured: the same weights in the stock pipelines and in the engine. No measurement of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from flux_demo.engine.load import CPU, DeviceOf, load_encoders, load_scheduler, load_transformer, load_vae
from flux_demo.engine.memory import CPU_PLAN, PLANS, Plan
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.pipeline import Pipeline, SharedModels
from flux_demo.engine.placement import device_of, place_t5, place_transformer
from flux_demo.engine.prompts import TextEncoders
from flux_demo.model_files import MINI, mini_files

GPU = torch.device("cuda", 0)
GUIDANCE = 3.5
SEEN = {"text": 64, "canny": 128, "depth": 128}  # channels of a token


@dataclass
class Subject:
    text_tokens: int
    pipes: dict[str, Any]  # mode -> stock pipeline
    fluxes: dict[str, Pipeline]  # mode -> engine

    def stock(self, mode: str, prompt: str, sides: tuple[int, int], seed: int, steps: int, picture_map: Image.Image | None) -> Image.Image:
        return self.pipes[mode](
            prompt,
            width=sides[0],
            height=sides[1],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            max_sequence_length=self.text_tokens,
            generator=torch.Generator("cpu").manual_seed(seed),
            **({} if picture_map is None else {"control_image": picture_map}),
        ).images[0]

    def engine(self, mode: str) -> Pipeline:
        return self.fluxes[mode]

    def parts(self, mode: str, which: str) -> Sequence[tuple[Any, str, str]]:
        """Owner, method and part for the stopwatch."""
        if which == "stock":
            pipe = self.pipes[mode]
            return (pipe, "encode_prompt", "text"), (pipe.vae, "encode", "map"), (pipe.vae, "decode", "decode")
        shared = self.fluxes[mode].shared
        return (shared.encoders, "encode", "text"), (shared.vae, "encode", "map"), (shared.vae, "decode", "decode")


def build(weights: str, plan: Plan | None = None, modes: Sequence[str] = tuple(SEEN), device: torch.device = GPU) -> Subject:
    return _mini(modes) if weights == "mini" else _full_size(plan, modes, device)


def stripes(sides: tuple[int, int]) -> Image.Image:
    return Image.linear_gradient("L").resize(sides).convert("RGB")


def _mini(modes: Sequence[str]) -> Subject:
    parts = {mode: mini_files(mode) for mode in modes}
    encoders = load_encoders(MINI, 64, torch.float32, CPU)
    shared = SharedModels(encoders, load_vae(MINI, torch.float32, CPU), CPU)

    def read(mode: str) -> FluxTransformer2DModel:
        return load_transformer(parts[mode].transformer, torch.float32, lambda name: CPU)

    return _both(shared, 64, CPU_PLAN, CPU, lambda: load_scheduler(MINI / "scheduler"), read, modes)


def _full_size(plan: Plan | None, modes: Sequence[str], device: torch.device) -> Subject:
    """FLUX.1 from its configuration, bfloat16, weights drawn from N(0, 0.02). A plan makes the engine alone; without one both share their weights."""
    dtype = torch.bfloat16

    def make(kind: Callable[[], Any], place: DeviceOf) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with init_empty_weights(include_buffers=False):
                model = kind()
        finally:
            torch.set_default_dtype(before)
        if isinstance(model, T5EncoderModel):
            model.tie_weights()  # what is empty was given to each place anew
        for name, weight in model.named_parameters():  # drawn on the GPU, wherever they go: the CPU would take minutes
            drawn = torch.empty_like(weight, device=device).normal_(std=0.02).to(place(name))
            torch.utils.swap_tensors(weight, torch.nn.Parameter(drawn))
        return model.eval()

    def on_device(name: str) -> torch.device:
        return device

    t5 = make(
        lambda: T5EncoderModel(T5Config(d_model=4096, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")),
        lambda name: CPU if plan and plan.stream_t5 else device,
    )
    clip = make(
        lambda: CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)),
        on_device,
    ).to(device)
    vae = make(
        lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            sample_size=1024,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        on_device,
    )
    shared = SharedModels(TextEncoders(_clip_tokenizer(), clip, _t5_tokenizer(), t5, 512), vae, device)
    place_t5(t5, plan or PLANS[0], device)

    def read(mode: str) -> FluxTransformer2DModel:
        return make(
            lambda: FluxTransformer2DModel(in_channels=SEEN[mode], out_channels=64, guidance_embeds=True),
            device_of(plan or PLANS[0], device),
        )

    def schedule() -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)

    return _both(shared, 512, plan or PLANS[0], device, schedule, read, modes, stock=plan is None)


def _both(
    shared: SharedModels,
    text_tokens: int,
    plan: Plan,
    device: torch.device,
    schedule: Callable[[], Any],
    read: Callable[[str], FluxTransformer2DModel],
    modes: Sequence[str],
    *,
    stock: bool = True,
) -> Subject:
    encoders = shared.encoders
    subject = Subject(text_tokens, {}, {})
    for mode in modes:
        transformer = read(mode)
        if stock:
            twin = transformer  # the stock pipeline's, of which the engine's is a copy that shares every weight
            with torch.device("meta"):
                transformer = FluxTransformer2DModel.from_config(twin.config)
            transformer.load_state_dict(twin.state_dict(), assign=True)
            subject.pipes[mode] = (FluxPipeline if mode == "text" else FluxControlPipeline)(
                scheduler=schedule(),
                vae=shared.vae,
                text_encoder=encoders.clip,
                tokenizer=encoders.clip_tokenizer,
                text_encoder_2=encoders.t5,
                tokenizer_2=encoders.t5_tokenizer,
                transformer=twin,
            )
            subject.pipes[mode].set_progress_bar_config(disable=True)
        modulation = PrecomputedModulation(transformer.eval())
        place_transformer(transformer, modulation, plan, device)
        subject.fluxes[mode] = Pipeline(shared, transformer, modulation, schedule())
    return subject


def _clip_tokenizer() -> CLIPTokenizer:
    letters = [letter for symbol in "abcdefghijklmnopqrstuvwxyz0123456789,." for letter in (symbol, f"{symbol}</w>")]
    vocab = {token: place for place, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def _t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -1.0) for letter in "▁abcdefghijklmnopqrstuvwxyz0123456789,."]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0, model_max_length=512)
