"""One run: from the request's numbers to the picture. A mode is only the map that it adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from flux_demo.engine.denoise import denoise
from flux_demo.engine.latents import draw_noise, image_position_ids, pack, text_position_ids, unpack
from flux_demo.engine.modulation import Modulation
from flux_demo.engine.preview import Reporter, fit_colours
from flux_demo.engine.prompts import Encoders
from flux_demo.engine.schedule import set_schedule
from flux_demo.engine.vae import decode, encode_map
from flux_demo.errors import GenerationFailed
from flux_demo.request import GenerationRequest, OnStatus, OnStep


@dataclass
class Shared:
    """What the modes share."""

    encoders: Encoders
    vae: Any
    device: torch.device
    colours: Tensor = field(init=False)  # from latents to a preview

    def __post_init__(self) -> None:
        self.colours = fit_colours(self.vae)


@dataclass
class Pipeline:
    """One mode's FLUX, ready to draw."""

    shared: Shared
    transformer: Any
    modulation: Modulation
    scheduler: Any

    @property
    def follows_map(self) -> bool:
        return self.transformer.config.in_channels > self.transformer.out_channels


@torch.no_grad()
def draw(flux: Pipeline, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> Image:
    """Draw a complete request: RGB, its size. What the callbacks raise ends the run and comes through. Raises GenerationFailed."""
    assert request.size
    latents = draw_latents(flux, request, on_step, on_status)
    # 7. See it
    on_status("Developing the picture")
    return decode(flux.shared.vae, unpack(latents, request.size.width, request.size.height))


@torch.no_grad()
def draw_latents(flux: Pipeline, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> Tensor:
    """The packed latents of the picture that ``draw`` draws."""
    assert request.size and request.seed is not None and request.steps and request.guidance is not None
    width, height, shared, device = request.size.width, request.size.height, flux.shared, flux.shared.device
    # 1. Read the prompt
    unread = shared.encoders.unread(request.prompt)
    on_status(f"The prompt is long: its last {unread} tokens are not read" if unread else "Reading the prompt")
    prompt = shared.encoders.encode(request.prompt, device)
    dtype = prompt.tokens.dtype
    # 2. See the map, if there is one. It draws from the generator before the noise does
    generator = torch.Generator("cpu").manual_seed(request.seed)
    control = pack(encode_map(shared.vae, request.control.image, generator)) if request.control else None
    # 3. Begin with noise
    latents = draw_noise(width, height, shared.vae.config.latent_channels, generator, dtype, device)
    # 4. Lay out the steps and the places
    set_schedule(flux.scheduler, request.steps, latents.shape[1], device)
    words = text_position_ids(prompt.tokens.shape[1], dtype, device)
    places = image_position_ids(width, height, dtype, device)
    # 5. Work out once what does not look at the picture
    key = (request.prompt, request.guidance, request.steps, latents.shape[1])
    flux.modulation.prepare(prompt.tokens, prompt.pooled, request.guidance, flux.scheduler.timesteps, torch.cat([words, places]), key)
    # 6. Take the noise away
    on_status("Drawing")
    reporter = Reporter(request.steps, width, height, shared.colours, on_step)
    latents = denoise(flux.transformer, flux.modulation, flux.scheduler, latents, control, words, places, reporter)
    reporter.finish()
    if not torch.isfinite(latents).all():
        raise GenerationFailed(
            "The run gave no picture: the model's values ran out of range. Try another seed or a lower guidance; if it stays, fetch or copy the model again."
        )
    return latents
