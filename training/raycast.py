"""Colour and depth along rays through a batch of scenes: the inner loop of the renderer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training import materials
from training.solids import EPSILON, FAR

SKY, FLOOR = -2, -1  # what a ray meets, where it meets no object

FOG_FROM, FOG_LENGTH = 9.0, 16.0  # world units
SHADOW = 0.85  # the share of the sun's light that a shadow takes away


@dataclass(frozen=True)
class Group:
    """The objects of one shape that stand at one index in their scenes: they are intersected together."""

    rows: Tensor  # their scenes' rows in the batch
    index: int  # in Scene.objects
    intersect: Callable
    pose: tuple[Tensor, ...]  # x, z, size and yaw, each (rows, 1)
    paint: Tensor  # (rows, 3)


@dataclass(frozen=True)
class World:
    """A batch of B scenes as tensors."""

    eye: tuple[Tensor, ...]  # x, y, z, each (B, 1)
    sun: tuple[Tensor, ...]  # the same
    light: dict[str, Tensor]  # the parts of materials.LIGHTS, each (B, 3)
    floors: dict[str, Tensor]  # by floor, the rows of the batch that have it
    phase: Tensor  # (B, 1)
    groups: list[Group]


def cast(world: World, dx: Tensor, dy: Tensor, dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rays (B, N) -> colour (B, 3, N) in 0–1, depth (B, N), and the surface (B, N): SKY, FLOOR, or the index of an object."""
    eye, sun = world.eye, world.sun
    # 1. What each ray meets first.
    downwards = dy < -1e-5
    depth = torch.where(downwards, -eye[1] / torch.where(downwards, dy, -1.0), FAR).clamp_max(FAR)
    surface = torch.where(depth < FAR, FLOOR, SKY)
    nx, ny, nz = torch.zeros_like(dx), torch.ones_like(dx), torch.zeros_like(dx)
    red, green, blue = torch.zeros_like(dx), torch.zeros_like(dx), torch.zeros_like(dx)
    for group in world.groups:
        rows = group.rows
        ray = (dx[rows], dy[rows], dz[rows])
        t, ax, ay, az = group.intersect(tuple(e[rows] for e in eye), ray, *group.pose)
        old = depth[rows]
        nearer = t < old
        depth[rows] = torch.where(nearer, t, old)
        surface[rows] = torch.where(nearer, group.index, surface[rows])
        paint = group.paint
        for plane, value in ((nx, ax), (ny, ay), (nz, az), (red, paint[:, :1]), (green, paint[:, 1:2]), (blue, paint[:, 2:])):
            plane[rows] = torch.where(nearer, value, plane[rows])
    px, py, pz = dx * depth, eye[1] + dy * depth, eye[2] + dz * depth
    distance = depth * torch.sqrt(dx * dx + dy * dy + dz * dz)
    # 2. The floor's own colour.
    on_floor = surface == FLOOR
    fade = torch.exp(-0.09 * distance)
    for name, rows in world.floors.items():
        tone = materials.FLOORS[name](px[rows], pz[rows], fade[rows], world.phase[rows])
        for plane, value in zip((red, green, blue), tone):
            plane[rows] = torch.where(on_floor[rows], value, plane[rows])
    # 3. Shadows: a sharp one from the sun, and a soft darkening of the floor around each object.
    shade = torch.zeros_like(dx)
    soft = torch.ones_like(dx)
    lifted = (px + nx * 4 * EPSILON, py + ny * 4 * EPSILON, pz + nz * 4 * EPSILON)
    for group in world.groups:
        rows = group.rows
        origin = tuple(plane[rows] for plane in lifted)
        blocked = group.intersect(origin, tuple(s[rows] for s in sun), *group.pose)[0] < FAR
        shade[rows] = torch.where(blocked, SHADOW, shade[rows])
        x, z, size, _ = group.pose
        apart = ((origin[0] - x) ** 2 + (origin[2] - z) ** 2) / (size * size)
        soft[rows] = soft[rows] * torch.where(on_floor[rows], 1 - 0.45 / (0.6 + apart * apart), 1.0)
    # 4. Light: the sun, the sky from above, a highlight.
    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
    lit = facing.clamp_min(0) * (1 - shade)
    around = (0.72 + 0.28 * ny) * soft
    norm = torch.rsqrt(dx * dx + dy * dy + dz * dz)
    gloss = facing * 2
    mirror = (gloss * nx - sun[0]) * dx + (gloss * ny - sun[1]) * dy + (gloss * nz - sun[2]) * dz
    shine = torch.where(surface >= 0, 0.4 * (-mirror * norm).clamp_min(0) ** 24 * (1 - shade), 0.0)
    # 5. Fog, and the sky behind everything.
    fog = 1 - torch.exp(-((distance - FOG_FROM).clamp_min(0) / FOG_LENGTH))
    rise = (dy * norm * 2.2).clamp(0, 1)
    light, sky = world.light, surface == SKY
    colour = torch.empty(dx.shape[0], 3, dx.shape[1], device=dx.device)
    for i, plane in enumerate((red, green, blue)):
        direct, ambient, high, low = (light[part][:, i : i + 1] for part in ("sun", "ambient", "high", "low"))
        lit_colour = plane * (direct * lit * 1.15 + ambient * around) * 1.05 + shine * direct
        lit_colour = lit_colour + (low - lit_colour) * fog
        colour[:, i] = torch.where(sky, low + (high - low) * rise, lit_colour)
    return colour.clamp_(0, 1), depth, surface
