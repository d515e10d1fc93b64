"""The command line as it is typed: exit codes, what goes where, and a sentence for everything that is refused."""

import itertools
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from flux_demo.cli import run
from flux_demo.cli.parser import parse
from flux_demo.modes import MODES
from tests.cli.conftest import ROOT


def refusal(capsys, *words: str) -> str:
    """Run a command that must be refused with exit code 3 and nothing on standard output; return what it says on standard error."""
    code = run(list(words))
    said = capsys.readouterr()
    assert (code, said.out) == (3, "")
    assert "Traceback" not in said.err
    return said.err


def test_help_names_every_command(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in (*MODES, "map", "check", "fetch", "recipe"):
        assert f"    {name} " in text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["text"],
        ["canny", "photo.jpg"],
        ["text", "a cat", "--seed", "abc"],
        ["text", "a cat", "--steps", "many"],
        ["text", "a cat", "--guidance", "nan"],
        ["text", "a cat", "--seed", "1_000"],
        ["text", "a cat", "--nonsense"],
        ["text", "a cat", "--low", "3"],
        ["canny", "photo.jpg", "a cat", "--fit", "squeeze"],
        ["map", "photo.jpg"],
        ["map", "text", "photo.jpg"],
        ["fetch", "everything"],
        ["recipe"],
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_exits_2(words, capsys):
    assert run(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage:")


@pytest.mark.parametrize("before", [["--json"], ["--seed", "-1"], ["--seed", "5", "--"], ["--"]], ids=" ".join)
def test_a_prompt_may_begin_with_a_negative_number(before):
    assert parse(["text", *before, "-1 C, frost on a window"]).prompt == "-1 C, frost on a window"
    assert parse(["depth", "photo.png", "--invert", "-1 C"]).prompt == "-1 C"


@pytest.mark.parametrize("order", [order for order in itertools.permutations(range(4)) if order.index(0) < order.index(1)])
def test_the_photo_and_the_prompt_of_a_grid_may_stand_anywhere_among_its_options(order):
    for prompt in ("a cube", "-1 C"):
        parts = [["photo.jpg"], [prompt], ["--vary", "seed=1,2"], ["--as-map"]]
        parsed = parse(["grid", "canny", *(word for part in order for word in parts[part])])
        assert (parsed.photo, parsed.prompt, parsed.vary, parsed.as_map) == ("photo.jpg", prompt, ["seed=1,2"], True)


@pytest.mark.parametrize("words", [["--vary", "seed=1", "a cube", "red"], ["--vary", "seed=1", "--colour", "red"], ["-x"]], ids=" ".join)
def test_what_is_left_over_of_a_grid_is_no_prompt(words, capsys):
    assert run(["grid", "canny", "photo.jpg", *words]) == 2


def test_a_prompt_that_is_read_as_an_option_is_shown_how_to_be_written(capsys):
    for words in (["text", "-cube", "--steps", "1"], ["canny", "photo.jpg", "-cube"], ["grid", "text", "--vary", "seed=1", "-cube"]):
        assert run(words) == 2
        assert capsys.readouterr().err.endswith("'-cube' was read as an option; if it is not one, put -- before it, after all options.\n")
    for words in (["text", "-oa.png"], ["-o", "a.png", "text", "a cube"], ["text", "a cube", "--steps", "-x"]):
        assert run(words) == 2 and "was read as" not in capsys.readouterr().err
    assert parse(["grid", "canny", "photo.jpg", "--vary", "seed=1", "--", "-cube"]).prompt == "-cube"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["text", "a cat", "--size", "1000x1000"], "128 to 512 in steps of 16"),
        (["text", "a cat", "--size", "huge"], "WIDTHxHEIGHT"),
        (["text", "a cat", "--size", "-16x16"], "WIDTHxHEIGHT"),
        (["text", "a cat", "--size", "match"], "no photo whose shape"),
        (["text", "a cat", "--size", "4096x4096", "--backend", "mini"], "128 to 512"),
        (["text", "a cat", "--seed", "99999999999"], "0 to 4294967295"),
        (["text", "a cat", "--seed", "-1"], "0 to 4294967295"),
        (["text", "a cat", "--seed", "1.5"], "0 to 4294967295"),
        (["text", "a cat", "--seed", "9" * 5000], "0 to 4294967295"),
        (["text", "a cat", "--steps", "0"], "number of steps"),
        (["text", "a cat", "--steps", "101", "--backend", "mini"], "1 to 100 steps"),
        (["text", "a cat", "--guidance", "inf"], "guidance"),
        (["text", "a cat", "--guidance", "1000", "--backend", "mini"], "guidance of 1000"),
        (["text", "a cat", "--preset", "nonsense", "--backend", "mini"], "is not a preset"),
        (["text", " "], "prompt is empty"),
        (["text", "x" * 10_001], "10,000"),
        (["text", "a cat", "--backend", "local"], "GPU"),
        (["text", "a cat", "--backend", "nim"], "FLUX_DEMO_NIM_URL"),
        (["text", "a cat", "--backend", "hosted"], "NVIDIA_API_KEY"),
        (["text", "a cat", "-o", "missing/cat.png"], "no folder"),
        (["text", "a cat", "-o", "cat.jpg"], "does not end in .png"),
        (["text", "a cat", "-o", "folder.png"], "is a folder"),
        (["canny", "photo.jpg", "a cat", "--as-map", "--low", "9", "--backend", "mini"], "Leave one of them out"),
        (["canny", "nowhere.jpg", "a cat", "--backend", "mini"], "no image file 'nowhere.jpg'"),
        (["canny", "empty.jpg", "a cat", "--backend", "mini"], "empty"),
        (["canny", "broken.jpg", "a cat", "--backend", "mini"], "cannot be opened"),
        (["canny", "photo.jpg", "a cat", "--low", "-5", "--backend", "mini"], "0 to 1000"),
        (["depth", "photo.jpg", "a cat", "--near", "2", "--backend", "mini"], "0 to 1"),
        (["canny", "photo.png", "a cat", "-o", "photo.png"], "the photo itself"),
        (["canny", "https://example.org/a.png", "a cat", "--backend", "mini"], "Nothing is fetched from an address"),
        (["canny", "", "a cat", "--backend", "mini"], "No photo was given"),
        (["map", "canny", ""], "No photo was given"),
        (["recipe", ""], "No image file was given"),
        (["text", "a cat", "-o", "."], "is a folder. Give -o"),
        (["map", "canny", "nowhere.jpg"], "no image file"),
        (["map", "canny", "photo.jpg", "--size", "10x10"], "multiples of 16"),
        (["map", "canny", "photo.png", "-o", "./photo.png"], "the photo itself"),
        (["recipe", "photo.jpg"], "recipe"),
        (["recipe", "nowhere.png"], "no image file"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_is_refused_is_said_in_words_and_exits_3(words, sentence, place, photo, capsys):
    (place / "empty.jpg").touch()
    (place / "broken.jpg").write_bytes((place / "photo.jpg").read_bytes()[:500])
    (place / "folder.png").mkdir()
    photo.save(place / "photo.png")
    assert sentence in refusal(capsys, *words)
    assert not (place / "outputs").exists()


def test_a_size_is_refused_with_the_sizes_that_the_service_takes(monkeypatch, capsys):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-nobodys")
    assert "768 to 1344 in steps of 64" in refusal(capsys, "text", "a cat", "--size", "1000x1000", "--backend", "hosted")
    said = refusal(capsys, "grid", "text", "a cat", "--size", "1000x1000", "--vary", "seed=1,2", "--backend", "hosted")
    assert "768 to 1344 in steps of 64" in said


def test_a_wrong_setting_is_refused_in_words(monkeypatch, capsys):
    monkeypatch.setenv("FLUX_DEMO_BACKEND", "abacus")
    assert "'abacus' is not a backend" in refusal(capsys, "check")


def test_a_folder_that_cannot_keep_images_is_said_before_generating(place, monkeypatch, capsys):
    monkeypatch.setenv("FLUX_DEMO_OUTPUTS", "photo.jpg")
    said = refusal(capsys, "text", "a cat", "--backend", "mini")
    assert "cannot be kept" in said and said.endswith("Choose another one with FLUX_DEMO_OUTPUTS.\n")
    run(["check"])
    assert f"\n{said}" in capsys.readouterr().out


def test_a_missing_library_is_said_in_words(tmp_path):
    """As when the system's Python is used in place of the one in .venv."""
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "flux_demo", "map", "canny", "photo.png", "--backend", "mini"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("cv2 cannot be imported") and "Traceback" not in done.stderr


def test_what_looks_like_an_option_after_two_dashes_is_the_prompt(capsys):
    assert run(["text", "--backend", "abacus", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""
    assert parse(["text", "--", "--json"]).prompt == "--json"


@pytest.mark.parametrize("words", [["--json", "nonsense"], ["check", "--json", "--nonsense"], ["batch", "--json"]], ids=" ".join)
def test_json_is_printed_for_what_the_parser_refuses_too(words, capsys):
    """On one line: whoever reads a list's results reads them line by line."""
    assert run(words) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["exit_code"] == 2


@pytest.mark.parametrize(
    "words", [["--json", "text", "a cat", "--size", "7x7"], ["text", "a cat", "--size", "7x7", "--json"]], ids=" ".join
)
def test_json_is_printed_for_refusals_and_may_stand_anywhere(words, capsys):
    assert run(words) == 3
    said = capsys.readouterr()
    assert "in steps of 16" in json.loads(said.out)["error"]
    assert json.loads(said.out)["error"] in said.err


def test_map_writes_beside_the_photo_and_never_over_anything(place, capsys):
    before = (place / "photo.jpg").read_bytes()
    assert run(["map", "canny", "photo.jpg", "--size", "256x160"]) == 0
    assert run(["map", "canny", "photo.jpg", "--size", "256x160", "--low", "0", "--high", "1"]) == 0
    assert capsys.readouterr().out.split() == ["photo-canny.png", "photo-canny-2.png"]
    first, second = Image.open(place / "photo-canny.png"), Image.open(place / "photo-canny-2.png")
    assert (first.mode, first.size) == ("RGB", (256, 160))
    assert first.tobytes() != second.tobytes()
    assert (place / "photo.jpg").read_bytes() == before


def test_a_map_that_another_command_writes_meanwhile_is_kept(place, capsys, monkeypatch):
    save, others = Image.Image.save, ["150"]

    def save_beside(*words, **options):
        if others:
            assert run(["map", "canny", "photo.jpg", "--size", "128x128", "--high", others.pop()]) == 0
        return save(*words, **options)

    monkeypatch.setattr(Image.Image, "save", save_beside)
    assert run(["map", "canny", "photo.jpg", "--size", "128x128"]) == 0
    assert capsys.readouterr().out.split() == ["photo-canny.png", "photo-canny-2.png"]
    assert len(list(place.iterdir())) == 3


def test_map_as_json_says_how_it_was_drawn(place, capsys):
    assert run(["map", "canny", "photo.jpg", "--size", "256x256", "--fit", "pad", "--high", "150", "-o", "m.png", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: said[name] for name in ("path", "kind", "width", "height", "fit")} == {
        "path": "m.png",
        "kind": "canny",
        "width": 256,
        "height": 256,
        "fit": "pad",
    }
    assert said["options"] == {"low": 50, "high": 150}


def test_a_home_that_the_shell_did_not_fill_in_is_filled_in(place, monkeypatch, capsys):
    """It fills in neither ``--output=~/a.png`` nor anything in quotes."""
    (place / "home").mkdir()
    (place / "photo.jpg").rename(place / "home" / "photo.jpg")
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("USERPROFILE", str(place / "home"))
    assert run(["map", "canny", "~/photo.jpg", "--size", "128x128", "--output=~/m.png"]) == 0
    assert capsys.readouterr().out == f"{place / 'home' / 'm.png'}\n"
    words = ["a cat", "--backend", "mini", "--size", "128x128", "--steps", "1"]
    assert run(["canny", "~/m.png", *words, "--as-map", "-o", "~/cat.png"]) == 0
    assert run(["grid", "canny", "~/photo.jpg", *words, "--vary", "seed=1", "-o", "~/grid.png"]) == 0
    assert run(["recipe", "~/cat.png"]) == 0
    assert {file.name for file in (place / "home").glob("*.png")} == {"m.png", "cat.png", "grid.png"}


def test_a_file_whose_name_begins_with_a_dash_is_shown_how_to_be_written(place, capsys):
    (place / "photo.jpg").rename(place / "-1.jpg")
    assert run(["map", "canny", "-1.jpg"]) == 2
    assert "write it as './-1.jpg'" in capsys.readouterr().err
    assert run(["map", "canny", "./-1.jpg", "--size", "128x128"]) == 0


def test_output_is_written_over_an_older_one_when_it_is_named(place, capsys):
    (place / "m.png").write_bytes(b"older")
    assert run(["map", "canny", "photo.jpg", "--size", "128x128", "-o", "m.png"]) == 0
    assert Image.open(place / "m.png").size == (128, 128)


def test_a_map_of_the_default_size_has_the_photos_shape(place, capsys):
    assert run(["map", "canny", "photo.jpg", "--backend", "mini", "-o", "map.png"]) == 0
    assert Image.open("map.png").size == (336, 192)


def test_a_reader_that_goes_away_is_not_an_error(place):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"'{sys.executable}' -m flux_demo check | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
