"""What is measured: the same weights in the stock pipelines and in the engine. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from diffusers.quantizers.gguf.utils import GGUFParameter
from gguf import GGMLQuantizationType
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from flux_demo.engine.current_device import on
from flux_demo.engine.load import load_encoders, load_scheduler, load_transformer, load_vae
from flux_demo.engine.memory import CPU_PLAN, PLANS, Plan
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.pipeline import Pipeline, SharedModels
from flux_demo.engine.placement import device_of, place_t5, place_transformer
from flux_demo.engine.prompts import TextEncoders
from flux_demo.engine.weights import CPU, DeviceOf, assign
from flux_demo.model_files import MINI, mini_files
from flux_demo.modes import MODES
from flux_demo.tensor_files import GGUF_NUMBERS, GGUF_TYPES

GPU = torch.device("cuda", 0)
GUIDANCE = 3.5
IN_CHANNELS = {name: 128 if mode.control else 64 for name, mode in MODES.items()}  # of a token, the map's included


@dataclass
class Subject:
    max_sequence_length: int
    stock_pipelines: dict[str, Any]  # by mode; empty where only the engine is measured
    pipelines: dict[str, Pipeline]  # the engine's, by mode

    def stock(
        self, mode: str, prompt: str, sides: tuple[int, int], seed: int, steps: int, control_image: Image.Image | None
    ) -> Image.Image:
        return self.stock_pipelines[mode](
            prompt,
            width=sides[0],
            height=sides[1],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            max_sequence_length=self.max_sequence_length,
            generator=torch.Generator("cpu").manual_seed(seed),
            **({} if control_image is None else {"control_image": control_image}),
        ).images[0]

    def engine(self, mode: str) -> Pipeline:
        return self.pipelines[mode]

    def stages(self, mode: str, which: str) -> Sequence[tuple[Any, str, str]]:
        """(owner, method, stage) for the stopwatch: that method's seconds are the stage's."""
        if which == "stock":
            stock = self.stock_pipelines[mode]
            return (stock, "encode_prompt", "text"), (stock.vae, "encode", "map"), (stock.vae, "decode", "decode")
        shared = self.pipelines[mode].shared
        return (shared.encoders, "encode", "text"), (shared.vae, "encode", "map"), (shared.vae, "decode", "decode")


def build(weights: str, plan: Plan | None = None, modes: Sequence[str] = tuple(MODES), device: torch.device = GPU) -> Subject:
    if weights == "mini":
        return _mini(modes)
    with on(device):
        return _full_size(plan, modes, device)


def stripes(sides: tuple[int, int]) -> Image.Image:
    return Image.linear_gradient("L").resize(sides).convert("RGB")


def _mini(modes: Sequence[str]) -> Subject:
    encoders = load_encoders(MINI, 64, torch.float32, CPU)
    shared = SharedModels(encoders, load_vae(MINI, torch.float32, CPU), CPU)

    def read(mode: str) -> FluxTransformer2DModel:
        return load_transformer(mini_files(MODES[mode]).transformer, torch.float32, lambda name: CPU)

    return _both(shared, 64, CPU_PLAN, CPU, lambda: load_scheduler(MINI / "scheduler"), read, modes)


def _full_size(plan: Plan | None, modes: Sequence[str], device: torch.device) -> Subject:
    """FLUX.1 from its configuration, in bfloat16, with random weights from N(0, 0.02). With a plan only the engine; without one both, sharing their weights."""
    dtype = torch.bfloat16

    def make(kind: Callable[[], Any], device_of_weight: DeviceOf) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with init_empty_weights(include_buffers=False):
                model = kind()
        finally:
            torch.set_default_dtype(before)
        if isinstance(model, T5EncoderModel):
            model.tie_weights()  # empty weights come untied
        for name, weight in model.named_parameters():  # filled on the GPU wherever they go, because the CPU would take minutes
            filled = torch.empty_like(weight, device=device).normal_(std=0.02).to(device_of_weight(name))
            torch.utils.swap_tensors(weight, torch.nn.Parameter(filled))
        return model.eval()

    def on_device(name: str) -> torch.device:
        return device

    t5 = make(
        lambda: T5EncoderModel(t5_config()),
        lambda name: CPU if plan and plan.stream_t5 else device,
    )
    clip = make(
        lambda: CLIPTextModel(clip_config()),
        on_device,
    ).to(device)
    vae = make(new_vae, on_device)
    shared = SharedModels(
        TextEncoders(_clip_tokenizer(), clip, _t5_tokenizer(), t5, 512), vae, device, streamed=plan is not None and plan.stream_t5
    )
    place_t5(t5, plan or PLANS[0], device)

    def read(mode: str) -> FluxTransformer2DModel:
        def new() -> FluxTransformer2DModel:
            return FluxTransformer2DModel(in_channels=IN_CHANNELS[mode], out_channels=64, guidance_embeds=True)

        place = device_of(plan or PLANS[0], device)
        return _quantised(new, plan.sizes.kind, dtype, device, place) if plan and plan.sizes.quantised else make(new, place)

    def schedule() -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)

    return _both(shared, 512, plan or PLANS[0], device, schedule, read, modes, stock=plan is None)


def _quantised(
    new: Callable[[], FluxTransformer2DModel], kind: str, dtype: torch.dtype, device: torch.device, device_of_weight: DeviceOf
) -> FluxTransformer2DModel:
    """With every matrix stored as that GGUF type, as the program reads it from a file; all of it zero."""
    number = GGUF_NUMBERS[kind]
    _, values, width = GGUF_TYPES[number]
    with torch.device("meta"):
        transformer = new()
    weights = {}
    for name, weight in transformer.named_parameters():
        if weight.dim() == 2:
            data = torch.zeros(weight.shape[0], weight.shape[1] // values * width, dtype=torch.uint8, device=device)
            weights[name] = GGUFParameter(data.to(device_of_weight(name)), quant_type=GGMLQuantizationType(number))
        else:
            weights[name] = torch.zeros(weight.shape, dtype=dtype, device=device).to(device_of_weight(name))
    assign(transformer, weights, dtype)
    return transformer.eval()


def t5_config() -> T5Config:
    return T5Config(d_model=4096, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")


def clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
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
    )


def _both(
    shared: SharedModels,
    max_sequence_length: int,
    plan: Plan,
    device: torch.device,
    schedule: Callable[[], Any],
    read: Callable[[str], FluxTransformer2DModel],
    modes: Sequence[str],
    *,
    stock: bool = True,
) -> Subject:
    encoders = shared.encoders
    subject = Subject(max_sequence_length, {}, {})
    for mode in modes:
        transformer = read(mode)
        if stock:
            twin = transformer  # for the stock pipeline; the engine's shares every weight with it
            with torch.device("meta"):
                transformer = FluxTransformer2DModel.from_config(twin.config)
            transformer.load_state_dict(twin.state_dict(), assign=True)
            subject.stock_pipelines[mode] = (FluxPipeline if mode == "text" else FluxControlPipeline)(
                scheduler=schedule(),
                vae=shared.vae,
                text_encoder=encoders.clip,
                tokenizer=encoders.clip_tokenizer,
                text_encoder_2=encoders.t5,
                tokenizer_2=encoders.t5_tokenizer,
                transformer=twin,
            )
            subject.stock_pipelines[mode].set_progress_bar_config(disable=True)
        modulation = PrecomputedModulation(transformer.eval())
        place_transformer(transformer, modulation, plan, device)
        subject.pipelines[mode] = Pipeline(shared, transformer, modulation, schedule(), streamed=plan.stream_body)
    return subject


def _clip_tokenizer() -> CLIPTokenizer:
    letters = [letter for symbol in "abcdefghijklmnopqrstuvwxyz0123456789,." for letter in (symbol, f"{symbol}</w>")]
    vocab = {token: number for number, token in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def _t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -1.0) for letter in "▁abcdefghijklmnopqrstuvwxyz0123456789,."]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0, model_max_length=512)
