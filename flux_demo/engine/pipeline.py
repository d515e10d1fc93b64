"""One run: from the request's numbers to the image. A mode is only the map that it adds."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from flux_demo import background
from flux_demo.engine.allocators import empty_caches
from flux_demo.engine.compiled import RepeatedBlocks
from flux_demo.engine.current_device import on
from flux_demo.engine.denoise import denoise
from flux_demo.engine.latents import draw_noise, image_position_ids, pack, text_position_ids, unpack
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.pinning import Pinning
from flux_demo.engine.preview import PreviewReporter, fit_colours
from flux_demo.engine.prompts import TextEncoders
from flux_demo.engine.schedule import set_schedule
from flux_demo.engine.vae import decode, encode_map
from flux_demo.errors import GenerationFailed
from flux_demo.progress import OnStatus, OnStep, Phase, Status, Step
from flux_demo.request import GenerationRequest


@dataclass
class SharedModels:
    """What all modes use."""

    encoders: TextEncoders
    vae: Any
    device: torch.device
    streamed: bool = False  # whether T5's blocks come to the device as they are needed
    pinning: Pinning = field(default_factory=Pinning)  # for previews: they are small
    colours: Tensor = field(init=False)  # linear map from latents to a preview's colours

    def __post_init__(self) -> None:
        self.colours = fit_colours(self.vae)


@dataclass
class Pipeline:
    """One mode's FLUX, ready to run."""

    shared: SharedModels
    transformer: Any
    modulation: PrecomputedModulation
    scheduler: Any
    blocks: RepeatedBlocks | None = None  # None where they cannot be compiled
    streamed: bool = False  # whether the transformer's blocks come to the device as they are needed


def generate(pipeline: Pipeline, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> Image:
    """Run a complete request: RGB, its size. Whatever the callbacks raise ends the run and comes through. Raises GenerationFailed."""
    with on(pipeline.shared.device):
        return background.consume(run(pipeline, request), _tell(on_step, on_status))


def generate_latents(pipeline: Pipeline, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> Tensor:
    """The packed latents of the image that ``generate`` returns."""
    with on(pipeline.shared.device):
        return background.consume(_run_to_latents(pipeline, request), _tell(on_step, on_status))


@torch.no_grad()
def run(pipeline: Pipeline, request: GenerationRequest) -> Generator[Status | Step, None, Image]:
    """``generate`` as a generator of what happens, whose value is the image; closing it ends the run. Raises GenerationFailed."""
    assert request.size
    latents = yield from _run_to_latents(pipeline, request)
    # 7. Decode
    yield Status(Phase.DECODING, "Decoding the image")
    image = decode(pipeline.shared.vae, unpack(latents, request.size.width, request.size.height))
    if pipeline.streamed or pipeline.shared.streamed:
        empty_caches(pipeline.shared.device)
    return image


@torch.no_grad()
def _run_to_latents(pipeline: Pipeline, request: GenerationRequest) -> Generator[Status | Step, None, Tensor]:
    assert request.size and request.seed is not None and request.steps and request.guidance is not None
    width, height, shared, device = request.size.width, request.size.height, pipeline.shared, pipeline.shared.device
    # 1. Encode the prompt
    yield Status(Phase.ENCODING, "Reading the prompt")
    encoded_before = shared.encoders.has_encoded(request.prompt)
    prompt = shared.encoders.encode(request.prompt, device)
    if shared.streamed and not encoded_before:
        empty_caches(device)  # the memory that blocks were streamed through
    dtype = prompt.embeds.dtype
    # 2. Encode the map, if there is one. It draws from the generator before the noise does
    generator = torch.Generator("cpu").manual_seed(request.seed)
    control = pack(encode_map(shared.vae, request.control.image, generator)) if request.control else None
    # 3. Draw the noise
    latents = draw_noise(width, height, shared.vae.config.latent_channels, generator, dtype, device)
    # 4. Set the schedule and the position ids
    set_schedule(pipeline.scheduler, request.steps, latents.shape[1], device)
    text_ids = text_position_ids(prompt.embeds.shape[1], dtype, device)
    image_ids = image_position_ids(width, height, dtype, device)
    # 5. Compute once what does not depend on the latents
    key = (request.prompt, request.guidance, request.steps, latents.shape[1])
    timesteps = pipeline.scheduler.timesteps
    pipeline.modulation.prepare(prompt.embeds, prompt.pooled, request.guidance, timesteps, torch.cat([text_ids, image_ids]), key)
    # 6. Denoise
    yield Status(Phase.DENOISING, "Denoising")
    reporter = PreviewReporter(request.steps, width, height, shared.colours, shared.pinning)
    latents = yield from denoise(
        pipeline.transformer, pipeline.modulation, pipeline.scheduler, latents, control, text_ids, image_ids, reporter
    )
    if last := reporter.finish():
        yield last
    if pipeline.streamed:
        empty_caches(device)
    if not torch.isfinite(latents).all():
        raise GenerationFailed(
            "The run did not produce an image: the model's values went out of range. Try another seed or a lower guidance; if it keeps happening, fetch or copy the model again."
        )
    return latents


def _tell(on_step: OnStep, on_status: OnStatus) -> Callable[[Status | Step], None]:
    def tell(event: Status | Step) -> None:
        if isinstance(event, Status):
            on_status(event)
        else:
            on_step(event.done, event.of, event.preview)

    return tell
