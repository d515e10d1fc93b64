"""The sigmas of a run: the share of noise at each step, from 1, pure noise, to 0, the image. Larger images spend more steps at high noise."""

from __future__ import annotations

from typing import Any


def set_schedule(scheduler: Any, steps: int, tokens: int, device: Any) -> None:
    """Set ``scheduler.timesteps`` (steps, in thousandths) and ``scheduler.sigmas`` (steps + 1, the last one 0) for an image of that many tokens."""
    import numpy as np

    sigmas = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, mu=shift(tokens, scheduler.config), device=device)
    scheduler.set_begin_index(0)  # otherwise the first step asks the device which one it is


def shift(tokens: int, config: Any) -> float:
    """diffusers' ``mu``, the shift of the schedule towards noise: linear in the image's tokens. The order of operations is diffusers' own."""
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - fewest)
    return tokens * slope + (low - slope * fewest)
