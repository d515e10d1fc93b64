"""Prompts are encoded once and kept; what the model cannot read of them is counted."""

import pytest
import torch

from flux_demo.engine import prompts
from flux_demo.engine.load import load_encoders

CPU = torch.device("cpu")


@pytest.fixture
def encoders(tiny):
    return load_encoders(tiny, 64, torch.float32, CPU)


def test_a_prompt_is_encoded_once(encoders):
    first = encoders.encode("a cube", CPU)
    encoders.t5 = encoders.clip = None  # encoding again would fail
    again = encoders.encode("a cube", CPU)
    assert torch.equal(first.embeds, again.embeds) and torch.equal(first.pooled, again.pooled)
    assert first.embeds.shape == (1, 64, 32) and first.pooled.shape == (1, 32)


def test_the_least_recently_used_prompt_is_dropped_first(encoders, monkeypatch):
    monkeypatch.setattr(prompts, "MAX_CACHED", 2)
    for prompt in ("one", "two", "one", "three"):
        encoders.encode(prompt, CPU)
    assert [encoders.has_encoded(prompt) for prompt in ("one", "two", "three")] == [True, False, True]


def test_other_encoders_share_no_cache(encoders, tiny):
    encoders.encode("one", CPU)
    assert not load_encoders(tiny, 64, torch.float32, CPU).has_encoded("one")


def test_the_ignored_tokens_of_a_long_prompt_are_counted(encoders):
    assert encoders.tokens_ignored("a cube") == 0
    assert encoders.tokens_ignored("a " * 100) > encoders.tokens_ignored("a " * 80) > 0
