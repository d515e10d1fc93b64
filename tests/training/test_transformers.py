"""How the transformers are trained: labels, three modes at once, and starting from the shipped weights."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from flux_demo import mini_vocabulary as vocabulary
from training import Refused, data, export, flow, labels, latents, loop, networks, scenes, stage_transformer
from training.batches import Batches, Share, endless
from training.pool import Pool
from training.scenes import Scene, SceneObject
from training.schedules import SCHEDULES
from training.stage_transformer import Trainer
from training.train import restart, stages

MINI = Path(__file__).parents[2] / "assets" / "mini"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A work folder with the shipped weights and the latents of eight scenes at half size."""
    folder = tmp_path_factory.mktemp("work")
    export.import_shipped(MINI, folder, SCHEDULES["quick"].steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "CHUNK", 8)
        data.render_all(folder, {(256, 256): 8}, 1)
    latents.make(folder, {latents.HALF: 8}, "cpu")
    return folder


@pytest.fixture(scope="module")
def refined_work(work, tmp_path_factory) -> Path:
    """Another with latents at 256x256 only, where those of half size stand in for larger ones: their content does not matter."""
    folder = tmp_path_factory.mktemp("refined")
    export.import_shipped(MINI, folder, SCHEDULES["quick"].steps)
    (folder / "latents").mkdir()
    for name, times in (("picture", 4), ("labels", 4), ("seeds", 1)):
        rows = np.load(latents.file(work, name, latents.HALF))
        np.save(latents.file(folder, name, scenes.SQUARE), np.repeat(rows, times, axis=1))
    return folder


def test_a_label_is_what_the_image_shows_there():
    objects = (SceneObject("cube", "white", -1.2, 0.0, 0.7, 0.5), SceneObject("cone", "black", 1.2, 0.0, 0.7, 0.5))
    scene = Scene(objects, "grassy", "noon", (1.8, 6.0, 0.7), 3.0, (0.3, 0.9, -0.3), 0.0)
    image = scenes.render([scene], 128, 128)[0][0]
    shown = labels.label([scene], 128, 128)[0].reshape(8, 8, 2, 2).transpose(0, 2, 1, 3).reshape(16, 16)
    sky, floor = 0, 1
    cube, cone = labels.kind("cube", "white"), labels.kind("cone", "black")
    assert set(shown.flatten()) == {sky, floor, cube, cone}
    cells = image.unflatten(1, (16, 8)).unflatten(3, (16, 8)).mean((0, 2, 4)).numpy()
    assert cells[shown == cube].mean() > 0.5 > 0.25 > cells[shown == cone].mean()
    assert np.argwhere(shown == cube)[:, 1].max() < np.argwhere(shown == cone)[:, 1].min()
    mirrored = labels.label([scene.mirrored()], 128, 128)[0].reshape(8, 8, 2, 2).transpose(0, 2, 1, 3).reshape(16, 16)
    assert (mirrored == shown[:, ::-1]).mean() > 0.98  # a ray on the very edge may fall to either side


def test_the_shipped_weights_are_imported_unchanged(work):
    from diffusers import AutoencoderKL
    from transformers import T5EncoderModel

    found = export.assemble(work, "vae", "text_encoder_2")
    for name, kind in (("vae", AutoencoderKL), ("text_encoder_2", T5EncoderModel)):
        shipped = kind.from_pretrained(MINI / name, dtype=torch.float32)
        for key, value in shipped.state_dict().items():
            # The fixed variance is set again, in full precision.
            assert torch.allclose(value, found[name].state_dict()[key], atol=1e-2 if key == "encoder.conv_out.bias" else 0), key
        assert name != "vae" or shipped.config.scaling_factor == found[name].config.scaling_factor


def test_shipped_weights_overwrite_no_checkpoint(tmp_path):
    torch.save({"step": 777}, tmp_path / "distil_text.pt")
    with pytest.raises(Refused, match="would overwrite them"):
        stages(tmp_path, SCHEDULES["quick"], "cpu", MINI)["shipped"]()
    assert [path.name for path in tmp_path.iterdir()] == ["distil_text.pt"] and loop.reached(tmp_path / "distil_text.pt") == 777


def test_one_pool_gives_rows_of_every_mode(work):
    pool = Pool(work, latents.HALF, ("text", "canny", "depth"))
    chosen = pool.choose(60, random.Random(0))
    rows = pool.fetch(chosen)
    assert {row.mode for row in chosen} == {"text", "canny", "depth"}
    for row, image, control, label in zip(chosen, rows.latents, rows.controls, rows.labels):
        assert image.any() and bool(control.any()) == (row.mode != "text") and row.prompt
        assert label.max() < labels.KINDS if row.image == "picture" else (label == labels.UNKNOWN).all()
    assert Pool(work, latents.HALF, ("text",)).fetch(chosen[:1]).controls is None


