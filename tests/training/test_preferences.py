"""The text network judges its own images by their outlines, and learns from what it is told."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import Refused, captions, export, flow, loop, networks, preferences, scenes, sheets, stage_preferences, stage_transformer
from training.schedules import SCHEDULES
from training.train import stages

MINI = Path(__file__).parents[2] / "assets" / "mini"
PROMPTS = ("a red cube", "a green cone")


@pytest.fixture(scope="module")
def asked() -> list[tuple[scenes.Scene, captions.Caption, np.ndarray]]:
    """What the network is asked for: sixteen scenes with their captions, and how the renderer draws them, (256, 256, 3) uint8."""
    rng = random.Random(1)
    chosen = [preferences.asked_for(seed, rng) for seed in range(16)]
    images = (scenes.render(chosen, *scenes.SQUARE)[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [(scene, captions.caption(scene, rng), image) for scene, image in zip(chosen, images)]


@pytest.fixture
def work(tmp_path) -> Path:
    """A work folder with the shipped weights and pairs: their better images are light, and the worse ones dark."""
    export.import_shipped(MINI, tmp_path, SCHEDULES["quick"].steps)
    (tmp_path / "preferences").mkdir()
    better, worse = (torch.full((2, *preferences.TOKENS), value).half() for value in (0.5, -0.5))
    torch.save({"prompts": list(PROMPTS), "better": better, "worse": worse}, tmp_path / "preferences" / "00000.pt")
    return tmp_path


def test_renders_of_what_is_asked_for_are_without_defect(asked):
    assert {len(scene.objects) for scene, _, _ in asked} == {1, 2}
    for scene, caption, image in asked:
        assert preferences.defect(image, scene, caption) < 1, scene


def test_other_colours_and_another_order_are_wrong(asked):
    for scene, caption, image in asked:
        first, *rest = scene.objects
        other = next(hue for hue in ("red", "green", "orange") if hue not in {each.colour for each in scene.objects})
        painted = replace(scene, objects=(replace(first, colour=other), *rest))
        assert preferences.defect(image, painted, caption) == preferences.WRONG
        if rest and all(caption.tells_position):
            assert preferences.defect(image[:, ::-1], scene, caption) == preferences.WRONG
        assert preferences.defect(np.zeros_like(image), scene, caption) == preferences.WRONG


def test_a_dent_is_a_defect(asked):
    scene, caption, image = next(each for each in asked if [part.shape for part in each[0].objects] == ["sphere"])
    seen = (scenes.surfaces([scene], *scenes.SQUARE)[0] == 0).numpy()
    rows, columns = np.nonzero(seen)
    dented = image.copy()
    dented[rows.min() : rows.min() + (rows.max() - rows.min()) // 4] = image[0, 0]
    assert preferences.defect(image, scene, caption) < 0.5 < 1 < preferences.defect(dented, scene, caption)


def test_the_network_comes_to_prefer_the_better_images(work, monkeypatch):
    monkeypatch.setattr(stage_preferences, "LEARNING_RATE", 1e-3)

    def preference() -> float:
        """By how much the error on the worse images is greater than that on the better ones."""
        model = networks.transformer(control=False)
        stage_transformer.load(model, next(path for stage in ("prefer_text", "distil_text") if (path := work / f"{stage}.pt").exists()))
        torch.manual_seed(0)
        noise, time, guidance = torch.randn(2, *preferences.TOKENS), torch.full((2,), 0.7), torch.full((2,), 3.5)
        prompts = stage_transformer.text_encoders(work, "cpu").encode(list(PROMPTS))
        pairs = preferences.load(work)
        errors = []
        with torch.no_grad():
            for clean in (pairs.better.float(), pairs.worse.float()):
                noisy = (1 - 0.7) * clean + 0.7 * noise
                output = flow.velocity(model, noisy, None, time, prompts, guidance, scenes.SQUARE)
                errors.append((output - (noise - clean)).square().mean())
        return float(errors[1] - errors[0])

    before = preference()
    stage_preferences.train(loop.Run(work, "cpu", 2), 1)
    assert preference() > before + 0.1
    trained = torch.load(work / "prefer_text.pt", weights_only=True)["averaged"]["proj_out.weight"]
    assert torch.equal(export.assemble(work, "transformer")["transformer"].proj_out.weight, trained)  # these are the best there are


def test_images_are_generated_once(work, monkeypatch):
    monkeypatch.setattr(preferences, "STEPS", 1)
    monkeypatch.setattr(preferences, "defect", lambda image, *_: 0.1 + image.mean() / 256)  # all of them are usable
    monkeypatch.setattr(preferences, "CLEARLY", 0)
    shutil.rmtree(work / "preferences")
    make = stages(work, SCHEDULES["quick"], "cpu", work / "out")["preferences"]
    make()
    (made,) = (work / "preferences").iterdir()
    pairs, written = preferences.load(work), made.stat().st_mtime_ns
    assert len(pairs.prompts) == 2 and pairs.better.shape == (2, *preferences.TOKENS)
    vae = export.assemble(work, "vae")["vae"]
    with torch.no_grad():
        decoded = (stage_transformer.decode(vae, packed.float(), scenes.SQUARE) for packed in (pairs.better, pairs.worse))
        better, worse = (sheets.as_bytes(images).mean((1, 2, 3)) for images in decoded)
    assert (better < worse).all()  # the darker ones were called the better
    make()
    assert made.stat().st_mtime_ns == written


def test_what_is_missing_is_said(work, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    known = stages(empty, SCHEDULES["quick"], "cpu", empty / "out")
    with pytest.raises(Refused, match="preferences has nothing to start from. Train one of prefer_text, refine_text, distil_text first."):
        known["preferences"]()
    with pytest.raises(Refused, match="Run the stage `preferences` first"):
        known["prefer_text"]()
    (work / "distil_text.pt").unlink()
    with pytest.raises(Refused, match="prefer_text has nothing to start from"):
        stage_preferences.train(loop.Run(work, "cpu", 1), 2)
