"""Small three-dimensional scenes: sampled from a seed, rendered with exact depth, on CPU or CUDA.

The renderer is an analytic ray caster, batched over scenes of one image size. Batches of about 8 stay in a CPU's cache and run fastest there.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flux_demo.modes import DEFAULT_SIZES
from training import materials, solids
from training.raycast import Group, World, cast

SHAPES = ("sphere", "cube", "cylinder", "cone")  # the order of solids.INTERSECT
COLOURS = tuple(materials.PAINTS)
FLOORS = tuple(materials.FLOORS)
LIGHTS = tuple(materials.LIGHTS)
SIZES = tuple((size.width // 4, size.height // 4) for size in DEFAULT_SIZES)  # the mini's, as (width, height)
SQUARE = SIZES[0]


@dataclass(frozen=True)
class SceneObject:
    shape: str
    colour: str
    x: float  # world units, to the right
    z: float  # away from the viewer
    size: float  # a sphere's radius
    yaw: float  # radians; visible on a cube only


@dataclass(frozen=True)
class Scene:
    objects: tuple[SceneObject, ...]  # from left to right as seen
    floor: str
    light: str
    camera: tuple[float, float, float]  # height above the floor, distance, height of the point it looks at
    zoom: float  # focal length divided by half of the image's height
    sun: tuple[float, float, float]  # unit vector towards the light
    phase: float  # shifts the floor's texture

    def mirrored(self) -> "Scene":
        """The scene whose image is this one's, flipped left to right (except for the floor's texture)."""
        objects = tuple(replace(each, x=-each.x, yaw=-each.yaw) for each in reversed(self.objects))
        return replace(self, objects=objects, sun=(-self.sun[0], *self.sun[1:]))


def sample(seed: int, width: int, height: int, count: int | None = None) -> Scene:
    """The scene of this seed for images of this shape, with `count` objects, or one to three of them. Their order is left to right."""
    rng = random.Random(f"scene {seed} {width}x{height}")
    count = count or rng.choices((1, 2, 3), (4, 4, 2))[0]
    size_range = {1: (0.6, 0.9), 2: (0.55, 0.8), 3: (0.5, 0.68)}[count]
    sizes = [rng.uniform(*size_range) for _ in range(count)]
    x = [0.0]
    for left, right in zip(sizes, sizes[1:]):
        x.append(x[-1] + left + right + rng.uniform(0.1, 0.7))
    middle = (x[0] + x[-1]) / 2 + rng.uniform(-0.7, 0.7) / count
    colours = [rng.choice(COLOURS) for _ in range(count)]
    if rng.random() < 0.9:
        colours = rng.sample(COLOURS, count)
    objects = tuple(
        SceneObject(rng.choice(SHAPES), colour, at - middle, rng.uniform(-0.7, 0.7), size, rng.uniform(0.25, 1.3))
        for colour, at, size in zip(colours, x, sizes)
    )
    light = rng.choice(LIGHTS)
    elevation, azimuth = rng.uniform(*materials.SUN_ELEVATION[light]), rng.uniform(-1.2, 1.2)
    level = (1 - math.sin(elevation) ** 2) ** 0.5
    sun = (level * math.sin(azimuth), math.sin(elevation), -level * (1 - math.sin(azimuth) ** 2) ** 0.5)
    camera = (rng.uniform(1.1, 3.0), rng.uniform(5.0, 7.0), rng.uniform(0.5, 0.9))
    zoom = min(rng.uniform(2.4, 4.4), _closest_zoom(objects, camera, width / height))
    return Scene(objects, rng.choice(FLOORS), light, camera, zoom, sun, rng.uniform(0, 6.28))


def render(scenes: Sequence[Scene], width: int, height: int) -> tuple[Tensor, Tensor]:
    """RGB images (B, 3, height, width) in 0–1, and depth (B, height, width) along the view axis; the sky is at solids.FAR."""
    rays = _rays(scenes, width, height)
    world = _world(scenes)
    colour, depth, surface = cast(world, *rays)
    image = colour.view(len(scenes), 3, height, width)
    _antialias(image, surface.view(len(scenes), height, width), world, rays, width, height)
    return image, depth.view(len(scenes), height, width)


def surfaces(scenes: Sequence[Scene], width: int, height: int, device: str | torch.device = "cpu") -> Tensor:
    """What is seen at each pixel's centre, (B, height, width): raycast.SKY, raycast.FLOOR, or the index of the object."""
    return cast(_world(scenes, device), *_rays(scenes, width, height, device))[2].view(len(scenes), height, width)


def nearness(depth: Tensor) -> Tensor:
    """Depth (..., H, W) -> the depth map that FLUX follows: inverse depth, where near is 1 and the farthest pixel is 0."""
    inverse = 1 / depth
    low, high = inverse.amin((-2, -1), keepdim=True), inverse.amax((-2, -1), keepdim=True)
    return (inverse - low) / (high - low).clamp_min(1e-6)


