"""What is installed: every requirement says what it is for, is used, and was tested in a version of its range."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
NEVER_IMPORTED = {"accelerate", "mcp"}  # diffusers and transformers load large weights with the one, Gradio serves tools with the other


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]


def requirements(name: str) -> dict[str, Requirement]:
    found = [Requirement(line.partition("#")[0].strip()) for line in lines(name)]
    return {canonical(row.name): row for row in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: str) -> set[str]:
    """The distributions of other people that our files import, inside functions too."""
    homes = packages_distributions()
    names: set[str] = set()
    for path in (path for folder in folders for path in sorted(ROOT.glob(folder))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    ours = {"app", "benchmarks", "flux_demo", "tests"}
    return {canonical(homes[name][0]) for name in names - ours - set(sys.stdlib_module_names) if name in homes}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-serve.txt"])
def test_every_requirement_says_what_it_is_for(name):
    assert [line for line in lines(name) if not re.search(r"\s# \S", line)] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-serve.txt"])
def test_every_requirement_was_tested_in_a_version_of_its_range(name):
    pins = requirements("constraints.txt")
    for requirement in requirements(name).values():
        (pin,) = pins[canonical(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), requirement


def test_constraints_are_exact():
    assert [line for line in lines("constraints.txt") if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_what_the_program_imports_is_required_and_what_is_required_is_used():
    used = imported("app.py", "flux_demo/*.py", "flux_demo/[!m]*/**/*.py", "flux_demo/maps/*.py")
    named = set(requirements("requirements.txt")) | set(requirements("requirements-serve.txt"))
    brought = {"tqdm", "tokenizers", "filelock"}  # by huggingface_hub and transformers, and used only with them
    brought |= {"starlette", "python-multipart"}  # by gradio: what it serves with and reads uploads with
    brought |= {"spaces"}  # by Hugging Face to Spaces with ZeroGPU, and imported only there
    assert used - brought <= named
    assert named - used <= NEVER_IMPORTED | ({"ray"} if find_spec("ray") is None else set())  # its files are known only where it is


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_run_passes_its_options_on():
    done = subprocess.run(
        # Without the second option a make that runs the tests has this one talk of folders.
        ["make", "-n", "--no-print-directory", "run", "ARGS=--port 8000", "-o", ".venv/installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "exec .venv/bin/python app.py --port 8000"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(("python", "sentence"), [("no-such-python", "needs Python 3.11"), ("false", "needs Python 3.11")])
def test_make_says_which_python_it_needs(python, sentence, tmp_path):
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "test", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
