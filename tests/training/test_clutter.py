"""Cluttered scenes: their depth is that of the solids in them, and the estimator is judged up to a scale and a shift."""

import numpy as np
import pytest
import torch

from training import clutter, data, loop, photographed, stage_estimator
from training.schedules import SCHEDULES
from training.train import stages


def alone(kind: str, half=(0.5, 0.8, 0.3), turn: float = 0.4) -> clutter.Clutter:
    """One solid two metres ahead, without ground or walls."""
    axes = clutter._turned("x", turn) @ clutter._turned("y", 0.7)
    material = clutter._material(np.random.default_rng(0))
    return clutter.Clutter([clutter.Solid(kind, np.array([0.1, 0.2, 2.0]), np.array(half), axes, material)], eye=0.0)


@pytest.mark.parametrize(
    "kind, outside",
    [
        ("ellipsoid", lambda p: np.linalg.norm(p, axis=-1) - 1),
        ("box", lambda p: np.abs(p).max(-1) - 1),
        ("cylinder", lambda p: np.maximum(np.hypot(p[:, 0], p[:, 2]), np.abs(p[:, 1])) - 1),
        ("cone", lambda p: np.maximum(np.hypot(p[:, 0], p[:, 2]) - (1 - p[:, 1]) / 2, np.abs(p[:, 1]) - 1)),
    ],
)
def test_every_point_that_is_seen_lies_on_the_solid(kind, outside):
    scene = alone(kind)
    _, depth = photographed.render(scene, 64, 48)
    seen = depth < photographed.FAR
    assert 100 < seen.sum() < 48 * 64 / 2
    points = photographed._rays(scene, 64, 48)[seen] * depth[seen][:, None]
    solid = scene.solids[0]
    assert np.abs(outside((points - solid.centre) @ solid.axes.T / solid.half)).max() < 1e-3


def test_what_stands_in_front_hides_what_is_behind_and_the_ground_reaches_the_horizon():
    scene = alone("ellipsoid", half=(0.3, 0.3, 0.3))
    scene.eye = 1.0
    clutter._plane(scene, (0, 0, 0), (0, 1, 0), scene.solids[0].material)
    _, depth = photographed.render(scene, 63, 63)
    nothing_above, ground = depth[0, 31], depth[62, 31]
    assert nothing_above == photographed.FAR
    assert ground == pytest.approx(scene.zoom * 63 / 62, rel=0.01)  # one metre below the eye, at the lowest ray
    hidden = clutter.Clutter([scene.solids[1], scene.solids[0]], eye=1.0)
    assert np.array_equal(photographed.render(hidden, 63, 63)[1], depth)  # in whatever order


def test_a_seed_is_one_scene_with_near_and_far():
    first, again, other = data.cluttered([1, 1, 2], (64, 48))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (48, 64, 4) and first.dtype == np.uint8
    assert (first[..., 3].min(), first[..., 3].max()) == (0, 255)


def test_the_estimator_learns_from_both_kinds_of_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 4)
    monkeypatch.setattr(data, "CLUTTER_SIZES", ((64, 64), (96, 64)))
    data.render_all(tmp_path, {(256, 256): 4}, 1)
    data.render_clutter(tmp_path, 6, 1, first_seed=4)
    assert [rows.shape for rows in data.load_clutter(tmp_path)] == [(4, 64, 96, 4), (2, 64, 64, 4)]
    stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")["estimator"]()
    assert loop.reached(tmp_path / "estimator.pt") == 2
    assert (tmp_path / "samples" / "estimator-000002.png").is_file()


def test_a_scale_and_a_shift_are_forgiven_and_nothing_else():
    near = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(stage_estimator.aligned(near * 0.5 + 3, near), near, atol=0.06)
    assert (stage_estimator.aligned(near.flip(1), near) - near).abs().mean() > 0.2


def test_a_part_of_a_scene_has_its_own_nearest_and_farthest():
    rgbd = data.cluttered(range(3), (64, 64))
    part = stage_estimator.cropped(rgbd, np.random.default_rng(5))
    assert part.shape[0] == 3 and part.shape[1] < 64
    assert all((one[..., 3].min(), one[..., 3].max()) == (0, 255) for one in part)
