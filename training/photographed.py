"""Cluttered scenes as a camera shows them: RGB and exact depth, by casting a ray through each pixel."""

import cv2
import numpy as np

from training.clutter import Clutter, Material, Solid

FAR = 1e3  # metres; the sky's depth
CLOSEST = 0.05
MOST_SHADOWS = 14  # solids that cast one: the largest as seen; the rest is hardly missed


def render(clutter: Clutter, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) float32 RGB in 0-1, and (H, W) float32 depth along the view axis in metres."""
    rays = _rays(clutter, width, height)
    eye = np.array([0, clutter.eye, 0], np.float32)
    depth = np.full((height, width), FAR, np.float32)
    owner = np.full((height, width), -1)
    normals = np.zeros((height, width, 3), np.float32)
    seen = np.zeros(len(clutter.solids), int)
    for index, solid in enumerate(clutter.solids):
        rows, columns = _bounds(solid, clutter, eye, width, height)
        part = rays[rows, columns]
        if not part.size:
            continue
        distance, normal = _meet(solid, eye, part, clutter.hills)
        nearer = distance < depth[rows, columns]
        seen[index] = nearer.sum()
        depth[rows, columns][nearer] = distance[nearer]
        owner[rows, columns][nearer] = index
        normals[rows, columns][nearer] = normal[nearer]
    points = eye + rays * depth[..., None]
    colours = np.zeros((height, width, 3), np.float32)
    shine = np.zeros((height, width, 1), np.float32)
    for index in np.unique(owner[owner >= 0]):
        solid, mask = clutter.solids[index], owner == index
        local = (points[mask] - solid.centre.astype(np.float32)) @ solid.axes.T.astype(np.float32)
        colours[mask] = painted(solid.material, local)
        shine[mask] = solid.material.shine
    backwards = (normals * rays).sum(-1, keepdims=True) > 0
    normals = np.where(backwards, -normals, normals)
    casting = [clutter.solids[i] for i in np.argsort(-seen)[: 2 * MOST_SHADOWS] if clutter.solids[i].kind != "plane" and seen[i]]
    shadow = _shadow(points + 0.01 * normals, clutter.sun.astype(np.float32), casting[:MOST_SHADOWS])[..., None]
    facing = (normals @ clutter.sun.astype(np.float32))[..., None].clip(0) * (1 - 0.85 * shadow)
    mirror = _unit(rays) - 2 * (normals * _unit(rays)).sum(-1, keepdims=True) * normals
    gloss = shine * (mirror @ clutter.sun.astype(np.float32))[..., None].clip(0) ** 20 * (1 - shadow)
    lit = colours * (clutter.ambient * (0.7 + 0.3 * normals[..., 1:2]) + clutter.sunlight * facing) + gloss * clutter.sunlight
    rise = (_unit(rays)[..., 1:2] * 2.5).clip(0, 1)
    sky = clutter.sky[0] + (clutter.sky[1] - clutter.sky[0]) * rise
    air = 1 - np.exp(-clutter.haze * depth)[..., None]
    image = np.where(owner[..., None] < 0, sky, lit + (clutter.sky[0] - lit) * air)
    return image.astype(np.float32).clip(0, 1), depth


def as_taken(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An (H, W, 3) image in 0-1 as a camera would have it, uint8: exposed, focused somewhere, with noise, and perhaps compressed."""
    if rng.random() < 0.35:  # out of focus in front of and behind a distance
        focus = 1 / np.quantile(depth, rng.uniform(0.05, 0.6))
        circle = np.abs(1 / depth - focus) / max(focus, 1e-3) * rng.uniform(0.5, 2)
        for strength in (1.0, 2.5):
            soft = cv2.GaussianBlur(image, (0, 0), strength)
            image = np.where((circle > 0.3 * strength)[..., None], soft, image)
    image = image ** rng.uniform(0.6, 1.5) * rng.uniform(0.75, 1.3)
    image = image * (1 + rng.uniform(-0.1, 0.1, 3)) + rng.uniform(-0.04, 0.08)
    if rng.random() < 0.3:
        y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
        image = image * (1 - rng.uniform(0, 0.4) * (x * x + y * y) / 2)[..., None]
    if rng.random() < 0.08:
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2))
    image = image + rng.normal(0, rng.choice([0.003, 0.01, 0.03]), image.shape)
    taken = (image.clip(0, 1) * 255).round().astype(np.uint8)
    if rng.random() < 0.5:
        taken = cv2.imdecode(cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])[1], cv2.IMREAD_COLOR)
    return taken


