"""A stage stops and goes on as if it had not; the loop's own parts do what they say."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from training import data, flow, latents, loop, maps, measures, muon, stage_text, stage_vae
from training.schedules import SCHEDULES
from training.train import stages


def test_a_stopped_stage_goes_on_where_it_was(tmp_path):
    def run(steps: int) -> nn.Module:
        torch.manual_seed(0)
        network = nn.Linear(4, 4)
        averaged = loop.Averaged(network, 0.9)
        tools = muon.optimisers(network, 0.01, 1e-3, ())
        seen = []

        def one_step(step: int):
            seen.append(step)
            network.zero_grad()
            loss = (network(torch.full((1, 4), 1.0 + step)) - 1).square().mean()
            loss.backward()
            for tool in tools.values():
                tool.step()
            averaged.update(network, step)
            return {"loss": loss.detach()}

        loop.train(tmp_path / "stage.pt", {"network": network, "averaged": averaged, **tools}, steps, one_step)
        return network, seen

    run(3)
    network, seen = run(6)
    assert seen == [3, 4, 5]
    again, seen = run(6)
    assert seen == [] and torch.equal(network.weight, again.weight)


def test_muon_evens_out_singular_values():
    matrices = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(muon.even(matrices))
    assert float(values.min()) > 0.3 and float(values.max()) < 1.4


def test_packing_is_diffusers_own():
    from diffusers import FluxPipeline

    given = torch.randn(2, 16, 6, 8)
    assert torch.equal(latents.pack(given), FluxPipeline._pack_latents(given, 2, 16, 6, 8))
    assert torch.equal(latents.unpack(latents.pack(given), (64, 48)), given)


def test_the_training_schedule_is_the_pipelines():
    from training import networks

    scheduler = networks.scheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), mu=0.5)
    assert flow.schedule(20) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-5)


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
    from training import networks

    vae = networks.vae()
    stage_vae.fix_variance(vae)
    with torch.no_grad():
        spread = vae.encode(torch.randn(1, 3, 32, 32)).latent_dist.std
    assert torch.allclose(spread, torch.full_like(spread, stage_vae.DEVIATION), rtol=1e-3)


def test_the_first_stages_run_from_an_empty_folder(tmp_path):
    known = stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")
    data.CHUNK, whole = 8, data.CHUNK
    try:
        data.render_all(tmp_path, {(256, 256): 8}, "cpu", 1)
    finally:
        data.CHUNK = whole
    for name in ("vae", "text"):
        known[name]()
        assert loop.reached(tmp_path / f"{name}.pt") == 2
    seeds, four = data.chunks(tmp_path, (256, 256))
    assert four.shape == (8, 256, 256, 4) and list(seeds) == list(range(8))


def test_what_is_to_be_read_fits_the_tokens():
    import random

    from training import captions, scenes, tokenizers

    pieces = tokenizers.t5_tokenizer()
    draw = random.Random(3)
    for seed in islice(range(1000), 20):
        scene = scenes.sample(seed, 256, 256)
        said = captions.caption(scene, draw)
        ids = pieces([said.text], padding="max_length", max_length=64, return_tensors="pt").input_ids
        own, *_ = stage_text.answers([scene], [said], ids, pieces)
        for token, shape in zip(pieces.convert_ids_to_tokens(ids[0]), own[0, :, 0].tolist()):
            if token in ("▁sphere", "▁cube", "▁cylinder", "▁cone"):
                assert stage_text.SHAPES[shape] == token[1:]


def test_a_stage_ends_when_its_minutes_are_over_and_counts_as_done(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock) * 10.0)  # ten seconds pass at each look
    monkeypatch.setattr(loop, "minutes", 2.0)
    network = nn.Linear(2, 2)
    tool = torch.optim.SGD([{"params": network.parameters(), "peak": 1.0}])
    rates = []

    def one_step(step: int):
        rates.append(tool.param_groups[0]["lr"])
        return {"loss": torch.zeros(())}

    loop.train(tmp_path / "stage.pt", {"network": network, "tool": tool}, 10**6, one_step)
    assert 3 < len(rates) < 12 and rates[-1] < 0.2 < max(rates)
    assert loop.reached(tmp_path / "stage.pt") == 10**6


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_batch_is_a_batch_and_no_count_of_steps(schedule):
    assert max(schedule.batch.values()) <= 128
