"""Lists of requests: what a line may say, what is said of a broken one, and going on where it stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flux_demo import Settings, Studio
from flux_demo.backends.nvidia import Hosted
from flux_demo.errors import InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.request import GenerationRequest, Size


@pytest.fixture
def listed(tmp_path, photo):
    photo.save(tmp_path / "photo.png")

    def write(*lines, name="list.jsonl"):
        file = tmp_path / name
        file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
        return file

    return write


def test_a_line_may_name_a_model_where_only_the_answer_names_it(studio, backend, listed):
    backend.model_name = lambda mode: None
    (line,) = studio.batch(listed({"mode": "text", "prompt": "a cube", "model": "black-forest-labs/FLUX.1-dev (fal-ai)"}))
    assert line.error is None and line.image.recipe.prompt == "a cube"


def test_a_line_is_a_request_and_a_broken_one_stops_nothing(studio, listed):
    file = listed(
        {"mode": "text", "prompt": "a cube", "seed": 1, "steps": 2, "width": 128, "height": 96},
        "{broken",
        "",
        {"mode": "canny", "prompt": "a cube", "seed": "2", "photo": "photo.png", "low": 20, "fit": "pad", "steps": 1},
        {"mode": "text", "prompt": "a cube", "steps": 0},
        {"mode": "canny", "prompt": "a cube", "photo": "nowhere.png"},
        ["no", "object"],
        '{"mode": "text", "prompt": "a cube", "guidance": NaN}',
    )
    done = {line.line: line for line in studio.batch(file)}
    assert sorted(done) == [1, 2, 4, 5, 6, 7, 8]
    assert (done[1].image.recipe.width, done[1].image.recipe.height) == (128, 96)
    assert done[4].image.recipe.control.options["low"] == 20
    for number, words in {2: "not JSON", 5: "number of steps", 6: "nowhere.png", 7: "not an object", 8: "not JSON"}.items():
        assert done[number].image is None and words in done[number].error


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": "a cube"}, "mode"),
        ({"mode": "paint", "prompt": "a cube"}, "not a mode"),
        ({"mode": "text"}, "prompt is empty"),
        ({"mode": "text", "prompt": 5}, "takes text, and it is 5"),
        ({"mode": "text", "prompt": "a", "sha256": "0"}, "has sha256"),
        ({"mode": "depth", "prompt": "a", "photo": "photo.png", "control": {"kind": "canny"}}, "follows depth"),
        ({"mode": "text", "prompt": "a", "control": {"kind": "canny"}}, "has control.kind"),
        ({"mode": "text", "prompt": "a", "colour": 1}, "not a field"),
        ({"mode": "text", "prompt": "a", "photo": "p.png"}, "does not follow a map"),
        ({"mode": "text", "prompt": "a", "width": 128}, "incomplete"),
        ({"mode": "text", "prompt": "a", "seed": 1.5}, "valid seed"),
        ({"mode": "text", "prompt": "a", "model": "another"}, "names the model"),
        ({"mode": "canny", "prompt": "a"}, "no photo"),
        ({"mode": "depth", "prompt": "a", "photo": "", "map": " "}, "no photo"),
        ({"mode": "canny", "prompt": "a", "photo": "~no-such-user/photo.png"}, "photo.png"),
        ({"mode": "canny", "prompt": "a", "map": "~no-such-user/map.png"}, "map.png"),
        ({"mode": "canny", "prompt": "a", "photo": "photo.png", "low": 5000}, "0 to 1000"),
        (
            {"mode": "canny", "prompt": "a", "photo": "photo.png", "control": {"sha256": "0"}},
            "photo, drawn with the line's size and options, gives",
        ),
        ({"mode": "canny", "prompt": "a", "map": "photo.png", "size": "96x64", "control": {"sha256": "0"}}, "map, at the line's size, is"),
        ({"mode": "canny", "prompt": "a", "map": "photo.png", "low": 5}, "too. Leave"),
        ({"mode": "depth", "prompt": "a", "photo": "photo.png", "invert": 1}, "switch"),
        ({"mode": "canny", "prompt": "a", "photo": "photo.png", "control": {"options": {"low": 9, "painted": True}}}, "painted by hand"),
        (
            {"mode": "depth", "prompt": "a", "photo": "photo.png", "control": {"sha256": "0", "estimator": "another"}},
            "estimated by 'another'",
        ),
        ({"mode": "canny", "prompt": "a", "photo": "photo.png", "sample": 1}, "has photo too"),
        ({"mode": "canny", "prompt": "a", "sample": 1, "low": 5}, "has low too"),
        ({"mode": "canny", "prompt": "a", "sample": True}, "takes a whole number, and it is True"),
        ({"mode": "canny", "prompt": "a", "sample": "1"}, "takes a whole number, and it is '1'"),
        ({"mode": "text", "prompt": "a", "width": "128", "height": 128}, "width takes a number, and it is the text '128'"),
        ({"mode": "text", "prompt": "a", "guidance": "3.5"}, "guidance takes a number, and it is the text '3.5'"),
        ({"mode": "canny", "prompt": "a", "photo": "photo.png", "low": "5"}, "low takes a number, and it is the text '5'"),
        ('{"mode": "text", "prompt": "a", "prompt": "b"}', "has the field 'prompt' twice"),
        ('{"mode": "canny", "prompt": "a", "photo": "photo.png", "control": {"options": {"low": 1, "low": 2}}}', "the field 'low' twice"),
        ({"mode": "text", "prompt": "a", "size": "match"}, "no photo whose shape"),
        ({"mode": "canny", "prompt": "a", "sample": 1, "size": "match"}, "no photo whose shape"),
    ],
    ids=str,
)
def test_what_a_line_cannot_ask_is_said(studio, backend, listed, line, words):
    (done,) = studio.batch(listed(line))
    assert done.image is None and words in done.error
    assert backend.requests == []


@pytest.mark.parametrize("sample", [4, 7, -1])
def test_a_sample_that_the_service_lacks_is_refused_with_those_that_it_has(tmp_path, listed, sample):
    settings = Settings(backend="hosted", nvidia_api_key="nvapi-nobodys", hosted_url="http://127.0.0.1:9/v1/genai/x")
    studio = Studio(settings, [Hosted(settings)], Gallery(tmp_path / "outputs"))
    (done,) = studio.batch(listed({"mode": "canny", "prompt": "a fox", "sample": sample}))
    assert done.error == f"NVIDIA's hosted API has no sample image {sample}. Choose one of its four, 0 to 3."


def test_what_a_map_does_to_the_photo_is_said_of_an_image_that_is_there_already_too(studio, listed, photo):
    given = {"mode": "canny", "prompt": "a cube", "seed": 1, "steps": 1, "size": "128x128"}
    first, again = [next(iter(studio.batch(listed(given | {"photo": "photo.png"})))) for _ in range(2)]
    (cell,) = studio.grid("canny", "a cube", {"seed": [1]}, photo, steps=1, size="128x128")
    assert first.image.notes == again.image.notes == cell.image.notes and "cropped left and right" in str(cell.image.notes)
    assert again.reused and cell.reused


def test_csv_says_the_same(studio, listed):
    file = listed(
        "mode,prompt,seed,steps,photo,near,invert",
        'text,"a cube, on grass",5,2,,,',
        "depth,a ball,6,1,photo.png,0.1,true",
        "text,a cube,7,many,,,",
        "text,a cube,7,1,,,,,,",
        "text,a cube,7,1",
        name="list.csv",
    )
    done = {line.line: line for line in studio.batch(file)}
    assert done[2].image.recipe.prompt == "a cube, on grass" and done[2].image.recipe.seed == 5
    assert done[3].image.recipe.control.options == {"near": 0.1, "far": 1.0, "invert": True}
    assert "number of steps" in done[4].error and "columns" in done[5].error
    assert done[6].image is None and "has 4 columns, and the first has 7" in done[6].error


def test_a_table_with_gaps_writes_whole_numbers_with_a_point(studio, listed):
    file = listed("mode,prompt,seed,steps", "text,a cube,7.0,2.0", "text,a cube,,2.0", "text,a cube,7.5,2", name="list.csv")
    done = {line.line: line for line in studio.batch(file)}
    assert (done[2].image.recipe.seed, done[2].image.recipe.steps) == (7, 2) and done[3].error is None
    assert "valid seed" in done[4].error


def test_a_list_from_a_german_spreadsheet_has_semicolons_and_decimal_commas(studio, listed):
    rows = ("mode;prompt;guidance;steps;seed", "text;a cube, on 3,5 legs;3,5;2;7", "text;a cube;3.5;2,0;8")
    for number, file in enumerate((listed(*rows, name="list.csv"), listed("sep=;", *rows, name="sep.csv"))):
        done = {line.line - number: line for line in studio.batch(file)}
        assert sorted(done) == [2, 3] and [line.error for line in done.values()] == [None, None]
        recipe = done[2].image.recipe
        assert (recipe.prompt, recipe.guidance, recipe.steps, recipe.seed) == ("a cube, on 3,5 legs", 3.5, 2, 7)
        assert (done[3].image.recipe.guidance, done[3].image.recipe.steps) == (3.5, 2)
    (line,) = studio.batch(listed("sep=,", "mode,prompt,guidance", 'text,a cube,"3,5"', name="comma.csv"))
    assert line.image is None  # there, a comma separates


def test_a_recipe_is_a_line(studio, listed):
    first = next(iter(studio.batch([{"mode": "text", "prompt": "a cube", "steps": 2}])))
    (again,) = studio.batch(listed(first.image.recipe.to_dict()))
    assert again.reused and again.image.path == first.image.path


@pytest.mark.parametrize(("mode", "options"), [("canny", {"low": 20, "painted": True}), ("depth", {"invert": True})])
def test_a_recipe_and_its_map_are_a_line_however_the_map_was_drawn(studio, photo, tmp_path, mode, options):
    photo.resize((96, 64)).save(tmp_path / "map.png")
    control = replace(studio.as_map(mode, photo.resize((96, 64))), options=options, fit="pad", estimator="another")
    made = studio.generate(GenerationRequest(mode, "a", control=control))
    (again,) = studio.batch([{**made.recipe.to_dict(), "map": str(tmp_path / "map.png")}])
    assert again.error is None and again.reused and again.image.path == made.path


def test_photos_are_looked_for_from_where_the_list_was_named(studio, listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = {"mode": "canny", "prompt": "a cube", "photo": "photo.png", "steps": 1}
    listed({**line, "seed": 1}, {**line, "seed": 2})
    (tmp_path / "elsewhere").mkdir()
    for requests in ("list.jsonl", [{**line, "seed": 3}, {**line, "seed": 4}]):
        monkeypatch.chdir(tmp_path)
        for done in studio.batch(requests):
            assert done.error is None
            monkeypatch.chdir(tmp_path / "elsewhere")


def test_modes_are_switched_once(studio, backend, listed):
    text, canny = {"mode": "text", "prompt": "a", "steps": 1}, {"mode": "canny", "prompt": "a", "photo": "photo.png", "steps": 1}
    list(studio.batch(listed({**text, "seed": 1}, {**canny, "seed": 2}, {**text, "seed": 3}, {**canny, "seed": 4})))
    assert [request.seed for request in backend.requests] == [1, 3, 2, 4]


def test_what_is_done_is_not_generated_again(studio, backend, listed):
    file = listed(*({"mode": "text", "prompt": "a", "steps": 1, "seed": seed} for seed in range(4)))
    run = studio.batch(file)
    next(run), next(run)
    run.close()
    assert [line.reused for line in studio.batch(file)] == [True, True, False, False]
    assert len(backend.requests) == 4


def test_a_preset_that_the_service_chose_makes_no_other_image_of_it(studio, backend, listed):
    generate, file = backend.generate, listed({"mode": "text", "prompt": "a", "steps": 1, "seed": 1})
    backend.generate = lambda *words: replace(generate(*words), preset="exact")
    first, again = (line for _ in range(2) for line in studio.batch(file))
    assert (first.reused, again.reused) == (False, True)
    (copied,) = studio.batch([first.image.recipe.to_dict()])
    assert copied.reused and copied.image.path == first.image.path


def test_a_line_without_a_seed_keeps_the_one_it_was_given(studio, backend, listed):
    file = listed({"mode": "text", "prompt": "a", "steps": 1})
    (first,) = studio.batch(file)
    (again,) = studio.batch(file, seeds={first.key: first.image.recipe.seed})
    assert again.reused and len(backend.requests) == 1


def test_lines_that_ask_the_same_are_images_of_their_own_also_when_the_list_continues(studio, backend, listed):
    file = listed(*[{"mode": "text", "prompt": "a", "steps": 1}] * 3)
    run = studio.batch(file)
    first = next(run)
    run.close()
    rest = list(studio.batch(file, seeds={first.key: first.image.recipe.seed}))
    assert [line.reused for line in rest] == [True, False, False] and len(backend.requests) == 3
    again = list(studio.batch(file, seeds={line.key: line.image.recipe.seed for line in rest}))
    assert [line.image.path for line in again] == [line.image.path for line in rest] and len({line.image.path for line in rest}) == 3


def test_rows_of_python_and_of_tables_are_lines(studio, backend, tmp_path, photo):
    photo.save(tmp_path / "photo.png")
    rows = [
        {"mode": "canny", "prompt": "a", "photo": tmp_path / "photo.png", "size": Size(96, 64), "steps": np.int64(2)},
        {"mode": "text", "prompt": "a", "photo": float("nan"), "seed": 7.0, "steps": 2.0, "width": 96.0, "height": 64.0},
        {"mode": "text", "prompt": "a", "photo": "", "map": " ", "seed": "", "fit": "", "preset": ""},
    ]
    assert [line.error for line in studio.batch(rows)] == [None, None, None]
    assert [(request.seed, request.steps, request.size) for request in backend.requests][1] == (7, 2, Size(96, 64))


def test_a_row_that_is_not_jsons_is_one_line_with_an_error(studio, backend):
    circle = {"mode": "text"}
    circle["prompt"] = circle
    rows = [{1: 2, "mode": "text", "prompt": "a"}, {("a",): 1}, circle, {"mode": ["text"]}, {"mode": "text", "prompt": "a", "steps": 1}]
    assert [line.error is None for line in studio.batch(rows)] == [False, False, False, False, True]
    assert len(backend.requests) == 1


@pytest.mark.parametrize("source", [None, 5, b"list.jsonl", {"mode": "text", "prompt": "a"}], ids=repr)
def test_what_is_no_list_is_refused(studio, source):
    with pytest.raises(InvalidRequest, match="is not a list of requests. Give"):
        studio.batch(source)
    with pytest.raises(InvalidRequest, match="no seeds. Give"):
        studio.batch([], seeds=5)


def test_the_fields_that_a_mode_has_are_listed(studio):
    (line,) = studio.batch([{"mode": "text", "prompt": "a", "colour": 1}])
    listed = line.error.partition("The fields are ")[2]
    assert "prompt" in listed and not any(name in listed for name in ("photo", "fit", "map,", "sample"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a"),
        ("nowhere.jsonl", None),
        ("twice.csv", "mode,prompt, prompt\ntext,a,b"),
        ("headless.csv", "text,a cube,1\ntext,a ball,2"),
        ("one.csv", "text,a cube,1"),
        ("empty.jsonl", "\n\n"),
        ("folder.csv", "FOLDER"),
        ("~no-such-user/list.csv", None),
    ],
)
def test_a_file_that_is_no_list_is_refused(studio, tmp_path, name, text):
    if text == "FOLDER":
        (tmp_path / name).mkdir()
    elif text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=r"\. "):
        studio.batch(name if name.startswith("~") else tmp_path / name)


def test_an_array_is_refused_as_a_whole_with_what_to_write(studio, listed):
    requests = [{"mode": "text", "prompt": prompt} for prompt in ("a cube", "a ball")]
    for text in (json.dumps(requests), json.dumps(requests, indent=1)):
        with pytest.raises(InvalidRequest, match="is a JSON array. Write one object per line"):
            studio.batch(listed(text))