def painted(material: Material, points: np.ndarray) -> np.ndarray:
    """RGB in 0-1 (N, 3) of a material at (N, 3) points of a solid's own coordinates, in metres."""
    at = points * np.float32(material.scale)
    x, y, z = at.T * np.float32(3)
    waves = np.sin(at @ material.waves.T.astype(np.float32) + material.phases.astype(np.float32))
    clouds = waves[:, :5].sum(1) / 5
    if material.pattern == "plain":
        blend = 0.15 * clouds
    elif material.pattern == "clouds":
        blend = 0.5 + 0.7 * clouds
    elif material.pattern == "patches":
        blend = (clouds > 0).astype(np.float32)
    elif material.pattern == "stripes":
        blend = (np.sin(at @ material.waves[0] * 3 + clouds * material.phases[0] * 0.3) > 0).astype(np.float32)
    elif material.pattern == "checks":
        blend = ((np.sin(x) > 0) ^ (np.sin(z) > 0) ^ (np.sin(y) > 0)).astype(np.float32)
    elif material.pattern == "grid":
        blend = np.maximum(np.maximum(np.sin(x), np.sin(y)), np.sin(z)) > 0.9
    else:
        blend = np.sin(x) * np.sin(y + 1) + np.sin(z) * np.sin(x + 2) > 0.9
    blend = np.clip(blend, 0, 1)[:, None]
    colour = material.colours[0] * (1 - blend) + material.colours[1] * blend
    return colour * (1 + material.grain * (waves[:, 5] * waves[:, 6] * 0.7 + np.sin(7 * (x + waves[:, 7])) * 0.3)[:, None])


def _rays(clutter: Clutter, width: int, height: int) -> np.ndarray:
    """(H, W, 3) directions in world coordinates, as long as one metre of depth."""
    short = min(width, height)
    x = ((np.arange(width) + 0.5) * 2 - width) / short / clutter.zoom
    y = (height - (np.arange(height) + 0.5) * 2) / short / clutter.zoom
    local = np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1)
    return (local @ clutter.camera.T).astype(np.float32)


def _bounds(solid: Solid, clutter: Clutter, eye: np.ndarray, width: int, height: int) -> tuple[slice, slice]:
    """The rows and columns in which a solid can be seen."""
    everywhere = slice(0, height), slice(0, width)
    if solid.kind == "plane":
        return everywhere
    x, y, z = (solid.centre - eye) @ clutter.camera
    radius = np.linalg.norm(solid.half)
    if z + radius < CLOSEST:
        return slice(0, 0), slice(0, 0)
    near = z - radius
    if near < CLOSEST:
        return everywhere
    scale = clutter.zoom * min(width, height) / 2
    left, right = ((x + side * radius) / np.where((x + side * radius) * side > 0, near, z + radius) for side in (-1, 1))
    low, high = ((y + side * radius) / np.where((y + side * radius) * side > 0, near, z + radius) for side in (-1, 1))
    columns = np.clip([width / 2 + left * scale - 1, width / 2 + right * scale + 2], 0, width).astype(int)
    rows = np.clip([height / 2 - high * scale - 1, height / 2 - low * scale + 2], 0, height).astype(int)
    return slice(*rows), slice(*columns)


