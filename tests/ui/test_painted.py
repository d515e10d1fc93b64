"""Painted maps are kept with what they were drawn from."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from flux_demo.errors import InvalidRequest
from flux_demo.modes import MODES
from flux_demo.recipe import PAINTED, ControlRecipe, Recipe
from flux_demo.request import ControlMap
from flux_demo.ui import strokes
from flux_demo.ui.files import DrawnFrom, keep_map, map_to_send, new_file
from flux_demo.ui.history import Entry
from flux_demo.ui.html import details
from flux_demo.ui.image_heading import image_updates_in
from flux_demo.ui.map_views import with_paint
from flux_demo.ui.painted import MAX_PAINTED, painted_before
from flux_demo.ui.preview import map_to_follow
from flux_demo.ui.restore import tab_updates
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.test_recipe import RECIPE

DEPTH, ME = MODES["depth"], new_key()


def saved(name, colour):
    path = new_file(name)
    Image.new("RGB", (64, 64), colour).save(path)
    return str(path)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """A black map of a grey photo."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    drawn_from = DrawnFrom(saved("photo.png", "grey"), "64x64", "crop", False, (("near", 0),))
    return keep_map(ControlMap("depth", Image.new("RGB", (64, 64)), {"near": 0}), drawn_from)


def services_of(visitors):
    return SimpleNamespace(visitors=visitors, studio=None)  # nothing is drawn


def handler(of, services, mode):
    """A handler of the editor in a tab that shows no image."""
    return partial(of(services, mode), last=None, saved_fields={})


def stroke(visitors, shown, painter):
    return handler(strokes.stroke_handler, services_of(visitors), DEPTH)(visitor=ME, shown=shown, painter=painter, painting=shown.sha256)


def paint(visitors, shown, colour="white"):
    return stroke(visitors, shown, painted(shown, colour))


def painted(shown, colour):
    return {"background": {"path": shown.path}, "layers": [], "composite": {"path": saved("composite.png", colour)}}


def test_the_same_photo_under_another_path_finds_it_and_another_photo_does_not(shown, tmp_path):
    visitors, now = VisitorStore(tmp_path), shown.drawn_from
    assert painted_before(visitors, ME, DEPTH, now) is None
    paint(visitors, shown)
    again = str(new_file("photo.png"))
    shutil.copyfile(now.photo, again)
    found = painted_before(VisitorStore(tmp_path), ME, DEPTH, now._replace(photo=again))
    assert Image.open(found.path).getpixel((0, 0)) == (255, 255, 255)
    assert found.options == {"near": 0, PAINTED: True} and found.drawn_from.photo == again
    assert painted_before(visitors, new_key(), DEPTH, now) is None and painted_before(visitors, ME, MODES["canny"], now) is None
    assert painted_before(visitors, ME, DEPTH, now._replace(photo=saved("photo.png", "red"))) is None
    assert painted_before(visitors, ME, DEPTH, now) is not None  # whoever takes a change back has the paint back


@pytest.mark.parametrize(("options", "compared"), [({"near": 0.0}, True), ({"near": 0.0, PAINTED: True}, False)])
def test_no_photo_is_compared_with_a_painted_map(studio, options, compared):
    control = ControlRecipe("depth", options, "crop", "0" * 64, "mini")
    recipe = Recipe("1", "depth", "a cube", 64, 64, 1, 2, 10.0, "mini", "mini", None, None, control, 1.0, "2026-01-01T00:00:00Z")
    restored = tab_updates(studio, Entry("restored.png", recipe, "mini"), [])
    assert (restored["recipe_map_sha256"] == control.sha256) is compared
    assert ("compared with the one that the image followed" in restored["map_note"]) is compared
    assert ("painted on" in restored["map_note"]) is not compared


