"""Small three-dimensional scenes: sampled from a seed, rendered with exact depth, on CPU or CUDA.

An analytic ray caster, batched over scenes of one picture size. Batches of about 8 stay in a CPU's cache and are fastest there.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training import materials, solids
from training.raycast import cast

SHAPES = ("sphere", "cube", "cylinder", "cone")  # the order of solids.HITS
COLOURS = tuple(materials.PAINTS)
FLOORS = tuple(materials.FLOORS)
LIGHTS = tuple(materials.LIGHTS)
# The app's seven sizes at a quarter of the side.
SIZES = ((256, 256), (336, 192), (192, 336), (304, 208), (208, 304), (288, 224), (224, 288))


@dataclass(frozen=True)
class Thing:
    shape: str
    colour: str
    x: float  # world units, to the right
    z: float  # away from the viewer
    size: float  # a sphere's radius
    yaw: float  # radians; only a cube shows it


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]  # from left to right as seen
    floor: str
    light: str
    camera: tuple[float, float, float]  # height above the floor, distance, height of what it looks at
    zoom: float  # focal length over half of the picture's height
    sun: tuple[float, float, float]  # unit vector towards the light
    phase: float  # shifts the floor's texture

    def mirrored(self) -> "Scene":
        """The scene whose picture is this one's, flipped left to right (but for the floor's texture)."""
        things = tuple(replace(thing, x=-thing.x, yaw=-thing.yaw) for thing in reversed(self.things))
        return replace(self, things=things, sun=(-self.sun[0], *self.sun[1:]))


def sample(seed: int, width: int, height: int, count: int | None = None) -> Scene:
    """The scene of this seed for pictures of this shape. `count` objects, or one to three. Left to right is truthful."""
    draw = random.Random(f"scene {seed} {width}x{height}")
    count = count or draw.choices((1, 2, 3), (4, 4, 2))[0]
    size_range = {1: (0.6, 0.9), 2: (0.55, 0.8), 3: (0.5, 0.68)}[count]
    sizes = [draw.uniform(*size_range) for _ in range(count)]
    x = [0.0]
    for left, right in zip(sizes, sizes[1:]):
        x.append(x[-1] + left + right + draw.uniform(0.1, 0.7))
    middle = (x[0] + x[-1]) / 2 + draw.uniform(-0.7, 0.7) / count
    colours = [draw.choice(COLOURS) for _ in range(count)]
    if draw.random() < 0.9:
        colours = draw.sample(COLOURS, count)
    things = tuple(
        Thing(draw.choice(SHAPES), colour, at - middle, draw.uniform(-0.7, 0.7), size, draw.uniform(0.25, 1.3))
        for colour, at, size in zip(colours, x, sizes)
    )
    light = draw.choice(LIGHTS)
    rise, turn = draw.uniform(*materials.SUN_HEIGHT[light]), draw.uniform(-1.2, 1.2)
    level = (1 - math.sin(rise) ** 2) ** 0.5
    sun = (level * math.sin(turn), math.sin(rise), -level * (1 - math.sin(turn) ** 2) ** 0.5)
    camera = (draw.uniform(1.1, 3.0), draw.uniform(5.0, 7.0), draw.uniform(0.5, 0.9))
    zoom = min(draw.uniform(2.4, 4.4), _widest_zoom(things, camera, width / height))
    return Scene(things, draw.choice(FLOORS), light, camera, zoom, sun, draw.uniform(0, 6.28))


def render(scenes: Sequence[Scene], width: int, height: int, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, height, width) in 0–1, RGB, and depth (B, height, width) along the view axis, sky at solids.FAR."""
    rays = _rays(scenes, width, height, device)
    world = _stacked(scenes, device)
    colour, depth, thing = cast(world, *rays)
    picture = colour.view(len(scenes), 3, height, width)
    _soften_edges(picture, thing.view(len(scenes), height, width), world, rays, width, height)
    return picture, depth.view(len(scenes), height, width)


def met(scenes: Sequence[Scene], width: int, height: int) -> Tensor:
    """What each pixel's middle shows (B, height, width): -2 the sky, -1 the floor, else the index of the thing."""
    return cast(_stacked(scenes, "cpu"), *_rays(scenes, width, height, "cpu"))[2].view(len(scenes), height, width)


def nearness(depth: Tensor) -> Tensor:
    """Depth (..., H, W) -> the depth map that FLUX follows: inverse, near is 1, the farthest pixel is 0."""
    inverse = 1 / depth
    low, high = inverse.amin((-2, -1), keepdim=True), inverse.amax((-2, -1), keepdim=True)
    return (inverse - low) / (high - low).clamp_min(1e-6)


def _view(camera: tuple[float, float, float]) -> tuple[float, float]:
    """The camera's forward direction as (y, z); it never turns left or right."""
    height, distance, target = camera
    length = ((height - target) ** 2 + distance**2) ** 0.5
    return (target - height) / length, distance / length


