"""A stage that is stopped continues as if it had not been; the parts of the training do what they say."""

from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from training import (
    Refused,
    data,
    flow,
    latents,
    loop,
    maps,
    measures,
    muon,
    networks,
    stage_text,
    stage_transformer,
    stage_vae,
    train,
)
from training.schedules import SCHEDULES
from training.train import stages


def test_a_stopped_stage_goes_on_where_it_was(tmp_path):
    def run(steps: int) -> tuple[nn.Module, list[int]]:
        torch.manual_seed(0)
        network = nn.Linear(4, 4)
        averaged = loop.Averaged(network, 0.9)
        optimisers = muon.optimisers(network, 0.01, 1e-3, ())
        seen = []

        def one_step(step: int, progress: float):
            seen.append(step)
            network.zero_grad()
            loss = (network(torch.full((1, 4), 1.0 + step)) - 1).square().mean()
            loss.backward()
            for optimiser in optimisers.values():
                optimiser.step()
            averaged.update(network, step)
            return {"loss": loss.detach()}

        state = {"network": network, "averaged": averaged, **optimisers}
        loop.train(loop.Run(tmp_path, "cpu", steps), "stage", state, one_step)
        return network, seen

    run(3)
    network, seen = run(6)
    assert seen == [3, 4, 5]
    again, seen = run(6)
    assert seen == [] and torch.equal(network.weight, again.weight)


def test_muon_evens_out_singular_values():
    matrices = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(muon.orthogonalised(matrices))
    assert float(values.min()) > 0.3 and float(values.max()) < 1.4


def test_packing_is_diffusers_own():
    from diffusers import FluxPipeline

    given = torch.randn(2, 16, 6, 8)
    assert torch.equal(latents.pack(given), FluxPipeline._pack_latents(given, 2, 16, 6, 8))
    assert torch.equal(latents.unpack(latents.pack(given), (64, 48)), given)


def test_the_training_schedule_is_the_pipelines():
    scheduler = networks.scheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=0.5)
    assert flow.sigmas(20) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-5)


def test_edges_score_one_with_themselves_and_little_with_others():
    draw = np.random.default_rng(0)
    first, second = (maps.edges(maps.drawing(128, 128, draw))[..., 0] for _ in range(2))
    assert measures.edge_f1(first, first) == 1
    assert measures.edge_f1(first, np.roll(first, 2, 1)) > 0.95
    assert measures.edge_f1(first, second) < 0.6


def test_a_receding_floor_earns_no_depth_correlation():
    floor = np.repeat(np.linspace(0, 1, 64)[:, None], 64, 1)
    bump = np.zeros((64, 64))
    bump[20:40, 20:40] = 0.3
    assert measures.depth_correlation(floor + bump, floor + bump) == pytest.approx(1)
    assert measures.depth_correlation(floor + bump, floor) == 0


def test_the_variance_of_the_vae_is_a_constant():
    vae = networks.vae()
    stage_vae.fix_variance(vae)
    with torch.no_grad():
        spread = vae.encode(torch.randn(1, 3, 32, 32)).latent_dist.std
    assert torch.allclose(spread, torch.full_like(spread, stage_vae.DEVIATION), rtol=1e-3)


def test_the_first_stages_run_from_an_empty_folder(tmp_path, monkeypatch):
    known = stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")
    monkeypatch.setattr(data, "CHUNK", 8)
    data.render_all(tmp_path, {(256, 256): 8}, 1)
    for name in ("vae", "text"):
        known[name]()
        assert loop.reached(tmp_path / f"{name}.pt") == 2
    seeds, rgbd = data.load(tmp_path, (256, 256))
    assert rgbd.shape == (8, 256, 256, 4) and list(seeds) == list(range(8))
    assert (tmp_path / "samples" / "vae-000002.png").is_file()


def test_the_decoders_own_stage_keeps_the_encoder_that_made_the_latents(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 8)
    data.render_all(tmp_path, {(256, 256): 8}, 1)
    model, averaged = networks.vae(), networks.vae()
    torch.save({"step": 2, "model": model.state_dict(), "averaged": averaged.state_dict()}, tmp_path / "vae.pt")
    stage_vae.train(loop.Run(tmp_path, "cpu", 1), 2, only_decoder=True)
    trained = torch.load(tmp_path / "vae_decoder.pt", weights_only=True)["averaged"]
    encoder = {name: value for name, value in averaged.state_dict().items() if name.startswith("encoder.")}
    assert encoder and all(torch.equal(trained[name], value) for name, value in encoder.items())
    assert not torch.equal(trained["decoder.conv_out.weight"], averaged.state_dict()["decoder.conv_out.weight"])


def test_a_further_round_can_render_scenes_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 4)
    data.render_all(tmp_path, {(336, 192): 6}, 1, first_seed=40)
    seeds, rgbd = data.load(tmp_path, (336, 192))
    assert list(seeds) == list(range(40, 46))
    assert np.abs(rgbd[5].astype(int) - data.rendered([45], (336, 192))[0]).max() <= 3  # alone and in a batch differ a little


@pytest.mark.parametrize("first_seed", [-250, 7, data.HELD_OUT, data.HELD_OUT - 250])
def test_a_first_seed_that_cannot_be_is_refused_in_words(tmp_path, first_seed):
    with pytest.raises(ValueError, match="Give a"):
        data.render_all(tmp_path, {(256, 256): 251}, 1, first_seed)
    assert not list(tmp_path.iterdir())


