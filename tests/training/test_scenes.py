"""The renderer against formulas of its own: depth, left and right, colours, mirror images."""

import math

import numpy as np
import pytest
import torch

from training import materials, scenes, solids
from training.scenes import Scene, Thing


def one_thing(shape: str, **changes) -> Scene:
    thing = Thing(shape, "red", 0.0, 0.0, 0.7, 0.5)
    return (
        Scene((thing,), "gray", "noon", (1.8, 6.0, 0.7), 3.0, (0.3, 0.9, -0.3), 0.0)
        if not changes
        else Scene(
            (thing,),
            **({"floor": "gray", "light": "noon", "camera": (1.8, 6.0, 0.7), "zoom": 3.0, "sun": (0.3, 0.9, -0.3), "phase": 0.0} | changes),
        )
    )


def ray(scene: Scene, column: int, row: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Eye and direction of a pixel's middle, the direction's part along the view axis being 1; in float64, by vector algebra."""
    eye = np.array([0.0, scene.camera[0], -scene.camera[1]])
    forward = np.array([0.0, scene.camera[2], 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.array([1.0, 0.0, 0.0])
    up = np.cross(forward, right)
    u = ((column + 0.5) * 2 / width - 1) * width / height / scene.zoom
    v = (1 - (row + 0.5) * 2 / height) / scene.zoom
    return eye, forward + u * right + v * up


def test_the_floors_depth_is_where_the_ray_meets_it():
    scene = one_thing("sphere", camera=(2.5, 6.0, 0.0))
    _, depth = scenes.render([scene], 64, 48)
    eye, direction = ray(scene, 3, 46, 64, 48)
    assert depth[0, 46, 3].item() == pytest.approx(-eye[1] / direction[1], rel=1e-4)


def test_a_spheres_depth_is_the_nearer_root():
    scene = one_thing("sphere")
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
    """March along rays in small steps in float64 until inside; the caster must agree to the step."""
    scene = one_thing(shape)
    thing = scene.things[0]

    def inside(p: np.ndarray) -> bool:
        x, y, z = p[0] / thing.size, p[1] / thing.size, p[2] / thing.size
        if shape == "sphere":
            return x * x + (y - 1) ** 2 + z * z < 1
        if shape == "cylinder":
            return math.hypot(x, z) < solids.CYLINDER_RADIUS and 0 < y < solids.CYLINDER_HEIGHT
        if shape == "cone":
            return 0 < y < solids.CONE_HEIGHT and math.hypot(x, z) < solids.CONE_RADIUS * (1 - y / solids.CONE_HEIGHT)
        a = x * math.cos(thing.yaw) - z * math.sin(thing.yaw)
        b = x * math.sin(thing.yaw) + z * math.cos(thing.yaw)
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


def test_left_is_left_and_the_things_are_inside_the_picture():
    for seed in range(6):
        scene = scenes.sample(seed, 192, 336)
        assert [thing.x for thing in scene.things] == sorted(thing.x for thing in scene.things)
        _, depth = scenes.render([scene], 48, 84)
        plain = scenes.render(
            [Scene((scene.things[0],), *[getattr(scene, f) for f in ("floor", "light", "camera", "zoom", "sun", "phase")])], 48, 84
        )[1]
        assert (depth <= plain + 1e-4).all()


def test_a_thing_has_its_colour():
    hues = [colour for colour in materials.PAINTS if colour not in ("white", "black")]
    for colour in hues:
        scene = one_thing("sphere")
        scene = Scene((Thing("sphere", colour, 0.0, 0.0, 0.7, 0.0),), scene.floor, "noon", scene.camera, scene.zoom, scene.sun, 0.0)
        picture, _ = scenes.render([scene], 64, 64)
        shown = picture[0, :, 28:36, 28:36].mean((1, 2))
        nearest = max(hues, key=lambda name: float(torch.cosine_similarity(torch.tensor(materials.PAINTS[name]), shown, dim=0)))
        assert nearest == colour


def test_a_mirrored_scene_is_the_mirrored_picture():
    scene = next(s for s in (scenes.sample(i, 256, 256) for i in range(99)) if s.floor == "snowy" and len(s.things) == 2)
    _, depth = scenes.render([scene], 64, 64)
    _, mirrored = scenes.render([scene.mirrored()], 64, 64)
    assert torch.allclose(depth, mirrored.flip(2), rtol=1e-3)
    assert [t.colour for t in scene.mirrored().things] == [t.colour for t in reversed(scene.things)]


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
