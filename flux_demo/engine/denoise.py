"""The loop: from noise to a picture, each step taking away the noise that the transformer sees.

Nothing in it waits for the device: what is told to the outside is copied away beside the work (see ``preview.Reporter``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flux_demo.engine.modulation import Modulation


def denoise(
    transformer: Any,
    modulation: Modulation,
    scheduler: Any,
    latents: Tensor,
    control: Tensor | None,
    text_position_ids: Tensor,
    places: Tensor,
    report: Callable[[int, Tensor, Tensor, Tensor], None],
) -> Tensor:
    """Packed noise -> packed latents. ``control`` is what a mode adds: packed latents of the map, beside each token's own.

    ``report(step, latents, velocity, sigma)`` after each step, with the latents before it.
    """
    for step, timestep in enumerate(scheduler.timesteps):
        modulation.show(step)
        # Text, time and places reach the transformer through the modulation's answers; what is passed here only has the right shape.
        velocity = transformer(
            hidden_states=latents if control is None else torch.cat([latents, control], dim=2),
            timestep=timestep.expand(1).to(latents.dtype),
            txt_ids=text_position_ids,
            img_ids=places,
            return_dict=False,
        )[0]
        seen, latents = latents, scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        report(step, seen, velocity, scheduler.sigmas[step])
    return latents
