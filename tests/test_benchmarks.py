"""What a measurement measures and records. None is run here: they take minutes."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from benchmarks import engine, memory, readme, record, soak
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


def test_every_limit_in_the_table_is_a_recorded_one(tmp_path, monkeypatch):
    shutil.copytree(record.RESULTS, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*.json"):
        file.write_text(json.dumps(doubled(json.loads(file.read_text("utf-8")))), "utf-8")

    def limits() -> list[float]:
        return [float(re.search(r"([\d.]+) \w+ \|$", row)[1]) for row in readme.overhead().splitlines()[2:]]

    before = limits()
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert limits() == [2 * limit for limit in before]


def test_a_page_that_holds_more_afterwards_is_over_its_limit():
    result = json.loads((record.RESULTS / "soak.json").read_text("utf-8"))
    assert soak.over(result) == []
    result["after"]["handles"] += 100
    assert soak.over(result | {"crossed": 1}) == ["crossed", "handles"]


def doubled(result):
    """The result with every limit twice as high."""
    if isinstance(result, list):
        return [doubled(each) for each in result]
    if not isinstance(result, dict):
        return result
    high = {name: {each: 2 * value for each, value in limits.items()} for name, limits in result.items() if name == "limits"}
    return {name: 2 * value if name in ("limit", "goal_ms") else doubled(value) for name, value in result.items()} | high


def test_the_other_program_on_a_busy_machine_ends_with_the_measurement_however_that_ends():
    script = """
import signal
from benchmarks.busy import busy
with busy(1):
    print("started", flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as measurement:
        assert measurement.stdout.readline() == "started\n"
        measurement.kill()
        assert measurement.communicate(timeout=20) == ("", None)  # which ends when nobody has this pipe any more