def _meet(solid: Solid, eye: np.ndarray, rays: np.ndarray, hills: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The depth (...) at which rays meet a solid, FAR where they do not, and its outward normal there (..., 3)."""
    axes = solid.axes.astype(np.float32)
    half = solid.half.astype(np.float32)
    o = (axes @ (eye - solid.centre).astype(np.float32)) / half
    d = (rays @ axes.T) / half
    d = np.where(np.abs(d) < 1e-6, np.float32(1e-6), d)
    if solid.kind == "plane":
        if hills is not None:
            return _meet_hills(eye, rays, hills)
        t = -o[1] / d[..., 1]
        return np.where((t > CLOSEST) & (t < FAR), t, FAR), np.broadcast_to(axes[1], rays.shape)
    unit = {"ellipsoid": _meet_sphere, "box": _meet_cube, "cylinder": _meet_cylinder, "cone": _meet_cone}[solid.kind]
    t, normal = unit(o, d)
    return np.where(t > CLOSEST, t, FAR), _unit((normal / half) @ axes)


def _meet_sphere(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (d * d).sum(-1), d @ o, o @ o - 1
    h = b * b - a * c
    t = np.where(h > 0, (-b - np.sqrt(h.clip(0))) / a, FAR)
    return t, o + d * t[..., None]


def _meet_cube(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    enter, leave = (-np.sign(d) - o) / d, (np.sign(d) - o) / d
    t = enter.max(-1)
    normal = np.where(enter == t[..., None], -np.sign(d), 0)
    return np.where(leave.min(-1) > t, t, FAR), normal


def _meet_cylinder(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    side, normal = _meet_round(o, d, lambda y: np.ones_like(y), 0.0)
    cap = (np.sign(o[1]) - o[1]) / d[..., 1]
    on_cap = (abs(o[1]) > 1) & (cap > 0) & (np.hypot(o[0] + d[..., 0] * cap, o[2] + d[..., 2] * cap) < 1)
    up = np.array([0, np.sign(o[1]), 0], np.float32)
    return np.where(on_cap, cap, side), np.where(on_cap[..., None], up, normal)


def _meet_cone(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _meet_round(o, d, lambda y: (1 - y) / 2, 0.5)


def _meet_round(o: np.ndarray, d: np.ndarray, radius, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """The side of a body of rotation about y from -1 to 1, whose radius is 1, or falls from 1 to 0 by `slope`."""
    dx, dy, dz = np.moveaxis(d, -1, 0)
    r, k = radius(np.float32(o[1])), slope * slope
    a = dx * dx + dz * dz - k * dy * dy
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = o[0] * dx + o[2] * dz + slope * r * dy
    c = o[0] * o[0] + o[2] * o[2] - r * r
    h = b * b - a * c
    root = np.sqrt(h.clip(0))
    first, second = np.minimum((-b - root) / a, (-b + root) / a), np.maximum((-b - root) / a, (-b + root) / a)
    inside = [(t > 0) & (np.abs(o[1] + t * dy) <= 1) for t in (first, second)]
    t = np.where(h > 0, np.where(inside[0], first, np.where(inside[1], second, FAR)), FAR)
    x, y, z = o[0] + t * dx, o[1] + t * dy, o[2] + t * dz
    return t, np.stack([x, slope * radius(y), z], -1)


def _meet_hills(eye: np.ndarray, rays: np.ndarray, hills: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ground as a sum of waves, by marching: each wave is long, so that a fixed number of steps finds it."""
    steps = np.geomspace(0.5, 120, 48, dtype=np.float32)
    t = np.full(rays.shape[:-1], FAR, np.float32)
    last = np.zeros_like(t)
    for step in steps:
        x, y, z = rays[..., 0] * step, eye[1] + rays[..., 1] * step, rays[..., 2] * step
        under = y - _ground(hills, x, z) < 0
        new = under & (t == FAR)
        t[new] = ((last + step) / 2)[new]
        last = np.full_like(last, step)
    found = t < FAR
    for _ in range(4):
        x, z = rays[..., 0] * t, rays[..., 2] * t
        over = eye[1] + rays[..., 1] * t - _ground(hills, x, z)
        t = np.where(found, t + 0.7 * over / np.maximum(np.abs(rays[..., 1]), 0.15), t)
    x, z = rays[..., 0] * t, rays[..., 2] * t
    slope_x = (_ground(hills, x + 0.1, z) - _ground(hills, x - 0.1, z)) / 0.2
    slope_z = (_ground(hills, x, z + 0.1) - _ground(hills, x, z - 0.1)) / 0.2
    return np.where(found & (t > CLOSEST), t, FAR), _unit(np.stack([-slope_x, np.ones_like(x), -slope_z], -1))


def _ground(hills: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    height = np.zeros_like(x)
    for fx, fz, phase, tall in hills.astype(np.float32):
        height += tall * np.sin(fx * x + fz * z + phase)
    return height


def _shadow(points: np.ndarray, sun: np.ndarray, casting: list[Solid]) -> np.ndarray:
    """1 where one of these solids, taken as an ellipsoid, stands before the sun, else 0."""
    shadow = np.zeros(points.shape[:-1], bool)
    for solid in casting:
        axes, half = solid.axes.astype(np.float32), solid.half.astype(np.float32)
        o, d = ((points - solid.centre.astype(np.float32)) @ axes.T) / half, (axes @ sun) / half
        a, b, c = d @ d, o @ d, (o * o).sum(-1) - 1
        shadow |= (b * b > a * c) & (b < 0) & (c > 0)
    return shadow.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
