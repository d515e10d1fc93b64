"""The renderer against independent formulas: depth, left and right, colours, mirror images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flux_demo.backends.mini import Mini
from training import materials, scenes, solids
from training.scenes import Scene, SceneObject


def one_object(shape: str, colour: str = "red", yaw: float = 0.5, **changes) -> Scene:
    usual = Scene((SceneObject(shape, colour, 0.0, 0.0, 0.7, yaw),), "gray", "noon", (1.8, 6.0, 0.7), 3.0, (0.3, 0.9, -0.3), 0.0)
    return replace(usual, **changes)


def ray(scene: Scene, column: int, row: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Eye and direction of the ray through a pixel's centre, with 1 along the view axis; in float64, by vector algebra."""
    eye = np.array([0.0, scene.camera[0], -scene.camera[1]])
    forward = np.array([0.0, scene.camera[2], 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.array([1.0, 0.0, 0.0])
    up = np.cross(forward, right)
    u = ((column + 0.5) * 2 / width - 1) * width / height / scene.zoom
    v = (1 - (row + 0.5) * 2 / height) / scene.zoom
    return eye, forward + u * right + v * up


def test_the_floors_depth_is_where_the_ray_meets_it():
    scene = one_object("sphere", camera=(2.5, 6.0, 0.0))
    _, depth = scenes.render([scene], 64, 48)
    eye, direction = ray(scene, 3, 46, 64, 48)
    assert depth[0, 46, 3].item() == pytest.approx(-eye[1] / direction[1], rel=1e-4)


def test_a_spheres_depth_is_the_nearer_root():
    scene = one_object("sphere")
    _, depth = scenes.render([scene], 96, 96)
    centre, found = np.array([0, 0.7, 0]), 0
    for row, column in ((45, 48), (50, 44), (52, 52)):
        eye, direction = ray(scene, column, row, 96, 96)
        roots = np.roots([direction @ direction, 2 * direction @ (eye - centre), (eye - centre) @ (eye - centre) - 0.49])
        if np.isreal(roots).all():
            found += 1
            assert depth[0, row, column].item() == pytest.approx(min(roots.real), rel=1e-4)
    assert found == 3


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_every_solid_is_met_where_its_own_inequality_begins(shape):
    """March along rays in small float64 steps until inside the solid; the ray caster must agree to within a step."""
    scene = one_object(shape)
    solid = scene.objects[0]

    def inside(p: np.ndarray) -> bool:
        x, y, z = p[0] / solid.size, p[1] / solid.size, p[2] / solid.size
        if shape == "sphere":
            return x * x + (y - 1) ** 2 + z * z < 1
        if shape == "cylinder":
            return math.hypot(x, z) < solids.CYLINDER_RADIUS and 0 < y < solids.CYLINDER_HEIGHT
        if shape == "cone":
            return 0 < y < solids.CONE_HEIGHT and math.hypot(x, z) < solids.CONE_RADIUS * (1 - y / solids.CONE_HEIGHT)
        a = x * math.cos(solid.yaw) - z * math.sin(solid.yaw)
        b = x * math.sin(solid.yaw) + z * math.cos(solid.yaw)
        half = solids.CUBE_HALF
        return abs(a) < half and abs(b) < half and 0 < y < 2 * half

    _, depth = scenes.render([scene], 48, 48)
    met = 0
    for row, column in ((22, 24), (25, 22), (27, 26), (28, 24), (18, 24)):
        eye, direction = ray(scene, column, row, 48, 48)
        marched = next((t for t in np.arange(4.0, 8.0, 0.002) if inside(eye + t * direction)), None)
        if marched is not None:
            met += 1
            assert depth[0, row, column].item() == pytest.approx(marched, abs=0.004)
    assert met >= 3


def test_left_is_left_and_the_objects_are_inside_the_image():
    for seed in range(6):
        scene = scenes.sample(seed, 192, 336)
        assert [each.x for each in scene.objects] == sorted(each.x for each in scene.objects)
        columns = [np.nonzero(scenes.surfaces([scene], 48, 84)[0].numpy() == index)[1] for index in range(len(scene.objects))]
        means = [float(each.mean()) for each in columns if len(each)]
        assert means == sorted(means)
        _, depth = scenes.render([scene], 48, 84)
        _, leftmost_alone = scenes.render([replace(scene, objects=scene.objects[:1])], 48, 84)
        assert (depth <= leftmost_alone + 1e-4).all()
        edges = scenes.surfaces([scene], 48, 84)[0]
        assert max(edges[0].max(), edges[-1].max(), edges[:, 0].max(), edges[:, -1].max()) < 0  # floor or sky


def test_an_object_has_its_colour():
    hues = [colour for colour in materials.PAINTS if colour not in ("white", "black")]
    for colour in hues:
        image, _ = scenes.render([one_object("sphere", colour, yaw=0.0)], 64, 64)
        shown = image[0, :, 28:36, 28:36].mean((1, 2))
        nearest = max(hues, key=lambda name: float(torch.cosine_similarity(torch.tensor(materials.PAINTS[name]), shown, dim=0)))
        assert nearest == colour


def test_a_mirrored_scene_is_the_mirrored_image():
    scene = next(s for s in (scenes.sample(i, 256, 256) for i in range(99)) if s.floor == "snowy" and len(s.objects) == 2)
    _, depth = scenes.render([scene], 64, 64)
    _, mirrored = scenes.render([scene.mirrored()], 64, 64)
    assert torch.allclose(depth, mirrored.flip(2), rtol=1e-3)
    assert [each.colour for each in scene.mirrored().objects] == [each.colour for each in reversed(scene.objects)]


def test_a_seed_is_one_scene_alone_and_in_a_batch():
    assert scenes.sample(5, 256, 256) == scenes.sample(5, 256, 256) != scenes.sample(6, 256, 256)
    several = [scenes.sample(i, 256, 256) for i in range(4)]
    together, _ = scenes.render(several, 64, 64)
    alone, _ = scenes.render(several[2:3], 64, 64)
    assert float((together[2] - alone[0]).abs().max()) < 1e-2


def test_nearness_is_bright_near_and_never_fails_on_a_flat_depth():
    near = scenes.nearness(torch.tensor([[[1.0, 2.0], [4.0, 1e4]]]))
    assert near[0, 0, 0] == 1 and near[0, 1, 1] == 0 and near[0, 0, 1] > near[0, 1, 0]
    assert scenes.nearness(torch.ones(1, 2, 2)).isfinite().all()


def test_the_sizes_are_those_that_the_app_offers_on_the_mini():
    assert scenes.SIZES == tuple((size.width, size.height) for size in Mini.size_limits.sizes)
