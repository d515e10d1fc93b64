"""Cluttered scenes for the depth estimator: rooms, tables, streets and hills full of solids, figures and thin things, sampled from a seed.

They look like nothing in particular. What they share with photographs is what says how near a thing is: it hides what is behind it, stands on
what is under it, looks smaller far away, and pales in haze; patterns and shadows say nothing about it, so they are everywhere.
World coordinates: x right, y up, z ahead, in metres; the camera stands above the origin, and the ground is y = 0.
"""

import colorsys
import math
from dataclasses import dataclass, field

import numpy as np

KINDS = ("ellipsoid", "box", "cylinder", "cone")
PATTERNS = ("plain", "clouds", "patches", "stripes", "checks", "grid", "spots")


@dataclass(frozen=True)
class Material:
    colours: np.ndarray  # (2, 3), RGB in 0-1
    pattern: str
    scale: float  # multiplies the pattern's coordinates, in 1/m
    waves: np.ndarray  # (8, 3), directions and frequencies of the pattern's waves
    phases: np.ndarray  # (8,)
    grain: float  # strength of a fine noise
    shine: float


@dataclass(frozen=True)
class Solid:
    """A shape that fills -1 to 1 in its own coordinates, or the plane y = 0 of them."""

    kind: str  # one of KINDS, or "plane"
    centre: np.ndarray  # (3,)
    half: np.ndarray  # (3,), half widths
    axes: np.ndarray  # (3, 3), its own axes as rows
    material: Material


@dataclass
class Clutter:
    solids: list[Solid] = field(default_factory=list)
    hills: np.ndarray | None = None  # (5, 4): x and z frequency, phase, height of each wave of the ground
    camera: np.ndarray = field(default_factory=lambda: np.eye(3))  # its axes as columns
    eye: float = 1.6  # height above the ground
    zoom: float = 1.5  # focal length divided by half of the image's shorter side
    sun: np.ndarray = field(default_factory=lambda: np.array([0.3, 0.8, -0.5]))
    sunlight: np.ndarray = field(default_factory=lambda: np.ones(3))
    ambient: np.ndarray = field(default_factory=lambda: np.full(3, 0.4))
    sky: np.ndarray = field(default_factory=lambda: np.ones((2, 3)))  # at the horizon, and above
    haze: float = 0.0  # share of the light that is lost in a metre


def sample(seed: int) -> Clutter:
    rng = np.random.default_rng((20, seed))
    clutter = Clutter(
        zoom=float(rng.uniform(1.1, 3.0)),
        sun=_unit(np.array([rng.normal(), abs(rng.normal()) + 0.3, -abs(rng.normal())])),
        sunlight=rng.uniform(0.2, 0.9) * _tint(rng),
        ambient=rng.uniform(0.3, 0.75) * _tint(rng),
        sky=np.stack([_colour(rng, 0.4), _colour(rng, 0.6)]) * rng.uniform(0.3, 1) + rng.uniform(0, 0.3),
        haze=float(rng.choice([0, 0.005, 0.02, 0.06])),
    )
    pitch, roll = rng.normal(0.08, 0.12), rng.normal(0, 0.04)
    kind = rng.choice(["room", "table", "street", "hills", "backdrop"], p=[0.25, 0.25, 0.15, 0.1, 0.25])
    if kind == "room":
        _room(clutter, rng)
    elif kind == "table":
        pitch = rng.uniform(0.15, 0.9)
        _table(clutter, rng)
    elif kind == "street":
        _street(clutter, rng)
    elif kind == "hills":
        _hills(clutter, rng)
    else:
        _backdrop(clutter, rng)
    clutter.camera = _turned("x", pitch) @ _turned("z", roll)
    return clutter


def _room(clutter: Clutter, rng: np.random.Generator) -> None:
    clutter.eye, height = rng.uniform(0.8, 1.9), rng.uniform(2.3, 4)
    wide, long, yaw = rng.uniform(1.5, 5), rng.uniform(3, 10), _turned("y", rng.normal(0, 0.5))
    wall = _material(rng)
    _plane(clutter, (0, 0, 0), (0, 1, 0), _material(rng))
    _plane(clutter, (0, height, 0), (0, -1, 0), _material(rng))
    for offset, normal in (((-wide, 0, 0), (1, 0, 0)), ((wide, 0, 0), (-1, 0, 0)), ((0, 0, long), (0, 0, -1))):
        _plane(clutter, yaw @ np.array(offset), yaw @ np.array(normal), wall if rng.random() < 0.6 else _material(rng))
    for _ in range(rng.integers(0, 5)):  # pictures and windows: flat, whatever is on them
        at = yaw @ np.array([rng.uniform(-wide, wide) * 0.8, rng.uniform(1, height - 0.4), long - 0.02])
        half = np.array([rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.7), 0.02])
        clutter.solids.append(Solid("box", at, half, yaw.T, _material(rng)))
    for _ in range(rng.integers(1, 10)):
        away = rng.uniform(1, long * 0.95)
        _stand(clutter, rng, np.clip(rng.normal(0, 0.4) * away, -wide, wide) * 0.9, away, rng.uniform(0.2, 0.9))


