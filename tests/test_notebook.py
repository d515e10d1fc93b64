"""The notebook runs from top to bottom, shows what it promises, and is stored small."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from examples.store import NOTEBOOK, executed

ROOT = Path(__file__).resolve().parent.parent


def pictures(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and any(kind in output.get("data", {}) for output in cell.outputs)]


@pytest.mark.timeout(600)
def test_the_notebook_runs_in_a_clean_folder(tmp_path, monkeypatch):
    """Also that progress is shown, where on_step is left out."""
    for name in ("flux_demo", "assets"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = executed(tmp_path, steps=2)
    assert len(pictures(notebook, "image/png")) == 6
    shown = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "step/s" in shown or "s/step" in shown
    assert "<summary>Recipe" in shown


@pytest.mark.parametrize(("clone", "start"), [("flux_demo", "."), ("another", "."), ("flux_demo", "flux_demo/examples")])
def test_the_first_cell_finds_the_clone(tmp_path, clone, start):
    """Whatever the clone is called: from inside it, and from the folder that it lies in."""
    (tmp_path / clone / "examples").mkdir(parents=True)
    (tmp_path / clone / "flux_demo").symlink_to(ROOT / "flux_demo")
    first = next(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\nprint(root)"], cwd=tmp_path / start, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tmp_path / clone), done.stderr


def test_the_stored_notebook_has_small_images_and_no_noise():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len(pictures(notebook, "image/jpeg")) == 6
    assert NOTEBOOK.stat().st_size < 200_000
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert all(output.get("name") != "stderr" for output in cell.outputs)


def test_no_progress_is_shown_outside_a_notebook():
    code = "from flux_demo.notebook import progress_bar\nwith progress_bar(None) as step: step(1, 2, None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
