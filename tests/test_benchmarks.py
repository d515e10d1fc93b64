"""What a measurement measures and records. None is run here: they take minutes."""

import pytest

from benchmarks import engine, memory, record
from flux_demo.engine.memory import GIB


def test_a_cap_is_measured_with_the_plan_that_such_a_card_gets():
    theirs = {card: plan for card, plan in reversed(list(memory.rows()))}  # the last of a card is the first row: with much main memory
    assert {card: engine.plan_for(card, 200 * GIB) for card in theirs} == theirs


def test_a_measurement_that_fails_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmarks.engine", "--cap", "24"])
    monkeypatch.chdir(tmp_path)  # where the process of its own does not find this package
    with pytest.raises(SystemExit, match="The memory of engine was not measured: .*benchmarks"):
        engine.main()
    assert not list(tmp_path.iterdir())
