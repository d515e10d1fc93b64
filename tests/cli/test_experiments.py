"""grid and batch as they are typed, on the mini."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from flux_demo import read_recipe
from flux_demo.backends.diffusion import Diffusion
from flux_demo.cli import run
from flux_demo.model_files import MINI
from flux_demo.studio import Studio

QUICK = ("--backend", "mini", "--size", "128x128", "--steps", "1")


def grid(*words):
    return run(["grid", "text", "a {red|blue} cube", "--vary", "guidance=2,3", *QUICK, *words])


def test_a_grid_is_a_sheet_its_cells_and_a_json(place, capsys):
    assert grid("-o", "grid.png") == 0
    assert capsys.readouterr().out == "grid.png\n"
    noted = json.loads((place / "grid.json").read_text())
    assert [cell["number"] for cell in noted["cells"]] == [1, 2, 3, 4]
    for cell in noted["cells"]:
        assert read_recipe(cell["path"]).to_dict() == cell["recipe"]
        assert cell["recipe"]["guidance"] == cell["values"]["guidance"]
    assert min(Image.open(place / "grid.png").size) > 256


def test_the_notes_of_a_run_are_said_once_and_written_down(place, capsys):
    long = "a red cube on grass " * 30 + "and a zebra"
    assert run(["grid", "text", long, "--vary", "seed=1,2", *QUICK, "-o", "grid.png"]) == 0
    said = capsys.readouterr().err
    assert said.count("tokens were ignored") == said.count("does not know: zebra") == 1
    noted = [cell["notes"] for cell in json.loads((place / "grid.json").read_text())["cells"]]
    assert ["tokens were ignored" in " ".join(notes) for notes in noted] == [True, True]
    asked = {"mode": "text", "prompt": long, "steps": 1, "size": "128x128"}
    (place / "list.jsonl").write_text("\n".join(json.dumps(asked | {"seed": seed}) for seed in (2, 3, 4)))
    assert run(["batch", "list.jsonl", "--backend", "mini"]) == 0
    said = capsys.readouterr().err
    assert said.count("tokens were ignored") == said.count("does not know: zebra") == said.count("Runs on: ") == 1
    assert said.index("Text.\nRuns on: ") < said.index("Line 1: ")
    (record,) = place.glob("**/list.results.jsonl")
    assert "tokens were ignored" in " ".join(json.loads(record.read_text().splitlines()[-1])["notes"])


def test_the_fit_can_be_varied(place):
    assert run(["grid", "canny", "photo.jpg", "a red cube", "--vary", "fit=crop,pad", *QUICK, "-o", "fits.png"]) == 0
    noted = json.loads((place / "fits.json").read_text())
    assert [cell["recipe"]["control"]["fit"] for cell in noted["cells"]] == ["crop", "pad"]


def test_an_interrupted_grid_keeps_what_is_done_and_continues(place, capsys, interrupted):
    assert grid("-o", "grid.png") == 130
    assert "2 of 4 cells done. Run the same command to continue.\nThe sheet so far: grid.png\n" in capsys.readouterr().err
    assert (place / "grid.png").exists()
    assert grid("-o", "grid.png", "--json") == 0
    noted = json.loads(capsys.readouterr().out)
    assert [cell["reused"] for cell in noted["cells"]].count(True) == 2
    assert len(interrupted) == 5
    assert len({cell["recipe"]["seed"] for cell in noted["cells"]}) == 1


def test_an_interrupted_grid_names_its_sheet_and_its_cells_as_json_too(place, capsys, interrupted):
    assert grid("-o", "grid.png", "--json") == 130
    said = json.loads(capsys.readouterr().out)
    assert (said["error"], said["exit_code"], said["path"]) == ("Interrupted.", 130, "grid.png")
    assert [read_recipe(cell["path"]).to_dict() == cell["recipe"] for cell in said["cells"]] == [True, True]


def test_an_interrupted_list_says_what_is_done_and_continues(place, capsys, interrupted):
    lines = [{"mode": "text", "prompt": f"{count} cubes", "size": "128x128", "steps": 1, "seed": 7} for count in range(4)]
    (place / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run(["batch", "list.jsonl", "--backend", "mini"]) == 130
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and said.err.endswith("2 lines done. Run the same command to continue.\nInterrupted.\n")
    assert run(["batch", "list.jsonl", "--backend", "mini"]) == 0
    assert "Already generated: 2 of 4 lines." in capsys.readouterr().err


def test_a_note_and_a_sheet_that_cannot_be_written_end_nothing(vanishing, place, capsys, interrupted):
    assert grid("-o", "gone/grid.png") == 130
    said = capsys.readouterr().err
    assert said.count("'grid.json' cannot be written") == said.count("'grid.png' cannot be written") == 1
    assert "2 of 4 cells done" in said and len(list((place / "outputs").glob("*.png"))) == 2


def test_two_grids_at_once_have_a_sheet_each(place, capsys, monkeypatch):
    generate, others = Studio.generate, [["grid", "text", "a cone", "--vary", "guidance=2", *QUICK]]

    def generate_beside(*words, **options):
        if others:
            assert run(others.pop()) == 0
        return generate(*words, **options)

    monkeypatch.setattr(Studio, "generate", generate_beside)
    assert grid("--vary", "seed=1,2") == 0
    sheets = capsys.readouterr().out.split()
    assert len({*sheets}) == 3 == len([*(place / "outputs").glob("grid*.png")])
    noted = [json.loads(path.read_text()) for path in (place / "outputs").glob("grid*.json")]
    assert sorted((len(each["cells"]), len(each["sheets"])) for each in noted) == [(1, 1), (8, 2)]


def test_a_sheet_that_the_disk_refuses_is_a_failure_and_the_other_is_the_result(place, capsys):
    (place / "grid-sheet-2.png").mkdir()
    assert grid("--vary", "seed=1,2", "-o", "grid.png") == 3
    said = capsys.readouterr()
    assert said.out == "grid-sheet-1.png\n" and "'grid-sheet-2.png' cannot be written" in said.err


def test_without_a_name_the_same_command_finds_its_sheet_again(place, capsys):
    assert grid() == grid() == 0
    assert run(["grid", "text", "a cone", "--vary", "guidance=2,3", *QUICK]) == 0
    names = capsys.readouterr().out.split()
    assert names[0] == names[1] != names[2]


def test_another_photo_of_the_same_name_is_another_grid(place, capsys):
    words = ["grid", "canny", "photo.jpg", "a red cube", "--vary", "guidance=20,30", *QUICK]
    assert run(words) == 0
    first = Path(capsys.readouterr().out.strip())
    sheet = first.read_bytes()
    Image.open("photo.jpg").rotate(90).save("photo.jpg")
    assert run(words) == 0
    second = Path(capsys.readouterr().out.strip())
    assert second != first and first.read_bytes() == sheet
    assert run(words) == 0
    assert Path(capsys.readouterr().out.strip()) == second


def test_other_prompts_in_the_same_file_are_another_grid(place, capsys):
    words = ["grid", "text", "--vary", "prompt=prompts.txt", "--seed", "3", *QUICK]
    sheets = []
    for prompts in ("a red cube\na blue cube", "a red cone\na blue cone"):
        (place / "prompts.txt").write_text(prompts)
        for _ in range(2):
            assert run(words) == 0
            sheets.append(Path(capsys.readouterr().out.strip()))
    assert sheets[0] == sheets[1] != sheets[2] == sheets[3]
    assert json.loads(sheets[0].with_suffix(".json").read_text())["cells"][0]["recipe"]["prompt"] == "a red cube"


def test_another_estimator_of_depth_is_another_grid(place, capsys, monkeypatch):
    words = ["grid", "depth", "photo.jpg", "a red cube", "--vary", "guidance=2,3", *QUICK]
    assert run(words) == 0
    monkeypatch.setenv("FLUX_DEMO_DEPTH_ESTIMATOR", str(shutil.copytree(MINI / "depth_estimator", place / "mine")))
    assert run(words) == 0
    assert len(set(capsys.readouterr().out.split())) == 2


def test_a_deleted_grid_hides_none_of_the_later_ones(place, capsys):
    later = ["grid", "text", "a cone", "--vary", "guidance=2,3", *QUICK]
    assert grid() == run(later) == 0
    first, second = map(Path, capsys.readouterr().out.split())
    first.unlink()
    first.with_suffix(".json").unlink()
    assert run([*later, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["path"] == str(second) and all(cell["reused"] for cell in again["cells"])


def test_sheets_whose_json_was_deleted_are_not_written_over(place):
    assert grid("--vary", "seed=1,2") == 0
    (place / "outputs" / "grid.json").unlink()
    kept = {sheet: sheet.read_bytes() for sheet in (place / "outputs").glob("grid-sheet-*.png")}
    assert grid("--vary", "seed=3,4") == 0
    assert len(kept) == 2 and all(sheet.read_bytes() == before for sheet, before in kept.items())


def test_another_model_is_another_grid(place, capsys, monkeypatch):
    assert grid() == 0
    monkeypatch.setattr(Diffusion, "model_name", lambda self, mode: "another")
    assert grid() == 0
    names = capsys.readouterr().out.split()
    assert len({*names}) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["grid", "text", "a cube", "--vary", "colour=1"], "cannot be varied"),
        (["grid", "text", "a cube", "--vary", "seed=4..1"], "is empty"),
        (["grid", "text", "a cube", "--vary", "seed=1..100", "--vary", "guidance=1..100"], "10,000 cells. Add --yes"),
        (["grid", "text", "a cube", "--vary", "steps=0,1", "--backend", "mini"], "Cell 1: 0 is not"),
        (["grid", "canny", "nowhere.jpg", "a cube", "--vary", "low=1,2", "--backend", "mini"], "nowhere.jpg"),
        (["batch", "nowhere.jsonl"], "no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_is_said_in_words_and_exits_3(words, sentence, place, capsys):
    assert run(words) == 3
    said = capsys.readouterr()
    assert sentence in said.err and said.out == ""


def test_a_json_of_somebody_else_is_not_written_over(place, capsys):
    (place / "grid.json").write_text('{"precious": true}')
    assert grid("-o", "grid.png") == 3
    assert "would be lost" in capsys.readouterr().err
    assert (place / "grid.json").read_text() == '{"precious": true}'


def test_no_sheet_is_written_over_the_photo(place, capsys):
    photo = (place / "photo.jpg").rename(place / "h-sheet-1.png").read_bytes()  # a file is told by its content
    words = ["grid", "canny", "h-sheet-1.png", "a {red|blue} cube", "--vary", "low=20,50", "--vary", "guidance=20,30", *QUICK]
    assert run([*words, "-o", "h.png"]) == 3
    assert "the photo itself" in capsys.readouterr().err and (place / "h-sheet-1.png").read_bytes() == photo


def test_a_damaged_record_costs_only_its_own_seed(place, capsys):
    (place / "list.jsonl").write_text("\n".join([json.dumps({"mode": "text", "prompt": "a red cube", "steps": 1, "size": "128x128"})] * 2))
    words = ["batch", "list.jsonl", "--backend", "mini", "--json"]
    assert run(words) == 0
    first = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    (record,) = place.glob("**/list.results.jsonl")
    record.write_text(record.read_text() + '{"key": "cut o')
    assert run(words) == 0
    assert [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()] == first and first[0] != first[1]


def test_a_row_that_was_cut_off_does_not_swallow_the_next(place, capsys):
    words = ["batch", "list.jsonl", "--backend", "mini", "--json"]
    lines = [json.dumps({"mode": "text", "prompt": f"a {colour} cube", "steps": 1, "size": "128x128"}) for colour in ("red", "blue")]
    (place / "list.jsonl").write_text(lines[0])
    assert run(words) == 0
    (record,) = place.glob("**/list.results.jsonl")
    record.write_text(record.read_text() + '{"key": "cut o')
    (place / "list.jsonl").write_text("\n".join(lines))
    assert run(words) == run(words) == 0
    assert [json.loads(line)["reused"] for line in capsys.readouterr().out.splitlines()] == [False, True, False, True, True]


def test_each_of_two_lists_of_one_name_has_its_own_seeds(place, capsys):
    def made(list_name):
        assert run(["batch", list_name, "--backend", "mini", "--json"]) == 0
        line = json.loads(capsys.readouterr().out)
        return line["path"], line["reused"]

    lists = [str(place / folder / "list.jsonl") for folder in ("first", "second")]
    for name in lists:
        Path(name).parent.mkdir()
        Path(name).write_text(json.dumps({"mode": "text", "prompt": "a red cube", "steps": 1, "size": "128x128"}))
    (first, _), (second, reused) = map(made, lists)
    assert first != second and not reused
    assert [made(lists[0]), made("second/list.jsonl")] == [(first, True), (second, True)]


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_list_of_a_long_name_has_a_record_too(place, capsys, letter):
    name = letter * (245 // len(letter.encode())) + ".jsonl"
    (place / name).write_text(json.dumps({"mode": "text", "prompt": "a red cube", "steps": 1, "size": "128x128"}))
    for reused in (False, True):
        assert run(["batch", name, "--backend", "mini", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["reused"] == reused


def test_a_record_that_cannot_be_written_is_said_once_and_ends_nothing(place, capsys):
    (place / "outputs" / "list.results.jsonl").mkdir(parents=True)
    lines = [json.dumps({"mode": "text", "prompt": f"{count} cubes", "steps": 1, "size": "128x128"}) for count in (1, 2)]
    (place / "list.jsonl").write_text("\n".join(lines))
    assert run(["batch", "list.jsonl", "--backend", "mini"]) == 0
    said = capsys.readouterr()
    assert said.err.count("'list.results.jsonl' cannot be written: is a directory.") == 1 and len(said.out.splitlines()) == 2


def test_a_batch_says_a_line_as_it_is_done_and_exits_3_where_one_failed(place, capsys):
    quick = {"mode": "text", "prompt": "a red cube", "steps": 1, "size": "128x128"}
    (place / "list.jsonl").write_text("\n".join(json.dumps(line) for line in (quick, {"mode": "text"}, {**quick, "seed": 5})))
    assert run(["batch", "list.jsonl", "--backend", "mini", "--json"]) == 3
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["line"] for line in lines] == [2, 1, 3]
    assert "Failed: 1 of 3 lines." in said.err and "Line 2: " in said.err
    assert run(["batch", "list.jsonl", "--backend", "mini", "--json"]) == 3
    assert [json.loads(line)["reused"] for line in capsys.readouterr().out.splitlines()] == [False, True, True]
    (record,) = place.glob("**/list.results.jsonl")
    assert len(record.read_text().splitlines()) == 2, "what was there already is noted again"
    (place / "wrong.jsonl").write_text('{"mode": "text"}')
    assert run(["batch", "wrong.jsonl", "--json"]) == 3
    assert "Failed: 1 of 1 line. Correct what failed," in capsys.readouterr().err
    assert run(["batch", "nowhere.jsonl", "--json"]) == 3
    assert json.loads(capsys.readouterr().out.removesuffix("\n").splitlines()[-1])["exit_code"] == 3, "not one object per line"
