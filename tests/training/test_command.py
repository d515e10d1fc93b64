"""`python -m training.train` and `training.evaluate`: what they run, what they refuse, and how they are stopped."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from flux_demo.exit_codes import INTERRUPTED
from flux_demo.gallery import PART
from training import Refused, evaluate, export, loop, train
from training.schedules import SCHEDULES
from training.train import stages

MINI = Path(__file__).parents[2] / "assets" / "mini"


def test_what_only_runs_when_it_is_named_does(tmp_path, monkeypatch):
    def ran(*words: str) -> list[str]:
        done: list[str] = []
        known = stages(tmp_path, SCHEDULES["quick"], "cpu", tmp_path / "out")
        monkeypatch.setattr(train, "stages", lambda *_: {name: partial(done.append, name) for name in known})
        monkeypatch.setattr("sys.argv", ["training.train", "--work", str(tmp_path), *words])
        train.main()
        return done

    (left := tmp_path / PART.replace("*", "of a run that was killed")).touch()
    everything = ran()
    assert not left.exists()
    assert everything[0] == "data" and everything[-1] == "export" and not {*train.ONLY_WHEN_NAMED} & set(everything)
    assert ran(*train.ONLY_WHEN_NAMED) == [*train.ONLY_WHEN_NAMED]


@pytest.mark.parametrize(
    ("main", "stage", "words"),
    [
        (evaluate.main, None, "There is no judge.pt yet. Run `python -m training.train --work {} data judge` first."),
        (train.main, "judge", "No scenes of 256x256 are rendered yet. Run the stage `data` first."),
        (train.main, "vae", "No scenes of 256x256 are rendered yet. Run the stage `data` first."),
        (train.main, "estimator", "No scenes of 256x256 are rendered yet. Run the stage `data` first."),
        (train.main, "latents", "There is no vae.pt yet. Run `python -m training.train --work {} data vae` first."),
        (train.main, "vae_decoder", "There is no vae.pt yet. Run `python -m training.train --work {} data vae` first."),
    ],
)
def test_what_is_missing_is_said_with_the_stage_that_makes_it(tmp_path, monkeypatch, main, stage, words):
    monkeypatch.setattr("sys.argv", ["training", "--work", str(tmp_path), *([stage] if stage else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == words.format(tmp_path) and not list(tmp_path.iterdir())


def test_a_misspelt_stage_is_refused_before_others_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training.train", "--work", str(tmp_path / "work"), "data", "vea"])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert "vea is not a stage" in capsys.readouterr().err and not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (train.main, ("--steps", "0"), "'0' is not a number above 0"),
        (train.main, ("--steps", "-3"), "'-3' is not a number above 0"),
        (train.main, ("--steps", "ten"), "invalid int value: 'ten'"),
        (train.main, ("--minutes", "0"), "'0' is not a number above 0"),
        (train.main, ("--minutes", "nan"), "'nan' is not a number above 0"),
        (evaluate.main, ("--count", "0"), "'0' is not a number above 0"),
        (evaluate.main, ("--weights", "assets"), "There are no weights in assets. Give the folder of a mini."),
    ],
)
def test_options_that_cannot_be_meant_are_refused(monkeypatch, capsys, main, words, said):
    monkeypatch.setattr("sys.argv", ["training", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert said in capsys.readouterr().err


def test_a_work_folder_that_is_a_file_is_refused_in_words(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["training.train", "--work", str(tmp_path / "file"), "shipped"])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert "file" in ended.value.code


def test_weights_that_were_never_trained_are_not_exported(tmp_path):
    (target := tmp_path / "mini").mkdir()
    (target / "kept").touch()
    with pytest.raises(Refused, match="There are no weights for vae in .*work. Train vae first"):
        export.export(tmp_path / "work", target)
    assert [path.name for path in target.iterdir()] == ["kept"]


def test_shipped_weights_are_imported_whole_or_not_at_all(tmp_path, monkeypatch):
    with pytest.raises(Refused, match="There are no weights in .*none. Give the folder of a mini with --target"):
        export.import_shipped(tmp_path / "none", tmp_path / "work", SCHEDULES["quick"].steps)
    save, saved = torch.save, []

    def interrupted(content, path) -> None:
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(content, path)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.import_shipped(MINI, tmp_path / "work", SCHEDULES["quick"].steps)
    assert not list((tmp_path / "work").glob("*.pt"))
    export.import_shipped(MINI, tmp_path / "work", SCHEDULES["quick"].steps)
    assert len(list((tmp_path / "work").glob("*.pt"))) == 8


def test_ctrl_c_ends_a_stage_after_its_step_with_a_checkpoint(tmp_path, monkeypatch, capsys):
    ran = []

    def one_step(step: int, progress: float) -> dict[str, torch.Tensor]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        ran.append(step)
        return {}

    monkeypatch.setattr(train, "stages", lambda work, *_: {"vae": lambda: loop.train(loop.Run(work, "cpu", 100), "vae", {}, one_step)})
    monkeypatch.setattr("sys.argv", ["training.train", "--work", str(tmp_path), "vae"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
    try:
        with pytest.raises(SystemExit) as ended:
            train.main()
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == INTERRUPTED and "Stopped in vae. Run vae again" in capsys.readouterr().err
    assert ran == [0, 1, 2, 3] and loop.reached(tmp_path / "vae.pt") == 4
