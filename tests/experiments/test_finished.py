"""What the gallery has and what is generated again: recipes decide, and files that are whole."""

import os
from dataclasses import replace

import pytest
from PIL import Image

from flux_demo import Settings, Studio, read_recipe
from flux_demo.gallery import Gallery, write_png
from flux_demo.recipe import CHUNK


def cut_off(png):
    return png[: png.index(b"IDAT") + 99]


def with_damaged_pixels(png):
    at = png.index(b"IDAT") + 9
    return png[:at] + bytes([png[at] ^ 1]) + png[at + 1 :]


def with_a_damaged_chunk_type(png):
    return png.replace(b"IDAT", b"ID\0T")


@pytest.mark.parametrize("damage", [cut_off, with_damaged_pixels, with_a_damaged_chunk_type])
def test_a_file_that_was_damaged_is_not_finished_and_its_place_on_the_sheet_stays_empty(studio, damage):
    grid = studio.grid("text", "a cube", ["seed=1"], steps=1)
    (made,) = grid
    (before,) = grid.sheets()
    made.image.path.write_bytes(damage(made.image.path.read_bytes()))
    (after,) = grid.sheets()
    assert after.size == before.size and after.tobytes() != before.tobytes()
    for line in (next(iter(studio.grid("text", "a cube", ["seed=1"], steps=1))), next(studio.batch([made.image.recipe.to_dict()]))):
        assert line.image.path != made.image.path and line.image.image.getpixel((0, 0)) == (0, 128, 128)


def test_an_image_that_another_program_cropped_is_not_the_one_that_was_asked_for(studio):
    (made,) = studio.grid("text", "a cube", ["seed=1"], steps=1)
    with made.image.path.open("wb") as file:
        write_png(Image.new("RGB", (48, 32)), file, {CHUNK: made.image.recipe.to_json()})
    assert read_recipe(made.image.path) == made.image.recipe
    (again,) = studio.grid("text", "a cube", ["seed=1"], steps=1)
    assert not again.reused and again.image.path != made.image.path


def test_an_image_that_had_to_be_made_with_another_preset_is_the_one_that_was_asked_for(recording_backend, tmp_path):
    """As the first image of each size is, before the model is compiled. One that was asked for with the other preset is not."""
    backend = recording_backend(presets=("exact", "compiled"))
    backend.model_name = lambda mode: "flat"
    generate = backend.generate
    backend.generate = lambda *words: replace(generate(*words), preset="exact")
    studio = Studio(Settings(), [backend], Gallery(tmp_path))
    (first,) = studio.grid("text", "a cube", ["seed=1"], steps=1)
    (second,) = studio.grid("text", "a cube", ["seed=1"], steps=1, preset="compiled")
    assert not first.reused and not second.reused
    recipe = read_recipe(second.image.path)
    assert (recipe.preset, recipe.preset_asked) == ("exact", "compiled") and "preset_asked" not in first.image.recipe.to_dict()
    assert {cell.image.path for cell in studio.grid("text", "a cube", ["seed=1"], steps=1, preset="compiled")} == {second.image.path}
    assert next(studio.batch([recipe.to_dict()])).reused
    assert len(backend.requests) == 2


def test_recipes_decide_what_is_there_and_not_names(studio, backend):
    list(studio.grid("text", "a cube", ["seed=1,2"], steps=2))
    assert not any(cell.reused for cell in studio.grid("text", "a cone", ["seed=1,2"], steps=2))
    assert not any(cell.reused for cell in studio.grid("text", "a cube", ["seed=1,2"], steps=3))
    backend.model_name = lambda mode: "another model"
    assert not any(cell.reused for cell in studio.grid("text", "a cube", ["seed=1,2"], steps=2))


def test_the_folder_is_listed_once_and_not_for_each_seed(studio, monkeypatch):
    studio.gallery.folder.mkdir()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(os.fspath(path)) or scandir(path))
    grid = studio.grid("text", "a cube", ["seed=1..100"], steps=1, size="64x64", limit=None)
    assert not next(iter(grid)).reused
    assert listed.count(str(studio.gallery.folder)) < 10