def _table(clutter: Clutter, rng: np.random.Generator) -> None:
    """Things on a table, seen from nearby; behind its edge may be a floor or a wall."""
    clutter.eye = rng.uniform(0.3, 0.9)
    edge = rng.uniform(0.8, 3)
    wood = _material(rng, 3)
    if rng.random() < 0.5:
        _plane(clutter, (0, 0, 0), (0, 1, 0), wood)
    else:
        clutter.solids.append(Solid("box", np.array([0, -0.03, edge / 2]), np.array([3, 0.03, edge / 2 + 0.5]), np.eye(3), wood))
        _plane(clutter, (0, -0.75, 0), (0, 1, 0), _material(rng))
    if rng.random() < 0.7:
        _plane(clutter, (0, 0, edge + rng.uniform(0, 3)), _unit(np.array([rng.normal(0, 0.3), 0, -1])), _material(rng))
    for _ in range(rng.integers(1, 12)):
        away = rng.uniform(0.3, max(0.5, edge * 0.9))
        _stand(clutter, rng, rng.normal(0, 0.35) * away, away, rng.uniform(0.04, 0.2))


def _street(clutter: Clutter, rng: np.random.Generator) -> None:
    clutter.eye = rng.uniform(1.2, 4)
    _plane(clutter, (0, 0, 0), (0, 1, 0), _material(rng))
    for _ in range(rng.integers(0, 9)):  # buildings
        half = np.array([rng.uniform(2, 9), rng.uniform(2, 14), rng.uniform(2, 9)])
        side = rng.choice([-1, 1]) * (rng.uniform(2, 14) + half[0])
        at = np.array([side, half[1], rng.uniform(8, 70)])
        turn = _turned("y", rng.normal(0, 0.3))
        clutter.solids.append(Solid("box", at, half, turn, _material(rng, pattern=rng.choice(["grid", "stripes", "checks", "plain"]))))
        if rng.random() < 0.4:
            roof = at + [0, half[1] * 1.3, 0]
            clutter.solids.append(Solid(rng.choice(["cone", "box"]), roof, half * [1.1, 0.3, 1.1], turn, _material(rng)))
    for _ in range(rng.integers(1, 12)):
        away = 2 * np.exp(rng.uniform(0, 2.8))
        _stand(clutter, rng, rng.normal(0, 0.4) * away, away, rng.uniform(0.3, 1.4))


def _hills(clutter: Clutter, rng: np.random.Generator) -> None:
    clutter.eye = rng.uniform(1.5, 8)
    frequencies = rng.uniform(0.02, 0.6, (5, 1)) * rng.normal(size=(5, 2))
    heights = 0.25 / (0.4 + np.abs(frequencies).sum(1, keepdims=True)) * rng.uniform(0, 0.8, (5, 1))
    clutter.hills = np.concatenate([frequencies, rng.uniform(0, 6.3, (5, 1)), heights], 1)
    _plane(clutter, (0, 0, 0), (0, 1, 0), _material(rng))
    for _ in range(rng.integers(2, 14)):
        away = 2.5 * np.exp(rng.uniform(0, 2.8))
        _stand(clutter, rng, rng.normal(0, 0.45) * away, away, rng.uniform(0.3, 2.0))


def _backdrop(clutter: Clutter, rng: np.random.Generator) -> None:
    """A portrait: one thing large and close, and something behind it, often with no ground in sight."""
    clutter.eye = 0.0 if rng.random() < 0.6 else rng.uniform(0.2, 0.8)
    if clutter.eye:
        _plane(clutter, (0, 0, 0), (0, 1, 0), _material(rng))
    if rng.random() < 0.7:
        _plane(clutter, (0, 0, rng.uniform(1.5, 8)), _unit(np.array([rng.normal(0, 0.4), 0, -1])), _material(rng))
    for _ in range(rng.integers(0, 6)):
        _stand(clutter, rng, rng.normal(0, 1), rng.uniform(1.8, 6), rng.uniform(0.2, 0.8), rng.uniform(-0.8, 0.3))
    for _ in range(rng.integers(1, 3)):
        size = rng.uniform(0.2, 0.6)
        _stand(clutter, rng, rng.normal(0, 0.2), rng.uniform(0.7, 1.6), size, -size * rng.uniform(0.6, 1.6))


