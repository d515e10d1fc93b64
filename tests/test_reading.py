"""Seeds, numbers and sizes mean the same at every door: on the page, in a link, on the command line, in a list and in a grid."""

import json

import pytest
from PIL import Image

from flux_demo.cli.parser import NotUnderstood, parse
from flux_demo.errors import FluxDemoError, InvalidRequest
from flux_demo.experiments.axes import parse_axes
from flux_demo.modes import MATCH, MODES
from flux_demo.reading import parse_number, parse_size
from flux_demo.request import GenerationRequest, Size
from flux_demo.studio import Studio
from flux_demo.ui.filling import usable_values
from flux_demo.ui.generate import request_of

TEXT = MODES["text"]


@pytest.fixture
def studio(settings, recording_backend):
    studio = Studio.from_settings(settings)
    studio.backends[:] = [recording_backend("mini", step_range=range(1, 51))]
    return studio


def of_a_list(tmp_path, studio, suffix, **fields):
    """The recipe of the one line of a list."""
    file = tmp_path / f"list{suffix}"
    row = {"mode": "text", "prompt": "a cube", "steps": "1", "size": "128x128", "seed": "5"} | fields
    if suffix == ".csv":
        file.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n", "utf-8")
    else:
        file.write_text(json.dumps(row | {"steps": 1}), "utf-8")
    (line,) = studio.batch(file)
    if line.error:
        raise InvalidRequest(line.error)
    return line.image.recipe


def of_command_line(*words):
    try:
        return parse(["text", "a cube", *words])
    except NotUnderstood as error:
        raise InvalidRequest(str(error)) from error


@pytest.fixture
def seeds(tmp_path, studio):
    """Door -> what reads a seed there."""
    return {
        "page": lambda text: request_of(TEXT, "a cube", text, 1, 3.5, None, "128x128", None).seed,
        "command line": lambda text: GenerationRequest("text", "a cube", seed=of_command_line("--seed", text).seed).seed,
        "list": lambda text: of_a_list(tmp_path, studio, ".jsonl", seed=text).seed,
        "table": lambda text: of_a_list(tmp_path, studio, ".csv", seed=text).seed,
        "grid": lambda text: parse_axes(TEXT, {"seed": text})[0].values[0],
        "link": lambda text: int(usable_values(studio, TEXT, {"seed": text})[0].get("seed", -1)),
    }


@pytest.mark.parametrize(("text", "seed"), [("7", 7), ("4294967295", 4294967295), (" 7 ", 7), ("+7", 7), ("007", 7)])
def test_a_seed_is_read_alike_everywhere(seeds, text, seed):
    assert {door: read(text) for door, read in seeds.items()} == dict.fromkeys(seeds, seed)


@pytest.mark.parametrize("text", ["７", "١٢", "²", "7.5", "1_0", "0x7", "-1", "4294967296", "seven"])
def test_what_is_not_a_seed_is_refused_everywhere(seeds, text):
    assert seeds.pop("link")(text) == -1  # left out, and said
    for read in seeds.values():
        with pytest.raises(FluxDemoError):
            GenerationRequest("text", "a cube", seed=read(text))


def test_an_empty_seed_is_a_random_one_and_an_empty_size_the_default(tmp_path, studio):
    given = of_command_line("--seed", "", "--size", " ")
    assert given.seed is None and parse_size(given.size) is None
    assert request_of(TEXT, "a cube", "", 1, 3.5, None, " ", None).size is None
    assert of_a_list(tmp_path, studio, ".jsonl", seed="", size="").width == studio.route("text").dials.size_limits.sizes[0].width


@pytest.mark.parametrize("text", ["128x144", "128 144", " 128 × 144", "128px x 144px"])
def test_a_size_is_read_alike_everywhere(tmp_path, studio, text):
    size = Size(128, 144)
    recipe = of_a_list(tmp_path, studio, ".jsonl", size=text)
    assert (recipe.width, recipe.height) == (128, 144)
    assert request_of(TEXT, "a cube", "7", 1, 3.5, None, text, None).size == size == parse_size(of_command_line("--size", text).size)
    assert parse_axes(TEXT, {"size": text})[0].values == (size,) == parse_axes(TEXT, {"size": [text]})[0].values
    assert usable_values(studio, TEXT, {"size": text})[0] == {"size": str(size)}


