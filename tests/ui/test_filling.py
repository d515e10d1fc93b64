"""Values from a link or another program's file: those that the tab takes are filled in, and the others are named."""

import json
from dataclasses import replace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flux_demo.request import GenerationRequest, Size
from flux_demo.ui.files import DrawnFrom, keep_map, new_file
from flux_demo.ui.filling import from_query
from flux_demo.ui.history import Entry
from flux_demo.ui.restore import from_other_program, tab_updates


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("steps=99999999999999999999999", "Steps"),
        ("steps=0&guidance=-7", "Steps, Guidance"),
        ("guidance=nan&seed=abc", "Seed, Guidance"),
        ("guidance=1e999&seed=99999999999&size=match", "Seed, Size, Guidance"),
        ("size=4096x4096&mode=foo", "Mode, Size"),
        ("count=5&low=30&invert=true", "Images, Low threshold, Invert depth"),
        ("count=two", "Images"),
    ],
)
def test_what_a_link_says_and_cannot_be_used_is_named(studio, query, wrong):
    mode, values = from_query(studio, f"?prompt=a+cube&{query}")
    assert mode == "text" and values["text__prompt"] == "a cube"
    assert f"cannot be used here: {wrong}." in values["text__status"]
    assert all(values.get(f"text__{name.lower()}") in (None, "") for name in wrong.split(", "))  # an unusable seed is a random one
    json.dumps([value for name, value in values.items() if name != "tabs"], allow_nan=False)


def test_a_mode_in_a_link_may_be_written_as_its_tab(studio):
    mode, values = from_query(studio, "?mode=Canny&size=match")
    assert mode == "canny" and values["canny__size"] == "match"


def test_a_link_says_how_many_images(studio):
    assert from_query(studio, "?prompt=a+cube&count=3")[1]["text__count"] == 3
    assert from_query(studio, "?prompt=a+cube&fbclid=x&utm_source=y")[1]["text__count"] == 1  # which chat programs add to a link


def test_a_seed_of_nothing_but_spaces_is_a_random_one(studio):
    _, values = from_query(studio, "?prompt=a+cube&seed=+%20")
    assert values["text__seed"] == "" and "cannot be used" not in values["text__status"]


def test_a_link_fills_in_what_a_map_is_drawn_with(studio):
    _, values = from_query(studio, "?mode=canny&fit=pad&low=30&high=5000&near=0.5")
    assert values["canny__fit"] == "pad" and values["canny__low"] == 30
    assert (
        "cannot be used here: High threshold, Near clip." in values["canny__status"]
        and values["canny__high"] == 200
        and "canny__near" not in values
    )
    assert values["canny__seed"] == ""  # what a link leaves out is the default, and not what stood there
    _, values = from_query(studio, "?mode=depth&near=0.25&invert=true&fit=mirror")
    assert values["depth__near"] == 0.25 and values["depth__invert"] is True
    assert "cannot be used here: Fit." in values["depth__status"]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("mode=canny&low=300&high=100", "Low threshold, High threshold"),
        ("mode=canny&low=201", "Low threshold"),
        ("mode=depth&near=1", "Near clip"),
        ("mode=depth&near=0.5&far=0.5", "Near clip, Far clip"),
    ],
)
def test_numbers_of_a_map_that_cross_are_left_out(studio, query, wrong):
    mode, values = from_query(studio, query)
    assert f"cannot be used here: {wrong}." in values[f"{mode}__status"]
    plain = from_query(studio, f"mode={mode}")[1]
    assert {name: value for name, value in values.items() if name != f"{mode}__status" and name != "tabs"} == {
        name: value for name, value in plain.items() if name != f"{mode}__status" and name != "tabs"
    }


@pytest.mark.parametrize("query", [None, 5, "", "?", "?__theme=dark", "?deep_link=x"])
def test_an_address_that_is_no_link_fills_in_nothing(studio, query):
    assert from_query(studio, query) == (None, {})


@pytest.mark.parametrize(
    ("settings", "filled", "wrong"),
    [
        (
            "Steps: 20, Distilled CFG Scale: 3.5, CFG scale: 7, Seed: 5, Size: 256x128",
            {"steps": 20, "guidance": 3.5, "seed": "5", "size": "256x128"},
            "",
        ),
        ("Steps: 150, Distilled CFG Scale: 700, Size: 1024x1024", {"seed": ""}, "Size, Steps, Guidance"),
        ("Steps: 5000, Seed: -1, Size: 500x701", {"seed": ""}, "Size, Steps"),
    ],
)
def test_another_programs_settings_are_held_against_the_tabs_own(page, studio, settings, filled, wrong):
    texts = PngInfo()
    texts.add_text("parameters", f"a cat\n{settings}")
    path = new_file("theirs.png")
    Image.new("RGB", (8, 8)).save(path, pnginfo=texts)
    answer = from_other_program(studio, str(path))
    said = answer.pop("text__status")
    assert answer.pop("text__run_state") == "idle"  # the status is not that of a run that failed
    assert (f"cannot be used here is left out: {wrong}." in said) if wrong else "left out" not in said
    assert {name.removeprefix("text__"): value for name, value in answer.items() if name.startswith("text__")} == {
        "prompt": "a cat"
    } | filled


@pytest.fixture
def followed(page, studio, photo):
    """An image that followed the edges of a photo, as an entry of the history, and the photo as the form has it."""
    path = new_file("room.png")
    photo.save(path)
    control = studio.preview("canny", photo, "128x128")
    made = studio.generate(GenerationRequest("canny", "a cube", steps=1, size=Size(128, 128), control=control))
    shown = keep_map(control, DrawnFrom(None, None, control.fit, False, ()))
    return Entry(str(made.path), made.recipe, "the mini", shown), {"path": str(path)}


def test_the_photo_that_stands_there_stays_where_its_image_is_restored(studio, followed):
    """After a restart, the history does not know of which photo a map was drawn."""
    entry, photo = followed
    assert tab_updates(studio, entry, [], photo)["photo"] == photo
    assert tab_updates(studio, entry, [])["photo"] is None


def test_a_photo_stays_where_no_map_can_be_drawn_from_it(studio, followed):
    entry, photo = followed
    large = replace(entry, recipe=replace(entry.recipe, width=1024, height=1024), shown=None)
    values = tab_updates(studio, large, [], photo)
    assert "photo" not in values and values["shown"] is None and "1024" in values["map_note"]
    assert tab_updates(studio, large, [])["photo"] is None