def _stand(clutter: Clutter, rng: np.random.Generator, x: float, z: float, size: float, y: float = 0.0) -> None:
    """Something of about this half height that stands at a place: a solid, a thin thing, a figure, an animal, a tree, a stool, a heap."""
    at, yaw = np.array([x, y, z]), _turned("y", rng.uniform(0, 6.3))
    material, other = _material(rng, 1 / size), _material(rng, 1 / size)

    def add(kind: str, offset, half, axes: np.ndarray = yaw, of: Material = material) -> None:
        clutter.solids.append(Solid(kind, at + yaw.T @ (np.array(offset) * size), np.array(half) * size, axes, of))

    form = rng.choice(["solid", "solid", "thin", "figure", "animal", "tree", "stool", "heap"])
    if form == "solid":
        half = rng.uniform(0.3, 1.1, 3)
        tilted = _turned("x", rng.uniform(0, 3)) @ yaw if rng.random() < 0.2 else yaw
        add(str(rng.choice(KINDS)), (0, half[1], 0), half, tilted)
        if rng.random() < 0.3:
            add(str(rng.choice(KINDS)), (0, 2 * half[1] + 0.3, 0), half * 0.5, of=other)
    elif form == "thin":
        for _ in range(rng.integers(1, 5)):
            lean = _turned("x", rng.normal(0, 0.15)) @ _turned("z", rng.normal(0, 0.15)) @ yaw
            add("cylinder", (rng.normal(0, 0.7), 1.2, rng.normal(0, 0.7)), (rng.uniform(0.02, 0.07), 1.3, rng.uniform(0.02, 0.07)), lean)
    elif form == "figure":
        add("ellipsoid", (0, 1.75, 0), (0.17, 0.22, 0.19), of=other)
        add("ellipsoid", (0, 1.2, 0), (0.32, 0.42, 0.2))
        for side in (-1, 1):
            add("ellipsoid", (side * 0.36, 1.2 + rng.normal(0, 0.1), rng.normal(0, 0.12)), (0.09, 0.4, 0.1))
            add("ellipsoid", (side * 0.15, 0.45, rng.normal(0, 0.1)), (0.13, 0.5, 0.13), of=other if rng.random() < 0.5 else material)
    elif form == "animal":
        add("ellipsoid", (0, 0.75, 0), (0.75, 0.35, 0.33))
        add("ellipsoid", (0.75, 1.1, 0), (0.3, 0.28, 0.26))
        for side in (-1, 1):
            add("cone", (0.75, 1.45, side * 0.15), (0.09, 0.16, 0.07))
            add("cylinder", (0.5, 0.25, side * 0.2), (0.08, 0.3, 0.08))
            add("cylinder", (-0.5, 0.25, side * 0.2), (0.08, 0.3, 0.08))
        add("ellipsoid", (-0.9, 1.0, 0), (0.07, 0.4, 0.07), _turned("z", 0.6) @ yaw)
    elif form == "tree":
        add("cylinder", (0, 0.8, 0), (0.1, 0.9, 0.1))
        for _ in range(rng.integers(2, 8)):
            add("ellipsoid", (rng.normal(0, 0.35), rng.uniform(1.3, 2.3), rng.normal(0, 0.35)), rng.uniform(0.25, 0.6, 3), of=other)
    elif form == "stool":
        add("box", (0, 1.0, 0), (0.6, 0.07, 0.6))
        for i in range(4):
            add("box", ((i % 2 - 0.5) * 1.0, 0.5, (i // 2 - 0.5) * 1.0), (0.06, 0.5, 0.06))
        if rng.random() < 0.5:
            add("box", (0, 1.6, 0.55), (0.6, 0.6, 0.06), of=other)
    else:
        for _ in range(rng.integers(4, 14)):
            half = rng.uniform(0.1, 0.45, 3)
            add(str(rng.choice(KINDS)), (rng.normal(0, 0.6), rng.uniform(0.1, 0.7), rng.normal(0, 0.6)), half, of=_material(rng, 1 / size))


def _plane(clutter: Clutter, point, normal, material: Material) -> None:
    up = np.asarray(normal, float)
    side = _unit(np.cross(up, (0.3, 0.5, 0.8)))
    axes = np.stack([side, up, np.cross(side, up)])
    clutter.solids.append(Solid("plane", np.asarray(point, float), np.ones(3), axes, material))


def _material(rng: np.random.Generator, scale: float = 1.0, pattern: str | None = None) -> Material:
    first = _colour(rng)
    second = _colour(rng) if rng.random() < 0.6 else np.clip(first * rng.uniform(0.5, 1.5), 0, 1)
    frequencies = np.exp(rng.uniform(0, 2.2, (8, 1)))
    return Material(
        colours=np.stack([first, second]),
        pattern=pattern or str(rng.choice(PATTERNS)),
        scale=float(scale * np.exp(rng.normal(0.5, 0.7))),
        waves=frequencies * _unit(rng.normal(size=(8, 3))),
        phases=rng.uniform(0, 6.3, 8),
        grain=float(rng.choice([0, 0.03, 0.1, 0.2])),
        shine=float(rng.choice([0, 0, 0.2, 0.6])),
    )


def _colour(rng: np.random.Generator, value: float = 0.1) -> np.ndarray:
    """RGB in 0-1: mostly the dull colours of real things."""
    saturation = rng.uniform(0.4, 1) if rng.random() < 0.3 else rng.uniform(0, 0.4)
    hue = rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0.03, 0.14)  # skin, wood, stone, earth
    return np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(value, 1)))


def _tint(rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.uniform(-0.12, 0.12) * np.array([1.0, 0.2, -1.0])


def _turned(axis: str, angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    first, second = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)
