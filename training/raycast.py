"""Colour and depth along rays through a batch of scenes: the inner loop of the renderer."""

import torch
from torch import Tensor

from training import materials
from training.solids import FAR, NEAR

FOG_FROM, FOG_LENGTH = 9.0, 16.0  # world units
SHADOW = 0.85  # of the sun's light that a shadow takes


def cast(world: dict, dx: Tensor, dy: Tensor, dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rays (B, N) -> colour (B, 3, N) in 0–1, depth (B, N), and what was met (B, N): -2 sky, -1 floor, else the slot."""
    eye, sun = world["eye"], world["sun"]
    # 1. What each ray meets first.
    down = dy < -1e-5
    depth = torch.where(down, -eye[1] / torch.where(down, dy, -1.0), FAR).clamp_max(FAR)
    met = torch.where(depth < FAR, -1, -2)
    nx, ny, nz = torch.zeros_like(dx), torch.ones_like(dx), torch.zeros_like(dx)
    red, green, blue = torch.zeros_like(dx), torch.zeros_like(dx), torch.zeros_like(dx)
    for thing in world["slots"]:
        rows = thing["rows"]
        ray = (dx[rows], dy[rows], dz[rows])
        t, ax, ay, az = thing["hit"](tuple(e[rows] for e in eye), ray, *thing["place"])
        old = depth[rows]
        nearer = t < old
        depth[rows] = torch.where(nearer, t, old)
        met[rows] = torch.where(nearer, thing["slot"], met[rows])
        paint = thing["paint"]
        for plane, value in ((nx, ax), (ny, ay), (nz, az), (red, paint[:, :1]), (green, paint[:, 1:2]), (blue, paint[:, 2:])):
            plane[rows] = torch.where(nearer, value, plane[rows])
    px, py, pz = dx * depth, eye[1] + dy * depth, eye[2] + dz * depth
    far = depth * torch.sqrt(dx * dx + dy * dy + dz * dz)
    # 2. The floor's own colour.
    on_floor = met == -1
    fade = torch.exp(-0.09 * far)
    for name, rows in world["floors"].items():
        tone = materials.FLOORS[name](px[rows], pz[rows], fade[rows], world["phase"][rows])
        for plane, value in zip((red, green, blue), tone):
            plane[rows] = torch.where(on_floor[rows], value, plane[rows])
    # 3. Shadows: sharp ones from the sun, and a soft darkening of the floor where a thing stands.
    shade = torch.zeros_like(dx)
    soft = torch.ones_like(dx)
    lift = (px + nx * 4 * NEAR, py + ny * 4 * NEAR, pz + nz * 4 * NEAR)
    for thing in world["slots"]:
        rows = thing["rows"]
        origin = tuple(plane[rows] for plane in lift)
        blocked = thing["hit"](origin, tuple(s[rows] for s in sun), *thing["place"])[0] < FAR
        shade[rows] = torch.where(blocked, SHADOW, shade[rows])
        x, z, size, _ = thing["place"]
        apart = ((origin[0] - x) ** 2 + (origin[2] - z) ** 2) / (size * size)
        soft[rows] = soft[rows] * torch.where(on_floor[rows], 1 - 0.45 / (0.6 + apart * apart), 1.0)
    # 4. Light: the sun, the sky from above, a highlight.
    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
    lit = facing.clamp_min(0) * (1 - shade)
    around = (0.72 + 0.28 * ny) * soft
    norm = torch.rsqrt(dx * dx + dy * dy + dz * dz)
    gloss = facing * 2
    mirror = (gloss * nx - sun[0]) * dx + (gloss * ny - sun[1]) * dy + (gloss * nz - sun[2]) * dz
    shine = torch.where(met >= 0, 0.4 * (-mirror * norm).clamp_min(0) ** 24 * (1 - shade), 0.0)
    # 5. Fog, and the sky behind everything.
    fog = 1 - torch.exp(-((far - FOG_FROM).clamp_min(0) / FOG_LENGTH))
    rise = (dy * norm * 2.2).clamp(0, 1)
    light, sky = world["light"], met == -2
    colour = torch.empty(dx.shape[0], 3, dx.shape[1], device=dx.device)
    for i, plane in enumerate((red, green, blue)):
        direct, ambient, high, low = (light[part][:, i : i + 1] for part in ("sun", "ambient", "high", "low"))
        surface = plane * (direct * lit * 1.15 + ambient * around) * 1.05 + shine * direct
        surface = surface + (low - surface) * fog
        colour[:, i] = torch.where(sky, low + (high - low) * rise, surface)
    return colour.clamp_(0, 1), depth, met
