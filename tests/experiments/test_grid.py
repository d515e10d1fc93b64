"""Grids in Python: what is refused before anything runs, what is shared, what is not generated twice."""

import io
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flux_demo import Settings, Studio, read_recipe
from flux_demo.errors import ContentRefused, InvalidRequest
from flux_demo.experiments.cells import CellsRefused
from flux_demo.gallery import Gallery, GeneratedImage


def asked(backend, *names):
    return [tuple(getattr(request, name) for name in names) for request in backend.requests]


def test_every_combination_is_generated_once_with_its_recipe(studio, backend):
    grid = studio.grid("text", "a cube", {"seed": "1..3", "guidance": [2.5, 3.5]}, steps=2)
    cells = list(grid)
    assert len(grid) == len(cells) == len({cell.image.path for cell in cells}) == 6
    assert sorted(asked(backend, "seed", "guidance")) == [(1, 2.5), (1, 3.5), (2, 2.5), (2, 3.5), (3, 2.5), (3, 3.5)]
    for cell in cells:
        recipe = read_recipe(cell.image.path)
        assert {"seed": recipe.seed, "guidance": recipe.guidance} == cell.values


def test_without_a_seed_all_cells_have_the_same(studio, backend):
    list(studio.grid("text", "a cube", ["steps=1..3"]))
    assert len(set(asked(backend, "seed"))) == 1


def test_all_refusals_are_said_with_their_numbers_before_the_first_cell(studio, backend):
    with pytest.raises(CellsRefused) as refusal:
        studio.grid("text", "a cube", ["steps=5,0,101", "guidance=3,1000"])
    assert sorted(number for number, _ in refusal.value.refusals) == [2, 3, 4, 5, 6]
    assert str(refusal.value).startswith("5 of 6 cells cannot be generated.")
    assert "Cells 2, 5: " in str(refusal.value)
    assert backend.requests == []


@pytest.mark.parametrize(
    "vary",
    [{"seed": 5}, {"seed": None}, None, 3, [("seed", [1, 2])], {1: [1, 2]}, {"guidance": np.ones((2, 2))}, [b"seed=1"]],
    ids=repr,
)
def test_what_says_nothing_that_can_vary_is_refused(studio, vary):
    with pytest.raises(InvalidRequest, match=r"\. "):
        studio.grid("text", "a cube", vary)
    with pytest.raises(InvalidRequest, match="limit"):
        studio.grid("text", "a cube", "seed=1,2", limit="5")


@pytest.mark.parametrize(("prompt", "given"), [(5, {}), (["a cube"], {}), ("a cube", {"fit": 5}), ("a cube", {"fit": ["crop"]})], ids=repr)
def test_what_is_no_text_is_refused(studio, photo, prompt, given):
    with pytest.raises(InvalidRequest, match=r"Cell 1: .*\. "):
        studio.grid("canny", prompt, "seed=1", photo, **given)


def test_one_text_is_one_axis(studio):
    assert len(studio.grid("text", "a cube", "seed=1..3")) == 3


@pytest.mark.parametrize("kind", ["RGBA", "I;16", "L", "turned"])
def test_a_pil_image_gives_the_map_that_it_gives_without_a_grid(studio, backend, photo, kind):
    given = photo.resize((96, 64))
    if kind == "RGBA":
        given.putalpha(Image.linear_gradient("L").resize(given.size))
    elif kind == "I;16":
        given = Image.fromarray(np.asarray(given.convert("L")).astype(np.uint16) * 257)
    elif kind == "turned":
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6
        given.save(file, "JPEG", exif=exif)
        given = Image.open(file)
    else:
        given = given.convert(kind)
    list(studio.grid("canny", "a cube", {"seed": [1]}, given, steps=1))
    assert backend.requests[0].control.sha256 == studio.preview("canny", given).sha256


def test_what_a_map_refuses_is_said_before_the_first_cell(studio, backend, photo):
    with pytest.raises(CellsRefused, match="Cells? 2"):
        studio.grid("canny", "a cube", ["low=10,2000"], photo)
    with pytest.raises(CellsRefused, match="Cells? 2"):
        studio.grid("canny", "a cube", ["high=200,20"], photo, low=90)
    with pytest.raises(CellsRefused, match="far must be at least 1.01"):
        studio.grid("depth", "a cube", ["near=0,1"], photo)
    assert backend.requests == []