def test_a_click_before_the_map_is_there_again_sends_the_painted_one(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    paint(visitors, shown)
    services = services_of(visitors)
    found, changed = map_to_follow(services, ME, DEPTH, shown.drawn_from, None, "map", None, None)
    assert map_to_send(found).image.getpixel((0, 0)) == (255, 255, 255) and changed["map"] == found.path
    with pytest.raises(InvalidRequest, match="no photo to follow"):
        map_to_follow(services, ME, DEPTH, shown.drawn_from._replace(photo=None), None, "map", None, None)


def test_what_a_choice_of_view_or_a_run_made_the_map_is_kept_too(shown, tmp_path):
    for number, choose in enumerate((strokes.view_handler, None)):
        visitors = VisitorStore(tmp_path / str(number))
        services, editor = services_of(visitors), painted(shown, "white")
        if choose:  # before the stroke's own event
            answer = handler(choose, services, DEPTH)(visitor=ME, view="map", shown=shown, painter=editor, painting=shown.sha256)
            assert answer["shown"].options[PAINTED]
        else:
            map_to_follow(services, ME, DEPTH, shown.drawn_from, shown, "paint", editor, shown.sha256)
        assert painted_before(visitors, ME, DEPTH, shown.drawn_from) is not None


def test_strokes_that_are_taken_back_are_forgotten(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    paint(visitors, shown)
    paint(visitors, shown, "black")
    assert painted_before(visitors, ME, DEPTH, shown.drawn_from) is None


def test_an_image_that_followed_other_paint_is_marked(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    services = services_of(visitors)
    now = shown.drawn_from._replace(options=tuple((option.name, option.default) for option in DEPTH.control.options))
    shown = replace(shown, drawn_from=now)
    paint(visitors, shown)
    followed = painted_before(visitors, ME, DEPTH, now)
    control = ControlRecipe("depth", followed.options, "crop", followed.sha256, "mini")
    entry = Entry("/x.png", replace(RECIPE, mode="depth", width=64, height=64, control=control), "mini", photo=now.photo)
    recipe = entry.recipe
    form = {"prompt": recipe.prompt, "seed": str(recipe.seed), "steps": recipe.steps, "guidance": recipe.guidance, "preset": recipe.preset}
    form |= {"photo": now.photo, "size": now.size, "fit": now.fit, "as_map": now.as_map, **dict(now.options)}

    def heading():
        return image_updates_in(services, ME, "depth", entry, form)["image_head"]

    assert "earlier" not in heading()
    paint(visitors, shown, "red")
    assert "from earlier settings" in heading()


def test_each_setting_has_its_paint_and_the_oldest_goes_when_there_are_many(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    settings = [replace(shown, drawn_from=shown.drawn_from._replace(options=(("near", near / 10),))) for near in range(MAX_PAINTED + 1)]
    for number, each in enumerate(settings, 1):  # 0 would be the map as it was drawn
        paint(visitors, each, (number, 0, 0))
    found = [painted_before(VisitorStore(tmp_path), ME, DEPTH, each.drawn_from) for each in settings]
    assert found[0] is None
    assert [Image.open(each.path).getpixel((0, 0))[0] for each in found[1:]] == list(range(2, MAX_PAINTED + 2))
    paint(visitors, settings[4], "black")  # taken back
    paint(visitors, settings[5], "white")
    left = [number for number, each in enumerate(settings) if painted_before(visitors, ME, DEPTH, each.drawn_from)]
    assert left == [1, 2, 3, 5, 6, 7, 8]
    assert Image.open(painted_before(visitors, ME, DEPTH, settings[5].drawn_from).path).getpixel((0, 0)) == (255, 255, 255)
    assert len(list(tmp_path.rglob("painted-depth-*"))) == len(left)


def test_a_full_disk_gives_no_setting_the_paint_of_another(shown, tmp_path, monkeypatch):
    visitors = VisitorStore(tmp_path)
    settings = [replace(shown, drawn_from=shown.drawn_from._replace(options=(("near", near / 10),))) for near in range(MAX_PAINTED + 1)]
    for number, each in enumerate(settings[:-1], 1):
        paint(visitors, each, (number, 0, 0))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", full)
        paint(visitors, settings[-1], (98, 0, 0))
        paint(visitors, settings[0], (99, 0, 0))
    found = [painted_before(VisitorStore(tmp_path), ME, DEPTH, each.drawn_from) for each in settings]
    for each in filter(None, found):
        Path(each.path).unlink()  # the program starts anew
    found = [painted_before(VisitorStore(tmp_path), ME, DEPTH, each.drawn_from) for each in settings]
    assert [each and Image.open(each.path).getpixel((0, 0))[0] for each in found] == [*range(1, MAX_PAINTED + 1), None]


@pytest.mark.parametrize("cleared", [True, False])
def test_an_editor_that_lost_the_map_gets_it_back(shown, tmp_path, cleared):
    visitors = VisitorStore(tmp_path)
    assert paint(visitors, shown) == {}
    canvas = str(new_file("composite.png"))
    Image.new("RGB", (800, 800), "white").save(canvas)  # Gradio's own, when the map itself was undone
    empty = {"background": None, "layers": [], "composite": None}
    undone = {"background": {"path": canvas}, "composite": {"path": canvas}}
    assert with_paint(shown, undone, shown.sha256) is shown
    answer = stroke(visitors, shown, empty if cleared else undone)
    assert answer["painter"]["value"] == {"background": shown.path, "layers": [], "composite": None}
    assert answer["painting"] == shown.sha256 and not {"map", "shown"} & answer.keys()  # which may be another one by now
    assert painted_before(visitors, ME, DEPTH, shown.drawn_from) is None


def test_strokes_go_on_in_the_same_editor_after_a_run_or_another_view(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    services = services_of(visitors)
    chosen, stroked = handler(strokes.view_handler, services, DEPTH), handler(strokes.stroke_handler, services, DEPTH)
    first, _ = map_to_follow(services, ME, DEPTH, shown.drawn_from, shown, "paint", painted(shown, "white"), shown.sha256)
    second, _ = map_to_follow(services, ME, DEPTH, shown.drawn_from, first, "paint", painted(shown, "grey"), first.sha256)
    assert map_to_send(second).image.getpixel((0, 0)) == (128, 128, 128) and second.painted_on == shown
    faster = painted(shown, "red")  # painted before the answer to the choice of the editor
    opened = chosen(visitor=ME, view="paint", shown=second, painter=faster, painting=None)
    assert "painter" not in opened and opened["painting"] == second.sha256
    assert chosen(visitor=ME, view="paint", shown=shown, painter=faster, painting=None)["painter"]["value"]["background"] == shown.path
    undone = painted(shown, "black")
    assert "painter" not in chosen(visitor=ME, view="paint", shown=shown, painter=undone, painting=None)
    third, _ = map_to_follow(services, ME, DEPTH, shown.drawn_from, second, "paint", faster, None)
    assert map_to_send(third).image.getpixel((0, 0)) == (255, 0, 0)
    assert stroked(visitor=ME, shown=third, painter=painted(shown, "blue"), painting=third.sha256) == {}
    assert Image.open(painted_before(visitors, ME, DEPTH, shown.drawn_from).path).getpixel((0, 0)) == (0, 0, 255)
    left = chosen(visitor=ME, view="map", shown=third, painter=undone, painting=third.sha256)
    assert left["shown"] == shown and painted_before(visitors, ME, DEPTH, shown.drawn_from) is None


@pytest.mark.parametrize("moment, is_kept", [("1 5.0", True), ("1 7.0", False), ("2 5.0", False), ("", False)])
def test_an_undo_that_is_overtaken_by_what_was_painted_after_it_takes_nothing_back(shown, tmp_path, moment, is_kept):
    """Which the page tells by its own clock; another page has another one, and a program may say nothing."""
    visitors = VisitorStore(tmp_path)
    services, undone = services_of(visitors), painted(shown, "black")
    leave, stroked = handler(strokes.view_handler, services, DEPTH), handler(strokes.stroke_handler, services, DEPTH)
    leave(moment="1 6.0", visitor=ME, view="map", shown=shown, painter=painted(shown, "white"), painting=shown.sha256)
    stroked(moment=moment, visitor=ME, shown=shown, painter=undone, painting=shown.sha256)
    assert (painted_before(visitors, ME, DEPTH, shown.drawn_from) is not None) is is_kept


def test_an_editor_with_an_older_map_gets_the_one_that_is_shown(shown, tmp_path):
    answer = handler(strokes.stroke_handler, services_of(VisitorStore(tmp_path)), DEPTH)(
        visitor=ME, shown=shown, painter=painted(shown, "white"), painting="0" * 64
    )
    assert answer["painter"]["value"]["background"] == shown.path and answer["painting"] == shown.sha256


def test_a_disk_that_refuses_and_fields_of_another_version_are_no_reason_not_to_draw(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    paint(visitors, shown)
    (kept,) = visitors.record(ME, "painted-depth")["maps"]
    visitors.save_record(ME, "painted-depth", {"maps": [kept | {"colour": "red"}]})
    assert painted_before(visitors, ME, DEPTH, shown.drawn_from) is None
    (tmp_path / "file").touch()
    refusing = VisitorStore(tmp_path / "file")
    paint(refusing, shown)
    assert painted_before(refusing, ME, DEPTH, shown.drawn_from) is None


def test_the_details_of_an_image_name_what_its_map_was_drawn_with_as_the_page_does():
    control = ControlRecipe("depth", {"near": 0.25, "far": 1, "invert": False, PAINTED: True}, "crop", "0" * 64, "mini")
    recipe = Recipe("1", "depth", "a cube", 64, 64, 1, 2, 10.0, "mini", "mini", None, None, control, 1.0, "2026-01-01T12:30:00+00:00")
    shown = details(recipe)
    assert "Near clip 0.25, Far clip 1, painted by hand, Crop, mini" in shown and "2026-01-01 12:30:00 UTC" in shown


def test_a_late_stroke_is_kept_for_its_own_map_and_another_map_is_no_paint(shown, tmp_path):
    visitors = VisitorStore(tmp_path)
    other = replace(saved_map("grey", shown), edited_before=(shown,))
    stroke(visitors, other, painted(shown, "grey"))  # the editor shows the other map already
    assert painted_before(visitors, ME, DEPTH, shown.drawn_from) is None
    stroke(visitors, other, painted(shown, "white"))
    assert painted_before(visitors, ME, DEPTH, shown.drawn_from).options["painted"] is True
    assert painted_before(visitors, ME, DEPTH, other.drawn_from) is None


def saved_map(colour, like):
    drawn_from = like.drawn_from._replace(options=(("near", 1),))
    return keep_map(ControlMap("depth", Image.new("RGB", (64, 64), colour), {"near": 1}), drawn_from)