def _forward(camera: tuple[float, float, float]) -> tuple[float, float]:
    """The camera's viewing direction as (y, z); it never turns left or right."""
    height, distance, target = camera
    length = ((height - target) ** 2 + distance**2) ** 0.5
    return (target - height) / length, distance / length


def _closest_zoom(objects: Sequence[SceneObject], camera: tuple[float, float, float], aspect: float) -> float:
    """The zoom at which every object is just inside the image, with a margin of a twelfth."""
    fy, fz = _forward(camera)
    zoom = 100.0
    for each in objects:
        for dx in (-1.1, 1.1):
            for dz in (-0.9, 0.9):
                for y in (0.0, 2.0):
                    px, py, pz = each.x + dx * each.size, y * each.size - camera[0], each.z + dz * each.size + camera[1]
                    ahead, up = py * fy + pz * fz, py * fz - pz * fy
                    zoom = min(zoom, 0.92 * aspect * ahead / max(abs(px), 1e-3), 0.92 * ahead / max(abs(up), 1e-3))
    return zoom


def _rays(scenes: Sequence[Scene], width: int, height: int, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Directions (B, N) each for x, y, z. Their component along the view axis is 1, so the distance of a hit is its depth."""
    v = 1 - (torch.arange(height, device=device) + 0.5) * 2 / height
    u = ((torch.arange(width, device=device) + 0.5) * 2 / width - 1) * (width / height)
    zoom = torch.tensor([[scene.zoom] for scene in scenes], device=device)
    forward = torch.tensor([_forward(scene.camera) for scene in scenes], device=device)
    u, v = u.repeat(height)[None] / zoom, v.repeat_interleave(width)[None] / zoom
    return u, forward[:, :1] + v * forward[:, 1:], forward[:, 1:] - v * forward[:, :1]


def _world(scenes: Sequence[Scene], device: str | torch.device = "cpu") -> World:
    """The scenes of a batch as tensors."""

    def column(values) -> Tensor:
        return torch.tensor([[float(value)] for value in values], device=device)

    groups = []
    for index in range(max(len(scene.objects) for scene in scenes)):
        for kind, shape in enumerate(SHAPES):
            rows = [i for i, scene in enumerate(scenes) if index < len(scene.objects) and scene.objects[index].shape == shape]
            if rows:
                chosen = [scenes[i].objects[index] for i in rows]
                groups.append(
                    Group(
                        rows=torch.tensor(rows, device=device),
                        index=index,
                        intersect=solids.INTERSECT[kind],
                        pose=tuple(column(getattr(each, name) for each in chosen) for name in ("x", "z", "size", "yaw")),
                        paint=torch.tensor([materials.PAINTS[each.colour] for each in chosen], device=device),
                    )
                )
    floors = {name: torch.tensor([i for i, s in enumerate(scenes) if s.floor == name], device=device) for name in FLOORS}
    return World(
        eye=(column(0 for _ in scenes), column(s.camera[0] for s in scenes), column(-s.camera[1] for s in scenes)),
        sun=tuple(column(s.sun[axis] for s in scenes) for axis in range(3)),
        light={part: torch.tensor([materials.LIGHTS[s.light][part] for s in scenes], device=device) for part in materials.LIGHTS["noon"]},
        floors={name: rows for name, rows in floors.items() if len(rows)},
        phase=column(s.phase for s in scenes),
        groups=groups,
    )


def _antialias(image: Tensor, surface: Tensor, world: World, rays, width: int, height: int) -> None:
    """Cast four rays through each pixel beside an outline or a sharp step of colour, and write their mean, in place."""
    step = torch.zeros_like(surface, dtype=torch.bool)
    for axis in (1, 2):
        size = image.shape[axis + 1] - 1
        first, second = image.narrow(axis + 1, 0, size), image.narrow(axis + 1, 1, size)
        sharp = ((first - second).abs().amax(1) > 0.07) | (surface.narrow(axis, 0, size) != surface.narrow(axis, 1, size))
        step.narrow(axis, 0, size).logical_or_(sharp)
        step.narrow(axis, 1, size).logical_or_(sharp)
    step = step.flatten(1)
    most = int(step.sum(1).max())
    if most == 0:
        return
    chosen = step.to(torch.uint8).topk(most, dim=1).indices  # all pixels to smooth, padded with others, whose colour does not change
    x, y, z = rays
    right = (x[:, 1] - x[:, 0])[:, None]
    down_y, down_z = (y[:, width] - y[:, 0])[:, None], (z[:, width] - z[:, 0])[:, None]
    x, y, z = (plane.gather(1, chosen) for plane in rays)
    total = torch.zeros(len(image), 3, most, device=image.device)
    for du, dv in ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375)):
        total += cast(world, x + du * right, y + dv * down_y, z + dv * down_z)[0]
    image.flatten(2).scatter_(2, chosen[:, None].expand(-1, 3, -1), total / 4)