@pytest.mark.parametrize("written", ["match", "Match", " MATCH "])
def test_match_may_be_written_in_either_case(studio, photo, tmp_path, written):
    photo.save(tmp_path / "photo.png")
    row = {"mode": "canny", "prompt": "a cube", "photo": str(tmp_path / "photo.png"), "steps": 1, "size": written}
    (line,) = studio.batch([row])
    assert line.error is None and line.image.request.size == studio.preview("canny", photo, written).size == Size(1344, 768)


def test_match_without_a_photo_is_refused_in_one_sentence_wherever_it_can_be_written(tmp_path, studio):
    for ask in (
        lambda: of_a_list(tmp_path, studio, ".jsonl", size=MATCH),
        lambda: parse_axes(TEXT, {"size": MATCH}),
        lambda: parse_axes(TEXT, {"size": [MATCH]}),
        lambda: studio.grid("text", "a cube", ["seed=1,2"], size=MATCH),
    ):
        with pytest.raises(InvalidRequest, match="no photo whose shape the size could match"):
            ask()
    assert usable_values(studio, TEXT, {"size": MATCH}) == ({}, ["Size"])


@pytest.mark.parametrize("text", ["１２８x１４４", "١٢٨x١٤٤", "128Ｘ144", "1_28x144"])
def test_what_is_not_a_size_is_refused_everywhere(tmp_path, studio, text):
    for ask in (
        lambda: of_a_list(tmp_path, studio, ".csv", size=text),
        lambda: request_of(TEXT, "a cube", "7", 1, 3.5, None, text, None),
        lambda: parse_size(of_command_line("--size", text).size),
        lambda: parse_axes(TEXT, {"size": text}),
    ):
        with pytest.raises(InvalidRequest, match="cannot be read. Write it as WIDTHxHEIGHT"):
            ask()
    assert usable_values(studio, TEXT, {"size": text}) == ({}, ["Size"])


@pytest.mark.parametrize("text", ["３", "1_0", "٣", "nan"])
def test_what_is_not_a_number_is_refused_everywhere(tmp_path, studio, text):
    for ask in (
        lambda: parse_number(text),
        lambda: of_command_line("--steps", text),
        lambda: of_a_list(tmp_path, studio, ".csv", steps=text),
        lambda: parse_axes(TEXT, {"steps": text}),
        lambda: parse_axes(TEXT, {"guidance": f"1..{text}"}),
    ):
        with pytest.raises((InvalidRequest, ValueError)):
            ask()
    assert usable_values(studio, TEXT, {"steps": text, "count": text, "guidance": text}) == ({}, ["Images", "Steps", "Guidance"])


@pytest.mark.parametrize(
    ("name", "advice"), [("file:///tmp/photo.png", "without file://"), ("https://example.org/photo.png", "Download the image")]
)
@pytest.mark.parametrize("field", ["photo", "map"])
def test_an_address_in_a_list_is_not_taken_for_a_path(tmp_path, studio, name, advice, field):
    (line,) = studio.batch([{"mode": "canny", "prompt": "a cube", field: name}])
    assert line.error.startswith("Nothing is fetched from an address: images are read from files") and advice in line.error


def test_transparency_is_white_whichever_way_a_picture_comes_in(tmp_path, studio):
    layer = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    layer.paste((200, 30, 30, 255), (64, 64, 192, 192))
    layer.save(tmp_path / "layer.png")
    flat = Image.new("RGB", layer.size, "white")
    flat.paste(layer, mask=layer)
    for each in (layer, tmp_path / "layer.png", (tmp_path / "layer.png").read_bytes()):
        assert studio.preview("canny", each, "256x256").image.tobytes() == studio.preview("canny", flat, "256x256").image.tobytes()
        assert studio.as_map("canny", each, "256x256").image.tobytes() == flat.tobytes()
    lines = [
        {"mode": "canny", "prompt": "a cube", "seed": 1, "steps": 1, "size": "256x256", name: "layer.png"} for name in ("photo", "map")
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    photo, ready = [line.image.recipe.control.sha256 for line in studio.batch(tmp_path / "list.jsonl")]
    assert (photo, ready) == (studio.preview("canny", flat, "256x256").sha256, studio.as_map("canny", flat, "256x256").sha256)