def test_a_share_of_the_rows_shows_what_is_oversampled(work):
    drawn = {row: latents.scene(seed, latents.HALF).objects for row, seed in enumerate(Pool(work, latents.HALF, ("text",)).seeds)}
    shape = next(objects[0].shape for objects in drawn.values() if len(objects) == 1)
    wanted = [row for row, objects in drawn.items() if [each.shape for each in objects] == [shape]]
    for share, least, most in ((1.0, 200, 200), (0.5, 70, 199)):
        chosen = Pool(work, latents.HALF, ("text",), oversampled=[(shape, share)]).choose(200, random.Random(0))
        assert least <= sum(row.index in wanted for row in chosen) <= most


def test_a_caption_beside_a_map_may_leave_objects_out(work):
    def named(row) -> int:
        return sum(word in forms for word in vocabulary.words(row.prompt) for forms in vocabulary.SHAPES.values())

    for mode in ("text", "canny"):
        pool = Pool(work, latents.HALF, (mode,))
        rows = [row for row in pool.choose(300, random.Random(0)) if row.image == "picture"]
        fewer = [named(row) < len(latents.scene(pool.seeds[row.index], pool.size).objects) for row in rows]
        assert not any(fewer) if mode == "text" else 10 < sum(fewer) < 90


def test_the_same_is_encoded_by_processes_side_by_side(work, tmp_path):
    for name in ("vae.pt", "estimator.pt", "latents.pt"):
        shutil.copy(work / name, tmp_path / name)
    shutil.copytree(work / "data", tmp_path / "data")
    latents.make(tmp_path, {latents.HALF: 8}, "cpu", processes=2)
    for path in (work / "latents").iterdir():
        assert np.array_equal(np.load(path), np.load(tmp_path / "latents" / path.name)), path.name