def _widest_zoom(things: Sequence[Thing], camera: tuple[float, float, float], aspect: float) -> float:
    """The zoom at which every thing is just inside the picture, with a margin of a twelfth."""
    fy, fz = _view(camera)
    zoom = 100.0
    for thing in things:
        for dx in (-1.1, 1.1):
            for dz in (-0.9, 0.9):
                for y in (0.0, 2.0):
                    px, py, pz = thing.x + dx * thing.size, y * thing.size - camera[0], thing.z + dz * thing.size + camera[1]
                    ahead, up = py * fy + pz * fz, py * fz - pz * fy
                    zoom = min(zoom, 0.92 * aspect * ahead / max(abs(px), 1e-3), 0.92 * ahead / max(abs(up), 1e-3))
    return zoom


def _rays(scenes: Sequence[Scene], width: int, height: int, device) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (B, N) each for x, y, z; their part along the view axis is 1, so a hit's distance is its depth."""
    v = 1 - (torch.arange(height, device=device) + 0.5) * 2 / height
    u = ((torch.arange(width, device=device) + 0.5) * 2 / width - 1) * (width / height)
    zoom = torch.tensor([[scene.zoom] for scene in scenes], device=device)
    view = torch.tensor([_view(scene.camera) for scene in scenes], device=device)
    u, v = u.repeat(height)[None] / zoom, v.repeat_interleave(width)[None] / zoom
    return u, view[:, :1] + v * view[:, 1:], view[:, 1:] - v * view[:, :1]


def _stacked(scenes: Sequence[Scene], device) -> dict:
    """Scenes as tensors: (B, 1) planes, and per slot of a thing the rows of the batch that have each shape."""

    def column(values) -> Tensor:
        return torch.tensor([[float(value)] for value in values], device=device)

    slots = []
    for slot in range(max(len(scene.things) for scene in scenes)):
        for kind, shape in enumerate(SHAPES):
            rows = [i for i, scene in enumerate(scenes) if slot < len(scene.things) and scene.things[slot].shape == shape]
            if rows:
                chosen = [scenes[i].things[slot] for i in rows]
                slots.append(
                    {
                        "rows": torch.tensor(rows, device=device),
                        "hit": solids.HITS[kind],
                        "slot": slot,
                        "place": tuple(column(getattr(t, name) for t in chosen) for name in ("x", "z", "size", "yaw")),
                        "paint": torch.tensor([materials.PAINTS[t.colour] for t in chosen], device=device),
                    }
                )
    floors = {name: torch.tensor([i for i, s in enumerate(scenes) if s.floor == name], device=device) for name in FLOORS}
    light = {part: torch.tensor([materials.LIGHTS[s.light][part] for s in scenes], device=device) for part in materials.LIGHTS["noon"]}
    return {
        "eye": (column(0 for _ in scenes), column(s.camera[0] for s in scenes), column(-s.camera[1] for s in scenes)),
        "sun": tuple(column(s.sun[axis] for s in scenes) for axis in range(3)),
        "phase": column(s.phase for s in scenes),
        "slots": slots,
        "floors": {name: rows for name, rows in floors.items() if len(rows)},
        "light": light,
    }


def _soften_edges(picture: Tensor, thing: Tensor, world: dict, rays, width: int, height: int) -> None:
    """Cast four rays through each pixel beside an outline or a sharp step of colour, and take their mean, in place."""
    step = torch.zeros_like(thing, dtype=torch.bool)
    for axis in (1, 2):
        size = picture.shape[axis + 1] - 1
        first, second = picture.narrow(axis + 1, 0, size), picture.narrow(axis + 1, 1, size)
        sharp = ((first - second).abs().amax(1) > 0.07) | (thing.narrow(axis, 0, size) != thing.narrow(axis, 1, size))
        step.narrow(axis, 0, size).logical_or_(sharp)
        step.narrow(axis, 1, size).logical_or_(sharp)
    step = step.flatten(1)
    most = int(step.sum(1).max())
    if most == 0:
        return
    chosen = step.to(torch.uint8).topk(most, dim=1).indices  # every pixel to soften, padded with others: same colour again
    x, y, z = rays
    right = (x[:, 1] - x[:, 0])[:, None]
    down_y, down_z = (y[:, width] - y[:, 0])[:, None], (z[:, width] - z[:, 0])[:, None]
    x, y, z = (plane.gather(1, chosen) for plane in rays)
    total = torch.zeros(len(picture), 3, most, device=picture.device)
    for du, dv in ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375)):
        total += cast(world, x + du * right, y + dv * down_y, z + dv * down_z)[0]
    picture.flatten(2).scatter_(2, chosen[:, None].expand(-1, 3, -1), total / 4)
