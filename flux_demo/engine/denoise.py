"""The loop: from noise to latents of an image; each step removes the noise that the transformer predicts.

Nothing in it waits for the device: previews are copied away while it works (see ``preview.PreviewReporter``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.progress import Step


def denoise(
    transformer: Any,
    modulation: PrecomputedModulation,
    scheduler: Any,
    latents: Tensor,
    control: Tensor | None,
    text_position_ids: Tensor,
    image_position_ids: Tensor,
    report: Callable[[int, Tensor, Tensor, Tensor], Step | None],
) -> Generator[Step, None, Tensor]:
    """Packed noise -> packed latents, the generator's value. ``control`` is what a mode adds: packed latents of the map, concatenated to each token's own.

    ``report(step, latents, velocity, sigma)`` after each step, with the latents before it; what it returns is yielded.
    """
    for step, timestep in enumerate(scheduler.timesteps):
        modulation.set_step(step)
        # Prompt, timestep and position ids reach the transformer through the precomputed outputs; what is passed here only has the right shape.
        velocity = transformer(
            hidden_states=latents if control is None else torch.cat([latents, control], dim=2),
            timestep=timestep.expand(1).to(latents.dtype),
            txt_ids=text_position_ids,
            img_ids=image_position_ids,
            return_dict=False,
        )[0]
        seen, latents = latents, scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if done := report(step, seen, velocity, scheduler.sigmas[step]):
            yield done
    return latents
