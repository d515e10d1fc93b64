"""One run: from the request's numbers to the picture. A mode is only the map that it adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from flux_demo.engine import latents as tokens_of
from flux_demo.engine.denoise import denoise
from flux_demo.engine.modulation import Modulation
from flux_demo.engine.pixels import decode, encode_map
from flux_demo.engine.preview import Reporter, fit_colours
from flux_demo.engine.prompts import Encoders
from flux_demo.engine.schedule import set_schedule
from flux_demo.errors import GenerationFailed


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
class Flux:
    """One mode's FLUX, ready to draw."""

    shared: Shared
    transformer: Any
    modulation: Modulation
    scheduler: Any

    @property
    def follows_map(self) -> bool:
        return self.transformer.config.in_channels > self.transformer.out_channels


@torch.no_grad()
def draw(
    flux: Flux,
    text: str,
    width: int,
    height: int,
    seed: int,
    steps: int,
    guidance: float,
    picture_map: Image | None = None,
    on_step: Callable[[int, int, Image | None], None] = lambda done, of, preview: None,
    on_status: Callable[[str], None] = lambda sentence: None,
) -> Image:
    """Draw an RGB picture. ``picture_map`` is RGB and of the picture's size. What the callbacks raise ends the run and comes through."""
    latents = draw_latents(flux, text, width, height, seed, steps, guidance, picture_map, on_step, on_status)
    # 7. See it
    on_status("Developing the picture")
    return decode(flux.shared.vae, tokens_of.unpack(latents, width, height))


@torch.no_grad()
def draw_latents(
    flux: Flux,
    text: str,
    width: int,
    height: int,
    seed: int,
    steps: int,
    guidance: float,
    picture_map: Image | None = None,
    on_step: Callable[[int, int, Image | None], None] = lambda done, of, preview: None,
    on_status: Callable[[str], None] = lambda sentence: None,
) -> Tensor:
    """The packed latents of the picture that ``draw`` draws."""
    shared, device = flux.shared, flux.shared.device
    # 1. Read the prompt
    unread = shared.encoders.unread(text)
    on_status(f"The prompt is long: its last {unread} tokens are not read" if unread else "Reading the prompt")
    prompt = shared.encoders.encode(text, device)
    dtype = prompt.tokens.dtype
    # 2. See the map. It draws from the generator before the noise does
    generator = torch.Generator("cpu").manual_seed(seed)
    control = None if picture_map is None else tokens_of.pack(encode_map(shared.vae, picture_map, generator))
    # 3. Begin with noise
    latents = tokens_of.draw_noise(width, height, shared.vae.config.latent_channels, generator, dtype, device)
    # 4. Lay out the steps and the places
    set_schedule(flux.scheduler, steps, latents.shape[1], device)
    text_places = tokens_of.text_places(prompt.tokens.shape[1], dtype, device)
    places = tokens_of.picture_places(width, height, dtype, device)
    # 5. Work out once what does not look at the picture
    key = (text, guidance, steps, latents.shape[1])
    flux.modulation.prepare(prompt.tokens, prompt.pooled, guidance, flux.scheduler.timesteps, torch.cat([text_places, places]), key)
    # 6. Take the noise away
    on_status("Drawing")
    reporter = Reporter(steps, width, height, shared.colours, on_step)
    latents = denoise(flux.transformer, flux.modulation, flux.scheduler, latents, control, text_places, places, reporter)
    reporter.finish()
    if not torch.isfinite(latents).all():
        raise GenerationFailed(
            "The run gave no picture: the model's values ran out of range. Try another seed or a lower guidance; if it stays, the model's files are damaged."
        )
    return latents
