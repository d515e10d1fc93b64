import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flux_demo.errors import InvalidPicture
from flux_demo.gallery import write_png
from flux_demo.maps.photo import open_png_text
from flux_demo.recipe import CHUNK, PARAMETERS, ControlRecipe, Recipe, read_recipe

RECIPE = Recipe(
    version="0.1.0",
    mode="canny",
    prompt='a "red" fox, 狐狸\nin the snow',
    width=1152,
    height=896,
    seed=4294967295,
    steps=28,
    guidance=30.0,
    model="black-forest-labs/FLUX.1-Canny-dev",
    backend="local",
    preset="exact",
    plan="One model fits.",
    control=ControlRecipe("canny", {"low": 50, "high": 200}, "crop", "0" * 64),
    seconds=4.25,
    created="2026-11-22T10:00:00+00:00",
    libraries={"torch": "2.13.0"},
)


def png_with(tmp_path, **chunks):
    info = PngInfo()
    for keyword, text in chunks.items():
        info.add_text(keyword, text)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png", pnginfo=info)
    return tmp_path / "x.png"


def test_a_recipe_survives_its_json():
    assert Recipe.from_dict(json.loads(RECIPE.to_json())) == RECIPE


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"control": None}, "the canny mode follows a map, and it has none"),
        ({"mode": "text"}, "the text mode follows no map, and the recipe has one"),
        ({"mode": "text", "control": None, "sample": 1}, "the text mode follows no map, and the recipe has one"),
        ({"mode": "depth"}, "the depth mode follows a depth map, and it has one of the kind 'canny'"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changed, said):
    with pytest.raises(InvalidPicture, match=f"contradicts itself: {said}. Enter its settings"):
        Recipe.from_dict(json.loads(replace(RECIPE, **changed).to_json()))


@pytest.mark.parametrize("changed", [{"control": None, "sample": 1}, {"mode": "text", "control": None}, {"mode": "of a later version"}])
def test_a_recipe_that_can_be_true_is_read(changed):
    assert Recipe.from_dict(json.loads(replace(RECIPE, **changed).to_json())) == replace(RECIPE, **changed)


def test_the_second_chunk_reads_as_automatic1111_writes_it():
    prompt, _, settings = RECIPE.parameters().rpartition("\n")
    assert prompt == RECIPE.prompt
    fields = dict(pair.split(": ", 1) for pair in settings.split(", "))
    assert fields["Steps"] == "28" and fields["Seed"] == "4294967295" and fields["Size"] == "1152x896"
    assert fields["Distilled CFG Scale"] == "30" and fields["Model"] == "FLUX.1-Canny-dev"


def test_a_picture_without_a_recipe_says_so(tmp_path):
    with pytest.raises(InvalidPicture, match="no flux_demo recipe"):
        read_recipe(png_with(tmp_path, parameters="a fox\nSteps: 3"))
    Image.new("RGB", (32, 32)).save(tmp_path / "x.jpg")
    with pytest.raises(InvalidPicture, match="no flux_demo recipe"):
        read_recipe(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"seed": "1"},
        {"seed": 1.5},
        {"seed": True},
        {"steps": "9"},
        {"width": 100},
        {"prompt": ["a"]},
        {"prompt": "x" * 10_001},
        {"control": "canny"},
        {"control": {"kind": "canny"}},
        {"control": {"kind": "canny", "options": {"low": "1"}, "fit": None, "sha256": ""}},
        {"libraries": 3},
        {"libraries": {"torch": 3}},
        {"guidance": "high"},
        {"sample": -1},
        {"sample": "0"},
        {"model": None},
    ],
)
def test_a_damaged_recipe_is_refused_in_words(tmp_path, change):
    path = png_with(tmp_path, **{CHUNK: json.dumps(RECIPE.to_dict() | change)})
    with pytest.raises(InvalidPicture, match="damaged"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"seed": NaN}', "[" * 100_000, "x" * 300_000])
def test_rubbish_in_the_chunk_is_refused_in_words(tmp_path, text):
    with pytest.raises(InvalidPicture):
        read_recipe(png_with(tmp_path, **{CHUNK: text}))


def test_fields_of_a_later_version_are_passed_over():
    assert Recipe.from_dict(RECIPE.to_dict() | {"mood": "calm"}) == RECIPE


@pytest.mark.parametrize("model", ["me/fox, mark 2", "a: b", 'the "best"', "plain"])
def test_parameters_are_read_by_other_programs_whatever_the_models_name(model):
    """With the expression by which AUTOMATIC1111 and its readers take the line apart."""
    line = replace(RECIPE, model=model).parameters().rpartition("\n")[2]
    found = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line))
    name = found["Model"]
    assert (json.loads(name) if name.startswith('"') else name) == model.rpartition("/")[2]
    assert found["Version"].startswith("flux_demo ")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300))
def test_any_prompt_goes_round(prompt):
    recipe = replace(RECIPE, prompt=prompt)
    file = io.BytesIO()
    write_png(Image.new("RGB", (8, 8)), file, {CHUNK: recipe.to_json(), PARAMETERS: recipe.parameters()})
    texts = open_png_text(file.getvalue())
    assert Recipe.from_dict(json.loads(texts[CHUNK])) == recipe
    assert texts[PARAMETERS] == recipe.parameters()
