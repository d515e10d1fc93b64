"""The axis ``model``, on FLUX of the tiny sort: each cell runs on its own weights, and its recipe names them."""

import shutil

import pytest
import torch

from flux_demo import Settings, Studio
from flux_demo.cli import run
from flux_demo.experiments.cells import CellsRefused
from tests.engine.tiny import build


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return [build(place / name, torch.float32, seed=seed) for seed, name in enumerate(("first", "second"))]


def studio(models, outputs):
    return Studio.from_settings(Settings(backend="local", device="cpu", outputs=str(outputs), models={"text": str(models[0])}))


def test_each_model_makes_its_own_cells_and_one_that_is_gone_is_said(models, tmp_path):
    vary = {"model": list(map(str, models)), "seed": [1, 2]}
    grid = studio(models, tmp_path).grid("text", "a cube", vary, steps=1, size="256x256")
    cells = {cell.index: cell for cell in grid}
    assert [(cells[place].image.recipe.model, cells[place].image.recipe.seed) for place in sorted(cells)] == [
        ("first", 1),
        ("first", 2),
        ("second", 1),
        ("second", 2),
    ]
    assert len({cell.image.image.tobytes() for cell in cells.values()}) == 4
    alone = studio(models, tmp_path / "alone")
    assert next(iter(alone.grid("text", "a cube", {"seed": [2]}, steps=1, size="256x256"))).image.image.tobytes() == (
        cells[0, 1].image.image.tobytes()
    )
    assert all(cell.reused for cell in studio(models, tmp_path).grid("text", "a cube", vary, steps=1, size="256x256"))


def test_images_of_all_models_are_kept_in_one_folder_wherever_the_program_goes(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made = studio(models, "outputs")
    monkeypatch.chdir("elsewhere")
    cells = made.grid("text", "a cube", {"model": list(map(str, models))}, seed=1, steps=1, size="256x256")
    assert [cell.image.path.parent for cell in cells] == [tmp_path / "outputs"] * 2


def test_where_the_models_run_is_said_and_not_where_another_one_would(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FLUX_DEMO_DEVICE", "cpu")
    words = ["grid", "text", "a cube", "--vary", f"model={models[0]}", "--seed", "1", "--steps", "1", "--size", "256x256"]
    for backend in ("auto", "local"):  # without a model of its own, one runs the mini and the other nothing
        assert run([*words, "--backend", backend, "-o", str(tmp_path / "grid.png")]) == 0
        said = capsys.readouterr().err
        assert said.count("Runs on: ") == 1 and "FLUX on this machine's CPU" in said and "mini" not in said


def test_a_model_that_cannot_run_is_said_before_the_first_cell(models, tmp_path):
    broken = shutil.copytree(models[0], tmp_path / "broken", ignore=shutil.ignore_patterns("diffusion_pytorch_model*"))
    with pytest.raises(CellsRefused, match="Cell 2: The folder .* is incomplete") as refusal:
        studio(models, tmp_path / "outputs").grid("text", "a cube", {"model": [str(models[0]), str(broken)]}, steps=1, size="256x256")
    assert str(tmp_path) not in str(refusal.value)
