"""What the README says is what the program does: its tables are compared with the program, its commands and programs are run."""

import argparse
import inspect
import os
import re
import shlex
from pathlib import Path

import pytest

import app
from flux_demo.backends import Backend
from flux_demo.backends.nvidia.payload import DEFAULTS
from flux_demo.cli import parser, run
from flux_demo.engine.presets import PRESETS
from flux_demo.modes import ESTIMATOR_REPO, MODES
from flux_demo.settings import BACKENDS, Settings
from tests.starting import free_port, started

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
HEADER, TEXT = README.split("---\n", 2)[1:]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def rows(first_cell: str) -> list[list[str]]:
    """The cells of the table rows whose first cell matches."""
    lines = [line for line in TEXT.splitlines() if re.match(rf"\| {first_cell} \|", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def commands() -> list[list[str]]:
    """The arguments of every ``python -m flux_demo`` line, in the order in which a person would type them."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if re.match(r"\S*python -m flux_demo", line)]
    return [shlex.split(line, comments=True)[3:] for line in lines]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """The current folder, with the repository's assets in it, where everything runs on the mini."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUX_DEMO_BACKEND", "mini")
    for folder in ("assets", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    return tmp_path


def test_the_header_is_what_spaces_take():
    header = dict(re.findall(r"^(\w+): *(.*)$", HEADER, re.MULTILINE))
    assert header["sdk"] == "gradio"
    assert header["sdk_version"] == PINS["gradio"]
    assert header["python_version"] == '"3.12"'
    assert (ROOT / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60
    assert header["license"] == "apache-2.0"
    assert re.findall(r"^ +- (.+)$", HEADER, re.MULTILINE) == [*(mode.repo for mode in MODES.values()), ESTIMATOR_REPO]


def test_the_table_of_modes_is_the_programs():
    said = [(name, model, guidance, steps) for name, model, _, guidance, steps in rows("`(?:text|canny|depth)`")]
    assert said == [
        (
            f"`{mode.name}`",
            f"[{mode.repo}](https://huggingface.co/{mode.repo})",
            f"{mode.guidance:g}",
            f"{mode.steps}, best {mode.quality_steps}",
        )
        for mode in MODES.values()
    ]


def test_what_nvidias_services_take_by_default_is_said():
    (_, steps), (guidance, _), (_, for_depth) = (DEFAULTS[kind] for kind in (None, "canny", "depth"))
    assert f"Both take {steps} steps by default, {for_depth} for depth, and guidance {guidance:g} for edges and depth." in README


def test_the_table_of_settings_is_the_programs():
    assert rows("`[A-Z_]+`") == [
        [f"`{row.name}`", f"`{row.default}`" if row.default else "not set", row.purpose] for row in Settings.variables()
    ]


def test_the_table_of_presets_is_the_programs():
    assert rows("`(?:exact|compiled)`") == [[f"`{row.name}`", row.changes, row.needs] for row in PRESETS.values()]


def test_every_backend_is_in_the_first_table_in_the_order_of_the_choice():
    first = TEXT.partition("\n## ")[0]
    assert re.findall(r"^\|[^|]+\|[^|]+\(`(\w+)`\) \|", first, re.MULTILINE) == list(BACKENDS)


def test_every_variable_of_ours_that_is_named_is_read():
    named = set(re.findall(r"FLUX_DEMO_[A-Z_]+", TEXT))
    assert named == {row.name for row in Settings.variables() if row.name.startswith("FLUX_DEMO")}


def test_what_a_new_backend_defines_is_what_is_named():
    sets, must, may = re.search(r"that sets (.*?) and defines (.*?); (.*?) have defaults", TEXT, re.DOTALL).groups()
    public = {name for name in vars(Backend) if not name.startswith("_")}
    assert set(re.findall(r"`(\w+)`", sets)) == {name for name in inspect.get_annotations(Backend) if name not in vars(Backend)}
    assert set(re.findall(r"`(\w+)`", must)) == Backend.__abstractmethods__
    assert set(re.findall(r"`(\w+)`", may)) == public - Backend.__abstractmethods__


def test_the_table_of_endpoints_is_the_programs(settings):
    from flux_demo import Studio
    from flux_demo.ui import build

    page = build(Studio.from_settings(settings))
    try:
        named = page.get_api_info()["named_endpoints"]
        offered = {name: ", ".join(row["parameter_name"] for row in endpoint["parameters"]) for name, endpoint in named.items()}
    finally:
        page.close()
    said = {name: cells[1].strip("`") for cells in rows(r"`/\w+`.*?") for name in re.findall(r"/\w+", cells[0])}
    assert said == offered


def test_the_measurements_are_the_recorded_ones():
    from benchmarks.readme import PAGES, filled

    for page in PAGES:
        text = page.read_text("utf-8")
        assert filled(text) == text, "the results have changed: python -m benchmarks.readme"


def test_a_few_plans_are_shown_and_all_are_linked():
    plans = TEXT.partition("<!-- plans -->")[2].partition("<!-- /plans -->")[0]
    assert len(re.findall(r"^\| \d+(?: to \d+)? GB \|", plans, re.MULTILINE)) == 5
    measured = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    assert "](benchmarks/README.md)" in TEXT and len(re.findall(r"^\| \d+ GB \|", measured, re.MULTILINE)) > 5


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "assets/mini/README.md", "assets/examples/README.md"])
def test_every_file_that_is_linked_is_there(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_module_that_is_named_can_be_run():
    for name in re.findall(r"python -m ([\w.]+)", TEXT):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


def test_every_make_target_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"run", "test", "lint", "bench"} <= set(re.findall(r"(?:^|`)make (\w+)", TEXT, re.MULTILINE)) <= targets


def test_every_option_of_the_app_is_there():
    options = {option for action in app._parser()._actions for option in action.option_strings if option.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)`", TEXT.partition("## Settings")[2].partition("## Recipes")[0])) == options - {"--help"}


def test_torch_is_named_in_the_version_that_was_tested():
    assert set(re.findall(r"torch==([\d.]+)", TEXT)) == {PINS["torch"]}


def test_the_fetch_commands_name_all_that_can_be_fetched():
    shown = [words[1] for words in commands() if words[0] == "fetch"]
    with pytest.raises(parser.NotUnderstood) as refused:
        parser.parse(["fetch", "nothing"])
    choices = re.search(r"choose from (.*)\)", str(refused.value))[1]
    assert shown == [word.strip(" '") for word in choices.split(",")]


def test_every_command_is_understood():
    for words in commands():
        assert isinstance(parser.parse(words), argparse.Namespace)


def test_the_commands_run_in_the_order_in_which_they_stand(workspace, capsys):
    for words in commands():
        if words[0] == "fetch":  # the only one that needs the network
            continue
        quick = ["--steps", "2"] if words[0] in (*MODES, "grid") else []  # the last one counts
        assert run([*words, *quick]) == 0, (words, capsys.readouterr().err)
    assert {"cone.png", "map.png", "grid.png", "grid.json", "edges.png"} <= {path.name for path in workspace.iterdir()}


def test_the_program_in_python_runs(workspace, monkeypatch):
    from PIL import Image

    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))  # it would open a window
    program = next(block for block in blocks("python") if "Studio" in block)
    assert len(program.splitlines()) <= 10
    exec(compile(program.replace("seed=7", "seed=7, steps=2"), "README.md", "exec"), {})
    assert [image.mode for image in shown] == ["RGB"]


def test_the_program_that_asks_the_page_runs(workspace, monkeypatch, capsys):
    port = free_port()
    program = next(block for block in blocks("python") if "gradio_client" in block)
    program = program.replace("7860", str(port)).replace('seed="7"', 'seed="7", steps=2')
    with started("--port", str(port), "--outputs", str(workspace / "outputs")):
        exec(compile(program, "README.md", "exec"), {})
    assert capsys.readouterr().out.endswith(" 7 mini\n")


def test_the_ci_script_runs_the_targets_that_are_named_first():
    script = ROOT / ".ci" / "run"
    named = next(block for block in blocks("sh") if block.startswith("make lint"))
    assert re.findall(r"make (\w+)", script.read_text("utf-8")) == re.findall(r"make (\w+)", named)[:2]
    assert os.access(script, os.X_OK)
