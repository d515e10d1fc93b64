"""Paints, floors, and the light at noon, at sunset and at night. Colours are RGB in 0–1, as shown on a screen.

Floor textures are sums of a few sines whose weight falls with distance: cheap, smooth, and without moiré at the horizon.
"""

import torch
from torch import Tensor

PAINTS = {
    "red": (0.88, 0.09, 0.08),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.98, 0.86, 0.10),
    "orange": (0.98, 0.48, 0.04),
    "purple": (0.52, 0.14, 0.72),
    "white": (0.95, 0.95, 0.95),
    "black": (0.07, 0.07, 0.075),
}
# sun: direct light; ambient: light from all sides; high and low: the sky above and at the horizon (low is the fog's colour too).
# Sunset and night stay close to grey: otherwise a yellow cone would look orange and a white one blue.
LIGHTS = {
    "noon": {"sun": (0.72, 0.70, 0.66), "ambient": (0.36, 0.38, 0.42), "high": (0.28, 0.52, 0.90), "low": (0.76, 0.87, 0.97)},
    "sunset": {"sun": (0.74, 0.60, 0.46), "ambient": (0.38, 0.36, 0.39), "high": (0.38, 0.28, 0.52), "low": (0.99, 0.60, 0.30)},
    "night": {"sun": (0.50, 0.53, 0.62), "ambient": (0.26, 0.28, 0.35), "high": (0.02, 0.03, 0.10), "low": (0.09, 0.12, 0.26)},
}
SUN_ELEVATION = {"noon": (0.9, 1.2), "sunset": (0.35, 0.5), "night": (0.7, 1.1)}  # radians above the horizon


# Floors: world x and z, a fade that falls from 1 with distance, and the scene's phase -> red, green and blue.


def gray(x: Tensor, z: Tensor, fade: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    check = torch.sign(torch.sin(x * 3.2 + phase) * torch.sin(z * 3.2 + 2 * phase))
    tone = 0.56 + 0.11 * fade * check
    return tone, tone, tone * 1.01


def wooden(x: Tensor, z: Tensor, fade: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    plank = torch.floor(x * 1.4 + phase)
    within = x * 1.4 + phase - plank
    tint = torch.sin(plank * 12.9898 + phase) * 0.09
    grain = 0.035 * torch.sin(within * 19 + torch.sin(z * 1.3 + plank * 5) * 1.5)
    gap = torch.where((within < 0.05), 0.22, 0.0)
    tone = 1 + fade * (tint + grain - gap)
    return 0.66 * tone, 0.42 * tone, 0.23 * tone


def grassy(x: Tensor, z: Tensor, fade: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    tufts = torch.sin(x * 7.1 + 2.0 * torch.sin(z * 3.3 + phase)) * torch.sin(z * 6.3 + 2.0 * torch.sin(x * 2.9 + phase))
    broad = torch.sin(x * 0.9 + phase) * torch.sin(z * 1.1 - phase)
    tone = 1 + fade * (0.13 * tufts + 0.10 * broad)
    return 0.30 * tone + 0.04 * fade * broad, 0.55 * tone, 0.17 * tone


def sandy(x: Tensor, z: Tensor, fade: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    ripple = torch.sin(z * 5.5 + 1.2 * torch.sin(x * 0.9 + phase) + 0.5 * x)
    tone = 1 + fade * (0.05 * ripple + 0.04 * torch.sin(x * 1.7 + z * 0.8 + phase))
    return 0.88 * tone, 0.76 * tone, 0.53 * tone


def snowy(x: Tensor, z: Tensor, fade: Tensor, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    drift = torch.sin(x * 1.1 + torch.sin(z * 0.9 + phase)) * torch.sin(z * 1.4 + phase) * fade
    return 0.91 + 0.05 * drift, 0.94 + 0.04 * drift, 0.98 + 0.02 * drift


FLOORS = {"gray": gray, "wooden": wooden, "grassy": grassy, "sandy": sandy, "snowy": snowy}
