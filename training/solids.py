"""Intersections of rays with the four solids. Knows nothing of colours, floors or images.

World coordinates: x right, y up, z away from the viewer; the floor is y = 0. Each coordinate is a tensor of its own, (B, N) for
rays and (B, 1) for what a scene's rays share: in eager torch this is several times faster than (B, N, 3) vectors.
A ray that misses has the distance `FAR`. Solids stand on the floor; `size` is the radius of a sphere, and scales the others to look as large.
"""

import torch
from torch import Tensor

FAR = 1e4  # world units; beyond every fog
EPSILON = 1e-3  # keeps a shadow ray from meeting the point where it starts

# Half widths and heights for `size` 1, chosen so that the four fill about the same part of an image.
CUBE_HALF = 0.82
CYLINDER_RADIUS, CYLINDER_HEIGHT = 0.72, 1.75
CONE_RADIUS, CONE_HEIGHT = 0.92, 2.0

Hit = tuple[Tensor, Tensor, Tensor, Tensor]  # distance along the ray, and the outward normal as x, y, z


def intersect_sphere(o, d, x: Tensor, z: Tensor, size: Tensor, yaw: Tensor) -> Hit:
    ox, oy, oz = o[0] - x, o[1] - size, o[2] - z
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = ox * d[0] + oy * d[1] + oz * d[2]
    c = ox * ox + oy * oy + oz * oz - size * size
    h = b * b - a * c
    t = (-b - h.clamp_min(0).sqrt()) / a
    t = torch.where((h > 0) & (t > EPSILON), t, FAR)
    s = 1 / size
    return t, (ox + t * d[0]) * s, (oy + t * d[1]) * s, (oz + t * d[2]) * s


def intersect_cube(o, d, x: Tensor, z: Tensor, size: Tensor, yaw: Tensor) -> Hit:
    half = size * CUBE_HALF
    cos, sin = yaw.cos(), yaw.sin()
    ox, oy, oz = _turn(o[0] - x, o[1] - half, o[2] - z, cos, sin)
    dx, dy, dz = _turn(d[0], d[1], d[2], cos, sin)
    ix, iy, iz = 1 / _away_from_zero(dx), 1 / _away_from_zero(dy), 1 / _away_from_zero(dz)
    ex = -ox * ix - half * ix.abs()  # where the ray enters each pair of planes
    ey = -oy * iy - half * iy.abs()
    ez = -oz * iz - half * iz.abs()
    lx, ly, lz = ex + 2 * half * ix.abs(), ey + 2 * half * iy.abs(), ez + 2 * half * iz.abs()
    t = torch.maximum(torch.maximum(ex, ey), ez)
    leave = torch.minimum(torch.minimum(lx, ly), lz)
    by_x, by_y = (ex >= ey) & (ex >= ez), (ey > ex) & (ey >= ez)
    nx = torch.where(by_x, -dx.sign(), 0.0)
    ny = torch.where(by_y, -dy.sign(), 0.0)
    nz = torch.where(by_x | by_y, 0.0, -dz.sign())
    t = torch.where((leave > t) & (t > EPSILON), t, FAR)
    return t, nx * cos + nz * sin, ny, nz * cos - nx * sin


def intersect_cylinder(o, d, x: Tensor, z: Tensor, size: Tensor, yaw: Tensor) -> Hit:
    radius, height = size * CYLINDER_RADIUS, size * CYLINDER_HEIGHT
    ox, oz = o[0] - x, o[2] - z
    a = d[0] * d[0] + d[2] * d[2] + 1e-9
    b = ox * d[0] + oz * d[2]
    c = ox * ox + oz * oz - radius * radius
    h = b * b - a * c
    side = (-b - h.clamp_min(0).sqrt()) / a
    y = o[1] + side * d[1]
    on_side = (h > 0) & (side > EPSILON) & (y >= 0) & (y <= height)
    side = torch.where(on_side, side, FAR)
    top = (height - o[1]) / _away_from_zero(d[1])
    px, pz = ox + top * d[0], oz + top * d[2]
    on_top = (top > EPSILON) & (px * px + pz * pz <= radius * radius) & (top < side)
    t = torch.where(on_top, top, side)
    s = torch.where(on_top, 0.0, 1 / radius)
    return t, (ox + t * d[0]) * s, on_top.to(t.dtype), (oz + t * d[2]) * s


def intersect_cone(o, d, x: Tensor, z: Tensor, size: Tensor, yaw: Tensor) -> Hit:
    height = size * CONE_HEIGHT
    slope = CONE_RADIUS / CONE_HEIGHT
    ox, oy, oz = o[0] - x, height - o[1], o[2] - z  # oy, dy point down from the apex
    k = slope * slope
    dy = -d[1]
    a = d[0] * d[0] + d[2] * d[2] - k * dy * dy
    a = _away_from_zero(a)
    b = ox * d[0] + oz * d[2] - k * oy * dy
    c = ox * ox + oz * oz - k * oy * oy
    h = b * b - a * c
    root = h.clamp_min(0).sqrt()
    near, far = (-b - root) / a, (-b + root) / a
    near, far = torch.minimum(near, far), torch.maximum(near, far)
    ny, fy = oy + near * dy, oy + far * dy
    t = torch.where((far > EPSILON) & (fy >= 0) & (fy <= height), far, FAR)
    t = torch.where((near > EPSILON) & (ny >= 0) & (ny <= height), near, t)
    t = torch.where(h > 0, t, FAR)
    px, pz = ox + t * d[0], oz + t * d[2]
    s = torch.rsqrt((px * px + pz * pz) * (1 + k) + 1e-9)
    return t, px * s, torch.full_like(t, slope / (1 + k) ** 0.5), pz * s


INTERSECT = (intersect_sphere, intersect_cube, intersect_cylinder, intersect_cone)  # the order of scenes.SHAPES


def _turn(x: Tensor, y, z: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x * cos - z * sin, y, x * sin + z * cos


def _away_from_zero(v: Tensor) -> Tensor:
    return torch.where(v.abs() < 1e-6, 1e-6, v)