@pytest.mark.parametrize(
    ("vary", "given", "sentence"),
    [
        ({}, {}, "nothing was named"),
        (["seed=1"], {"seed": 7}, "both varied and given"),
        (["seed=1", "steps=1", "guidance=3", "size=128x128"], {}, "at most 3 axes .*seed, steps, guidance, size[.] Give one"),
        (["model=a,b"], {}, "one model"),
        (["seed=1..1000"], {}, "Add --yes"),
        (["seed=1..1000", "steps=1..100", "guidance=1..100"], {"limit": None}, "the limit is 100,000"),
        (["seed=1"], {"fit": "pad"}, "no setting 'fit', and it does not follow a map"),
        (["seed=1"], {"gudiance": 3}, "no setting 'gudiance'"),
    ],
)
def test_what_makes_no_grid_is_refused(studio, vary, given, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        studio.grid("text", "a cube", vary, **given)


@pytest.mark.parametrize(
    ("vary", "given", "sentence"),
    [
        ("seed=1,2", {"hi": 999}, "A canny map has no option 'hi'. Its options are low, high."),
        ("seed=1,2", {"hi": 999, "as_map": True}, "A canny map has no option 'hi'. Its options are low, high."),
        ("seed=1,2", {"low": 5, "as_map": True}, "A ready-made map is followed as it is, and low would draw it anew."),
        ("low=5,7", {"as_map": True}, "A ready-made map is followed as it is, and low would draw it anew."),
    ],
)
def test_what_cannot_be_set_of_a_map_is_refused(studio, photo, vary, given, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        studio.grid("canny", "a cube", vary, photo, **given)


def test_ten_thousand_cells_can_be_meant(studio):
    assert len(studio.grid("text", "a cube", ["seed=1..1000", "steps=1..10"], limit=None)) == 10_000


def test_a_grid_that_stopped_continues_where_it_was(studio, backend):
    def grid():
        return studio.grid("text", "a {red|blue} cube", ["seed=1..4"], steps=2)

    for _ in grid():
        if len(backend.requests) == 3:
            break
    again = list(grid())
    assert [cell.reused for cell in again] == [True] * 3 + [False] * 5
    assert len(backend.requests) == 8
    assert all(cell.reused for cell in grid())


def test_another_map_is_another_cell_and_one_map_is_drawn_once(studio, backend, photo, monkeypatch):
    drawn = []
    preview = Studio.preview
    monkeypatch.setattr(Studio, "preview", lambda *words, **options: drawn.append(options) or preview(*words, **options))
    cells = list(studio.grid("canny", "a cube", ["seed=1..3", "low=20,90"], photo, steps=1))
    assert len(drawn) == 2
    assert len({request.control.sha256 for request in backend.requests}) == 2
    assert [request.control.options["low"] for request in backend.requests] == [20] * 3 + [90] * 3
    assert len(cells) == 6
    assert all(cell.reused for cell in studio.grid("canny", "a cube", ["seed=1..3", "low=20,90"], photo, steps=1))


def test_a_photo_is_not_sent_where_only_samples_are_followed(recording_backend, tmp_path, photo):
    studio = Studio(Settings(), [recording_backend("hosted", own_photos=False, sample_pictures=4)], Gallery(tmp_path))
    with pytest.raises(CellsRefused, match="your photo was not sent"):
        studio.grid("canny", "a cube", ["seed=1,2"], photo)


def test_a_photo_that_goes_away_does_not_end_the_grid(studio, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    cells = []
    for cell in studio.grid("canny", "a cube", ["low=20,90"], str(tmp_path / "photo.png"), steps=1):
        (tmp_path / "photo.png").unlink(missing_ok=True)
        cells.append(cell)
    assert [cell.error for cell in cells] == [None, None]


def test_a_cell_that_fails_says_why_and_the_rest_goes_on(studio, backend):
    generate = backend.generate

    def refusing(request, on_step, on_status):
        if request.seed == 2:
            raise ContentRefused("The filter withheld it. Change the prompt.")
        return generate(request, on_step, on_status)

    backend.generate = refusing
    grid = studio.grid("text", "a cube", ["seed=1..3"], steps=1)
    assert [cell.error for cell in grid] == [None, "The filter withheld it. Change the prompt.", None]
    assert len(list(grid.sheets())) == 1
    backend.generate = generate
    assert [cell.reused for cell in studio.grid("text", "a cube", ["seed=1..3"], steps=1)] == [True, True, False]


def test_a_disk_that_fills_up_ends_the_grid_and_the_same_grid_continues(studio, backend, monkeypatch):
    grid = studio.grid("text", "a cube", ["seed=1..4"], steps=1)
    with monkeypatch.context() as patch, pytest.raises(InvalidRequest, match="its disk is full"):
        for _ in grid:
            patch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=0))
    assert len(grid.results) == len(backend.requests) == 1
    assert [cell.reused for cell in studio.grid("text", "a cube", ["seed=1..4"], steps=1)] == [True, False, False, False]


def test_the_images_of_a_large_grid_are_not_all_in_memory_at_once(studio, monkeypatch):
    grid = studio.grid("text", "a cube", ["seed=1..9"], steps=1, size="64x64")
    list(grid)
    seen, most, read = [], [], GeneratedImage.image.fget

    def watched(self):
        seen.append(weakref.ref(image := read(self)))
        most.append(sum(ref() is not None for ref in seen))
        return image

    monkeypatch.setattr(GeneratedImage, "image", property(watched))
    assert len(list(grid.sheets())) == 1 and len(seen) == 9 and max(most) <= 2


def test_a_third_axis_makes_several_sheets(studio):
    grid = studio.grid("text", "a cube", ["seed=1,2", "steps=1,2", "guidance=1,2,3"], size="64x64")
    list(grid)
    assert len(list(grid.sheets())) == 3