def test_the_answers_belong_to_the_tokens_that_give_them():
    import random

    from training import captions, scenes, tokenizers

    tokenizer = tokenizers.t5_tokenizer()
    rng = random.Random(3)
    for seed in islice(range(1000), 20):
        scene = scenes.sample(seed, 256, 256)
        caption = captions.caption(scene, rng)
        ids = tokenizer([caption.text], padding="max_length", max_length=64, return_tensors="pt").input_ids
        own, *_ = stage_text.answers([scene], [caption], ids, tokenizer)
        for token, shape in zip(tokenizer.convert_ids_to_tokens(ids[0]), own[0, :, 0].tolist()):
            if token in ("▁sphere", "▁cube", "▁cylinder", "▁cone"):
                assert stage_text.SHAPES[shape] == token[1:]


def test_a_stage_ends_when_its_minutes_are_over_and_counts_as_done(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock) * 10.0)  # ten seconds pass between two calls
    network = nn.Linear(2, 2)
    optimiser = torch.optim.SGD([{"params": network.parameters(), "peak": 1.0}])
    rates, progresses = [], []

    def one_step(step: int, progress: float):
        rates.append(optimiser.param_groups[0]["lr"])
        progresses.append(progress)
        return {"loss": torch.zeros(())}

    run = loop.Run(tmp_path, "cpu", 10**6, minutes=2.0)
    loop.train(run, "stage", {"network": network, "optimiser": optimiser}, one_step)
    assert 3 < len(rates) < 12 and rates[-1] < 0.2 < max(rates)
    assert progresses == sorted(progresses) and progresses[-1] > 0.7  # by the clock, not by the steps
    assert loop.reached(run.checkpoint("stage")) == 10**6


def test_a_stage_that_is_stopped_goes_on_in_its_schedule_by_the_clock_too(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock) * 5.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    run, progresses = loop.Run(tmp_path, "cpu", 10**6, minutes=3.0), []

    def stopped_after(count: int) -> list[float]:
        optimiser = torch.optim.SGD([{"params": nn.Linear(2, 2).parameters(), "peak": 1.0}])
        seen = []

        def one_step(step: int, progress: float):
            if len(seen) == count:
                raise KeyboardInterrupt
            seen.append(progress)
            return {}

        with suppress(KeyboardInterrupt):
            loop.train(run, "stage", {"optimiser": optimiser}, one_step)
        return seen

    for _ in range(3):
        progresses += stopped_after(4)
    assert progresses == sorted(progresses) and 0.5 < progresses[-1] < 1
    train.restart(tmp_path, "stage")
    assert stopped_after(1)[0] < progresses[0] + 0.1
    assert stopped_after(10**6)[-1] > 0.9 and loop.reached(run.checkpoint("stage")) == 10**6
    torch.save({"step": 4}, run.checkpoint("stage"))  # from before progress was kept
    assert stopped_after(1)[0] < 0.1


def test_a_new_round_changes_only_a_checkpoints_step(tmp_path):
    for name, content in (("vae", {"step": 7, "model": {}}), ("latents", {"mean": 0.5})):
        torch.save(content, tmp_path / f"{name}.pt")
        train.restart(tmp_path, name)
    train.restart(tmp_path, "text")  # never trained
    kept = {path.name: torch.load(path) for path in tmp_path.iterdir()}
    assert kept == {"vae.pt": {"step": 0, "model": {}}, "latents.pt": {"mean": 0.5}}


def test_a_new_round_has_the_learning_rates_of_its_own_schedule(tmp_path):
    def optimisers(rate: float):
        torch.manual_seed(0)
        return muon.optimisers(nn.Linear(4, 4), rate, rate / 10, ())

    before, after = optimisers(1.0), optimisers(2.0)
    loop.save(tmp_path / "stage.pt", before, 7)
    assert loop.load(tmp_path / "stage.pt", after) == 7
    assert [after[name].param_groups[0]["peak"] for name in ("muon", "adam")] == [2.0, 0.2]


@pytest.mark.parametrize("encoded", ["latents", "latents.pt", "vae_decoder.pt"])
def test_the_vae_is_not_changed_under_what_its_encoder_has_made(tmp_path, encoded):
    torch.save({"step": 2, "averaged": networks.vae().state_dict()}, tmp_path / "vae.pt")
    (tmp_path / encoded).mkdir()
    kept = (tmp_path / "vae.pt").read_bytes()
    with pytest.raises(Refused, match=f"vae` would change the encoder, and {encoded}"):
        train.restart(tmp_path, "vae")
    with pytest.raises(Refused):
        stage_vae.train(loop.Run(tmp_path, "cpu", 3), 2)
    assert (tmp_path / "vae.pt").read_bytes() == kept


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_stage_has_steps_and_a_batch_that_fits(schedule):
    assert set(schedule.steps) == {*schedule.batch, *stage_transformer.STAGES, "vae_decoder"}
    assert schedule.batch["judge"] <= min(schedule.scenes.values())  # drawn without replacement


def test_shipped_weights_are_taken_up_beside_a_probe_that_starts_anew(tmp_path):
    network, probe = torch.nn.Linear(3, 2), torch.nn.ModuleDict({"kinds": torch.nn.Linear(2, 1)})
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    shipped = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    torch.save({"step": 0, "averaged": shipped}, tmp_path / "base.pt")
    before = probe["kinds"].weight.clone()
    averaged = loop.Averaged(network, 0.9)
    assert loop.load(tmp_path / "base.pt", {"model": network, "averaged": averaged, "reading": probe, "adam": optimiser}) == 0
    assert torch.equal(network.weight, shipped["weight"]) and torch.equal(averaged.weights["weight"], shipped["weight"])
    assert torch.equal(probe["kinds"].weight, before)