def test_latents_that_were_stopped_are_made_again_in_the_same_order_on_any_device(work, tmp_path, monkeypatch):
    for name in ("vae.pt", "latents.pt"):
        shutil.copy(work / name, tmp_path / name)
    shutil.copytree(work / "data", tmp_path / "data")
    save, counts, depth = np.save, {latents.HALF: 8}, latents.file(tmp_path, "depth", latents.HALF)

    def save_half(target, rows):
        save(target, rows[: len(rows) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", save_half)
        latents.make_kind(tmp_path, "depth", counts, "cpu")
    assert not list(depth.parent.iterdir())
    monkeypatch.setattr(data, "batch_on", lambda device: 3)  # a GPU, too, takes other batches than a CPU
    latents.make_kind(tmp_path, "depth", counts, "cpu")
    assert np.allclose(np.load(depth), np.load(latents.file(work, "depth", latents.HALF)), atol=0.02)
    depth.unlink()
    np.save(latents.file(tmp_path, "seeds", latents.HALF), np.load(latents.file(work, "seeds", latents.HALF)) + [250, 0])
    with pytest.raises(Refused, match="of other scenes"):
        latents.make_kind(tmp_path, "depth", counts, "cpu")
    assert not depth.exists()


def test_a_control_is_given_as_the_pipelines_give_it(work):
    trainer = Trainer(loop.Run(work, "cpu", 1), "base", 1)
    batch = next(trainer.batches)
    rows = trainer.pools[0].fetch(batch.rows)
    given = trainer.as_given(rows.controls, batch)
    for row, keeps, before, after in zip(batch.rows, batch.keeps_control, rows.controls, given):
        assert bool(after.any()) == (row.mode != "text" and bool(keeps)) and not (after.any() and torch.equal(before, after))


def test_batches_from_worker_processes_are_as_good(work):
    pool, share = Pool(work, latents.HALF, ("text", "canny")), Share(latents.HALF, 1.0, 40, 32)
    encoders = stage_transformer.text_encoders(work, "cpu")
    batches = Batches([pool], [share], encoders.tokenize, drops=True, name="base", done=0)
    alone, beside = endless(batches, "cpu"), endless(batches, "cuda")
    own, first, second = next(alone), next(beside), next(beside)
    assert own.rows == first.rows != second.rows and torch.equal(own.tokens.t5, first.tokens.t5)
    pad_from = [ids.tolist().count(0) for ids in own.tokens.t5]
    assert own.tokens.t5.shape == (40, 32) and 0 < sum(count > 28 for count in pad_from) < 15  # a tenth of the captions is empty
    assert 0 < (1 - own.keeps_control).sum() < 10


def test_a_resumed_stage_draws_other_sizes_than_at_its_start(work):
    pool, share = Pool(work, latents.HALF, ("text",)), Share(latents.HALF, 1.0, 1, 32)
    encoders = stage_transformer.text_encoders(work, "cpu")

    def sources(done):
        batches = iter(Batches([pool, pool], [share, share], encoders.tokenize, drops=True, name="base", done=done))
        return [next(batches).source for _ in range(30)]

    assert sources(0) == sources(0) != sources(50)


def test_text_alone_is_the_joint_network_with_a_control_of_zeros(tmp_path):
    torch.manual_seed(0)
    joint = networks.transformer(control=True).eval()
    torch.save({"step": 1, "averaged": joint.state_dict()}, tmp_path / "base.pt")
    alone = networks.transformer(control=False).eval()
    assert stage_transformer.load(alone, tmp_path / "base.pt") and not stage_transformer.load(alone, tmp_path / "missing.pt")
    noisy, prompt = torch.randn(1, 64, 64), flow.PromptEmbeds(torch.randn(1, 8, 128), torch.randn(1, 128))
    asked = (torch.tensor([0.5]), prompt, torch.ones(1), latents.HALF)
    with torch.no_grad():
        assert torch.allclose(
            flow.velocity(joint, noisy, torch.zeros(1, 64, 64), *asked), flow.velocity(alone, noisy, None, *asked), atol=1e-5
        )


def test_the_distilled_networks_are_trained_nearer_to_noise_than_their_base():
    def mean(stage):
        torch.manual_seed(0)
        return flow.random_times(4000, scenes.SQUARE, "cpu", stage_transformer.STAGES[stage].nearer_to_noise).mean()

    assert mean("base_real") == pytest.approx(0.6, abs=0.02) and mean("distil_text") == pytest.approx(0.67, abs=0.02)


def test_a_refined_network_is_taught_the_guidance_that_it_has(refined_work):
    trainer = Trainer(loop.Run(refined_work, "cpu", 1), "refine_text", 0)
    batch, size = next(trainer.batches), scenes.SQUARE
    noisy, time = torch.randn(len(batch.rows), 256, 64), torch.tensor([0.9, 0.6])
    prompts = trainer.encoders.embed(batch.tokens)
    guidance, added = trainer.guided(batch, noisy, None, time, prompts)
    with torch.no_grad():
        plain, guided = (flow.velocity(trainer.model, noisy, None, time, prompts, g, size) for g in (torch.ones(2), guidance))
    assert torch.allclose(plain + added, guided, atol=1e-5) and added.abs().amax((1, 2)).min() > 1e-3


def test_the_stages_of_the_transformers_build_on_each_other(work, monkeypatch):
    monkeypatch.setattr(stage_transformer, "SAMPLE_STEPS", 1)
    monkeypatch.setattr(stage_transformer, "SAMPLES", 2)
    known = stages(work, SCHEDULES["quick"], "cpu", work / "out")
    for name in ("base", "distil_text", "distil_depth"):
        known[name]()
        assert loop.reached(work / f"{name}.pt") == 2
    shipped = torch.load(work / "shipped.pt", weights_only=True)["averaged"]["proj_out.weight"]
    trained = torch.load(work / "base.pt", weights_only=True)["averaged"]["proj_out.weight"]
    assert not torch.equal(shipped, trained) and torch.allclose(shipped, trained, atol=0.1)
    text = FluxTransformer2DModel.from_pretrained(MINI / "transformer", dtype=torch.float32).proj_out.weight
    distilled = export.assemble(work, "transformer")["transformer"].proj_out.weight
    assert (distilled - text).abs().mean() < (distilled - trained).abs().mean()  # it goes on from its own weights
    assert export.assemble(work, "transformer")["transformer"].x_embedder.weight.shape[1] == 64
    assert {path.name for path in (work / "samples").iterdir()} >= {"base-000002.png", "base-000002.txt", "distil_depth-000002.png"}


def test_a_refined_network_goes_on_from_the_distilled_one_at_its_own_rates(refined_work, monkeypatch):
    monkeypatch.setattr(Trainer, "save_samples", lambda *_: None)  # looked at in the test above
    before = export.assemble(refined_work, "transformer")["transformer"].proj_out.weight
    stages(refined_work, SCHEDULES["quick"], "cpu", refined_work / "out")["refine_text"]()
    after = export.assemble(refined_work, "transformer")["transformer"].proj_out.weight
    steps, adam_rate = SCHEDULES["quick"].steps["refine_text"], stage_transformer.STAGES["refine_text"].rates[1]
    assert 0 < (after - before).abs().max() <= 1.01 * steps * adam_rate  # in its first steps, Adam moves no weight by more than its rate


def test_the_text_encoders_can_be_trained_further(work, tmp_path):
    shutil.copy(work / "text.pt", tmp_path / "text.pt")
    restart(tmp_path, "text")
    stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")["text"]()
    before, after = (torch.load(folder / "text.pt", weights_only=True)["t5"]["shared.weight"] for folder in (work, tmp_path))
    assert not torch.equal(before, after) and torch.allclose(before, after, atol=0.1)


def test_nothing_to_train_on_or_to_distil_is_said_in_words(work, tmp_path):
    known = stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")
    with pytest.raises(Refused, match="`latents` first"):
        known["base"]()
    with pytest.raises(Refused, match="distil_text has nothing to start from"):
        known["distil_text"]()
    shutil.copytree(work / "latents", tmp_path / "latents")
    with pytest.raises(Refused, match="no text.pt"):
        known["base"]()
