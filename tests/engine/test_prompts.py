import pytest
import torch

from flux_demo.engine import prompts
from flux_demo.engine.load import load_encoders

CPU = torch.device("cpu")


@pytest.fixture
def encoders(tiny):
    return load_encoders(tiny, 64, torch.float32, CPU)


def test_a_text_is_read_once(encoders, monkeypatch):
    first = encoders.encode("a cube", CPU)
    encoders.t5 = encoders.clip = None  # would fail if it were asked again
    again = encoders.encode("a cube", CPU)
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.pooled, again.pooled)
    assert first.tokens.shape == (1, 64, 32) and first.pooled.shape == (1, 32)


def test_the_text_that_was_asked_for_longest_ago_is_forgotten_first(encoders, monkeypatch):
    monkeypatch.setattr(prompts, "KEPT", 2)
    for text in ("one", "two", "one", "three"):
        encoders.encode(text, CPU)
    assert [encoders.has_encoded(text) for text in ("one", "two", "three")] == [True, False, True]


def test_other_encoders_have_read_nothing(encoders, tiny):
    encoders.encode("one", CPU)
    assert not load_encoders(tiny, 64, torch.float32, CPU).has_encoded("one")


def test_what_is_not_read_of_a_long_text_is_counted(encoders):
    assert encoders.tokens_ignored("a cube") == 0
    assert encoders.tokens_ignored("a" * 100) > 30
