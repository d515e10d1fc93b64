"""What outlines say is right on renders, where the truth is known, and they notice damage."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from training import scenes, silhouettes


def renders(background: silhouettes.Background, per_shape: int, count: int = 1) -> tuple[list[scenes.Scene], np.ndarray]:
    """Scenes of `count` objects before this background, `per_shape` with each shape on the left, and their images (N, 256, 256, 3) uint8."""
    chosen, seed = [], 0
    for shape in scenes.SHAPES:
        wanted = len(chosen) + per_shape
        while len(chosen) < wanted:
            seed += 1
            scene = scenes.sample(seed, *scenes.SQUARE, count=count)
            if scene.light != background.light or scene.objects[0].shape != shape:
                continue
            colours = [background.colours[(seed + i) % len(background.colours)] for i in range(count)]
            painted = tuple(replace(each, colour=colour) for each, colour in zip(scene.objects, colours))
            chosen.append(replace(scene, objects=painted, floor=background.floor))
    images, _ = scenes.render(chosen, *scenes.SQUARE)
    return chosen, (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("background", [*silhouettes.BACKGROUNDS.values(), silhouettes.Background("wooden", "sunset")])
def test_renders_are_one_object_with_the_outline_of_its_shape(background):
    for scene, image in zip(*renders(background, per_shape=2)):
        shape = scene.objects[0].shape
        masks = silhouettes.objects(image, background)
        assert len(masks) == 1, scene
        truth = (scenes.surfaces([scene], *scenes.SQUARE)[0] == 0).numpy()
        assert (masks[0] & truth).sum() / (masks[0] | truth).sum() > 0.9, scene
        assert silhouettes.fits(masks[0], shape), scene
        # An orange object in the shade has the colour of boards in the sun.
        assert silhouettes.dent(masks[0], shape) < 0.035 or background.light == "sunset", scene
        others = [other for other in scenes.SHAPES if other != shape and {shape, other} != {"cube", "cylinder"}]
        assert not any(silhouettes.fits(masks[0], other) for other in others), scene


def test_several_objects_are_counted():
    background = silhouettes.BACKGROUNDS["sandy floor"]
    for scene, image in zip(*renders(background, per_shape=1, count=2)):
        seen = scenes.surfaces([scene], *scenes.SQUARE)[0].numpy()
        touching = cv2.connectedComponents((seen >= 0).astype(np.uint8))[0] == 2  # one blob beside the background
        assert len(silhouettes.objects(image, background)) == (1 if touching else 2), scene


def test_an_empty_scene_has_no_object():
    background = silhouettes.BACKGROUNDS["night"]
    assert silhouettes.objects(np.zeros((256, 256, 3), np.uint8), background) == []
    assert silhouettes.objects(np.full((256, 256, 3), 140, np.uint8), background) == []


def disc(radius: float, dent: float) -> np.ndarray:
    """A disc whose radius varies by `dent` with the angle."""
    y, x = np.mgrid[-80:80, -80:80]
    return np.hypot(x, y) < radius * (1 + dent * np.cos(3 * np.arctan2(y, x)))


def bitten(corners: list[tuple[int, int]], bite: tuple[int, int, int]) -> np.ndarray:
    """A polygon with a round bite (x, y, radius) out of it."""
    canvas = cv2.fillPoly(np.zeros((160, 160), np.uint8), [np.array(corners, np.int32)], 1)
    return cv2.circle(canvas, bite[:2], bite[2], 0, cv2.FILLED).astype(bool)


def test_a_dented_sphere_is_noticed():
    assert silhouettes.fits(disc(50, 0.0), "sphere") and silhouettes.fits(disc(50, 0.02), "sphere")
    assert not silhouettes.fits(disc(50, 0.12), "sphere")


@pytest.mark.parametrize(
    "shape, corners, bite",
    [
        ("cube", [(30, 50), (70, 30), (130, 45), (130, 105), (85, 130), (30, 110)], (130, 80, 22)),
        ("cylinder", [(50, 30), (110, 30), (110, 130), (50, 130)], (50, 80, 12)),
        ("cone", [(80, 20), (120, 120), (40, 120)], (60, 70, 10)),
    ],
)
def test_a_bite_out_of_a_solid_is_noticed(shape, corners, bite):
    assert silhouettes.fits(bitten(corners, (0, 0, 1)), shape)
    assert not silhouettes.fits(bitten(corners, bite), shape)


@pytest.mark.parametrize("shape", ["cube", "cylinder"])
def test_a_wave_in_the_lower_edge_is_a_dent_however_well_the_outline_fits(shape):
    y, x = np.mgrid[:160, :160]
    straight, wavy = ((x >= 40) & (x < 120) & (y >= 40) & (y < 110 + depth * np.sin(x * np.pi / 20)) for depth in (0, 5))
    assert silhouettes.fits(straight, shape) and silhouettes.fits(wavy, shape)
    assert silhouettes.dent(straight, shape) < 0.02 and silhouettes.dent(wavy, shape) > 0.06


def test_a_cone_without_its_tip_is_noticed():
    assert not silhouettes.fits(bitten([(66, 50), (94, 50), (120, 120), (40, 120)], (0, 0, 1)), "cone")


def test_each_shape_is_asked_for_equally_often_in_every_colour_that_can_be_told():
    for background in silhouettes.BACKGROUNDS.values():
        asked = silhouettes.requests(background, 64)
        assert [sum(shape == one for shape, _ in asked) for one in scenes.SHAPES] == [16] * 4
        assert {colour for _, colour in asked} == set(background.colours)
        assert not {"white", "black"} & set(background.colours)
