"""Objects named in no order: the text network learns to place them as it does when it is told an order."""

import random
from pathlib import Path

import pytest
import torch

from training import Refused, captions, export, flow, loop, networks, scenes, stage_order, stage_transformer
from training.preferences import TOKENS
from training.schedules import SCHEDULES

MINI = Path(__file__).parents[2] / "assets" / "mini"
IN_NO_ORDER, IN_ORDER = "a red cube and a blue sphere on sand", "a red cube to the left of a blue sphere on sand"


@pytest.fixture
def work(tmp_path) -> Path:
    """With the mini's text encoders, and a network that has learnt nothing yet."""
    export.import_shipped(MINI, tmp_path, SCHEDULES["quick"].steps)
    torch.manual_seed(0)
    torch.save({"averaged": networks.transformer(control=False).state_dict()}, tmp_path / "distil_text.pt")
    return tmp_path


@pytest.fixture
def encoders(work):
    return stage_transformer.text_encoders(work, "cpu")


def trained(work: Path, stage: str):
    model = networks.transformer(control=False)
    assert stage_transformer.load(model, work / f"{stage}.pt")
    return model


def test_a_caption_gets_the_order_in_which_it_names_its_objects():
    red, blue = (0, 0, 0), (1, 1)
    words = ("at", "noon", "a", "red", "cube", "next", "to", "blue", "balls.")
    none = captions.NO_OBJECT
    caption = captions.Caption(words, (none, none, *red, none, none, *blue), (False, False), False, True)
    ordered = captions.in_order(caption)
    assert ordered.text == "at noon a red cube to the left of blue balls."
    assert ordered.describes == (none, none, *red, *(none,) * 4, *blue)
    turned = captions.Caption(words, (none, none, 1, 1, 1, none, none, 0, 0), (False, False), False, True)
    assert captions.in_order(turned).text == ordered.text


def test_prompts_that_leave_the_order_open_are_learnt_from_others():
    rng = random.Random(3)
    drawn = [stage_order.prompts(rng) for _ in range(200)]
    taught = [(asked, told) for asked, told in drawn if told != asked]
    assert 80 < len(taught) < 120
    assert all("to the left of" in told and "left" not in asked for asked, told in taught)


@torch.no_grad()
def test_least_squares_bring_a_pair_in_no_order_close_to_the_pair_in_order_and_leave_others_nearly_alone(work, encoders, monkeypatch):
    monkeypatch.setattr(stage_order, "FITTED", 200)
    before, after = (trained(work, "distil_text").context_embedder for _ in range(2))
    stage_order.fit(after, encoders)

    def distance(prompt: str, told: str, embedder) -> float:
        """Between the tokens of "a red cube"."""
        return float((embedder(encoders.encode([prompt]).embeds) - before(encoders.encode([told]).embeds))[:, :3].square().mean())

    assert distance(IN_NO_ORDER, IN_ORDER, after) < 0.6 * distance(IN_NO_ORDER, IN_ORDER, before)
    alone = "a red cube on sand"
    assert distance(alone, alone, after) < 0.3 * distance(IN_NO_ORDER, IN_ORDER, before)


def test_training_goes_on_from_there_with_what_only_text_passes_through(work, encoders, monkeypatch):
    for name, value in {"fit": lambda *_: None, "LEARNING_RATE": 2e-3, "STEPS": 1, "TAUGHT": 1}.items():
        monkeypatch.setattr(stage_order, name, value)
    monkeypatch.setattr(stage_order, "prompts", lambda rng: (IN_NO_ORDER, IN_ORDER))
    stage_order.train(loop.Run(work, "cpu", 8), 2)
    start, ended = trained(work, "distil_text"), trained(work, "order_text")
    noise, time, guidance = torch.randn(1, *TOKENS, generator=torch.Generator().manual_seed(0)), torch.ones(1), torch.full((1,), 3.5)

    @torch.no_grad()
    def velocity(model, prompt: str) -> torch.Tensor:
        return flow.velocity(model, noise, None, time, encoders.encode([prompt]), guidance, scenes.SQUARE)

    wanted = velocity(start, IN_ORDER)
    assert (velocity(ended, IN_NO_ORDER) - wanted).square().mean() < 0.8 * (velocity(start, IN_NO_ORDER) - wanted).square().mean()
    as_before = {name for name, weight in ended.state_dict().items() if torch.equal(weight, start.state_dict()[name])}
    assert "transformer_blocks.0.attn.add_q_proj.weight" not in as_before
    assert {"x_embedder.weight", "proj_out.weight", "transformer_blocks.0.attn.to_q.weight"} < as_before
    exported = export.assemble(work, "transformer")["transformer"]  # these are the best there are
    assert torch.equal(exported.context_embedder.weight, ended.context_embedder.weight)


def test_without_a_network_it_says_what_to_train(tmp_path):
    with pytest.raises(Refused, match="order_text has nothing to start from. Train one of prefer_text, refine_text, distil_text first."):
        stage_order.train(loop.Run(tmp_path, "cpu", 1), 1)
