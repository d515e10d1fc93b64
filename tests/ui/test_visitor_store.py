"""What visitors made and typed, and the index that is built again when it is lost."""

import os
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from flux_demo.errors import GenerationFailed
from flux_demo.gallery import Gallery
from flux_demo.recipe import read_recipe
from flux_demo.request import BackendOutput, GenerationRequest, Size
from flux_demo.studio import Studio
from flux_demo.ui import build
from flux_demo.ui.history import History
from flux_demo.ui.visitor_store import FOLDER, SHARED_FOLDER, SHARED_S, VisitorStore, is_key, new_key


@pytest.fixture
def make(tmp_path):
    gallery = Gallery(tmp_path)

    def make(seed):
        request = GenerationRequest("text", f"image {seed}", seed=seed, steps=1, guidance=3.5, size=Size(64, 64))
        return gallery.save(BackendOutput(Image.new("RGB", (64, 64)), "flat"), request, "mini", 1.0)

    return make


def seeds(visitors, key):
    return [kept.recipe.seed for kept in visitors.images(key)]


def age(folder):
    """Make everything in the index more than a day older."""
    with VisitorStore(folder)._open() as index:
        index.execute("UPDATE images SET created = created - ?", (SHARED_S + 60,))
        index.execute("UPDATE forms SET changed = changed - ?", (SHARED_S + 60,))


def in_place_of(image):
    """Put a folder in the place of an image: no system deletes it as a file. Returns it."""
    image.rename(image.with_suffix(".moved"))
    image.mkdir()
    return image


def test_each_visitor_has_their_own_images_and_forms(tmp_path, make):
    visitors, mine, theirs = VisitorStore(tmp_path), new_key(), new_key()
    for key, seed in ((mine, 1), (theirs, 2)):
        made = make(seed)
        visitors.add(key, made.path, made.recipe)
        visitors.save_record(key, "text", {"prompt": f"form {seed}"})
    assert seeds(visitors, mine) == [1] and seeds(visitors, theirs) == [2] and seeds(visitors, new_key()) == []
    assert visitors.record(mine, "text") == {"prompt": "form 1"} and visitors.record(mine, "canny") == {}
    visitors.remove(mine, [kept.path.name for kept in visitors.images(theirs)])  # not theirs to delete
    assert seeds(visitors, theirs) == [2]


def test_another_program_on_the_same_folder_finds_them_and_deleting_deletes_the_file(tmp_path, make):
    key, made = new_key(), make(7)
    VisitorStore(tmp_path).add(key, made.path, made.recipe)
    later = VisitorStore(tmp_path)
    assert seeds(later, key) == [7]
    later.remove(key, [made.path.name])
    assert seeds(later, key) == [] and not made.path.exists()


@pytest.mark.parametrize("content", [None, b"", b"no database" * 500])
def test_a_missing_or_damaged_index_is_built_again_with_the_maps(tmp_path, make, content):
    key, made, map_png = new_key(), make(3), tmp_path / "map.bin"
    map_png.write_bytes(b"a map")
    VisitorStore(tmp_path).add(key, made.path, made.recipe, map_png)
    index = tmp_path / FOLDER / "visitors.sqlite3"
    index.unlink() if content is None else index.write_bytes(content)
    (kept,) = VisitorStore(tmp_path).images(key)
    assert kept.recipe == made.recipe and kept.map_path.read_bytes() == b"a map"


def test_on_a_shared_page_all_is_gone_after_a_day(tmp_path, make):
    key, old, new = new_key(), make(1), make(2)
    before = time.time() - SHARED_S - 60
    os.utime(old.path, (before, before))
    visitors = VisitorStore(tmp_path, shared=True)
    for made in (old, new):
        visitors.add(key, made.path, made.recipe)
    assert seeds(visitors, key) == [2] and not old.path.exists()
    assert sorted(seeds(VisitorStore(tmp_path), key)) == [2]


@pytest.mark.parametrize("index", ["as it is", "lost", "of an older program"])
def test_what_was_made_before_the_page_was_shared_stays(index, tmp_path, make):
    mine, theirs, made = new_key(), new_key(), {key: make(seed) for seed, key in enumerate(("mine", "theirs"), 1)}
    VisitorStore(tmp_path).add(mine, made["mine"].path, made["mine"].recipe)
    VisitorStore(tmp_path).save_record(mine, "text", {"prompt": "a red cube"})
    if index == "of an older program":
        with VisitorStore(tmp_path)._open() as database:
            for table in ("images", "forms"):
                database.execute(f"ALTER TABLE {table} DROP COLUMN shared")
    VisitorStore(tmp_path, shared=True).add(theirs, made["theirs"].path, made["theirs"].recipe)
    if index == "lost":
        (tmp_path / FOLDER / "visitors.sqlite3").unlink()
    age(tmp_path)
    shared = VisitorStore(tmp_path, shared=True)
    assert (seeds(shared, mine), seeds(shared, theirs)) == ([1], [])
    assert made["mine"].path.exists() and not made["theirs"].path.exists()
    if index != "lost":
        assert shared.record(mine, "text") == {"prompt": "a red cube"}


def test_what_was_made_while_strangers_could_come_goes_also_when_the_page_is_private_again(tmp_path, make):
    key, theirs, mine = new_key(), make(1), make(2)
    VisitorStore(tmp_path, shared=True).add(key, theirs.path, theirs.recipe)
    VisitorStore(tmp_path, shared=True).save_record(key, "text", {"prompt": "a secret"})
    private = VisitorStore(tmp_path)
    private.add(key, mine.path, mine.recipe)
    private.save_record(key, "canny", {"prompt": "mine"})
    age(tmp_path)
    private.forget_old()
    assert (seeds(private, key), theirs.path.exists(), mine.path.exists()) == ([2], False, True)
    assert (private.record(key, "text"), private.record(key, "canny")) == ({}, {"prompt": "mine"})


def test_an_old_image_that_cannot_be_deleted_shuts_no_page_keeps_no_other_and_is_tried_again(tmp_path, make):
    shared, key, old = VisitorStore(tmp_path, shared=True), new_key(), [make(seed) for seed in (1, 2, 3)]
    for made in old:
        shared.add(key, made.path, made.recipe)
    age(tmp_path)
    locked = in_place_of(old[1].path)
    assert seeds(shared, new_key()) == [] and shared.names(key) == []
    assert [made.path.exists() for made in old] == [False, True, False]
    locked.rmdir()
    locked.with_suffix(".moved").rename(locked)
    assert seeds(shared, key) == [] and not locked.exists()


def test_an_image_that_could_not_be_noted_goes_after_a_day_too(tmp_path, make):
    shared, old, new = VisitorStore(tmp_path, shared=True), make(1), make(2)
    pages = shared._open().execute("PRAGMA page_count").fetchone()[0]
    shared._open().execute(f"PRAGMA max_page_count = {pages}")
    for made in (old, new):
        shared.add_unclaimed(made.path, replace(made.recipe, prompt="x" * 20_000))
    assert shared._open().execute("SELECT count(*) FROM images").fetchone() == (0,)
    shared._open().execute("PRAGMA max_page_count = 100000")
    (marker,) = tmp_path.glob(f"{SHARED_FOLDER}/*/{old.path.name}")
    before = time.time() - SHARED_S - 60
    os.utime(marker, (before, before))
    shared.forget_unlisted()
    assert not old.path.exists() and not marker.exists() and new.path.exists()


def test_of_all_images_only_the_one_that_cannot_be_deleted_stays_and_that_is_said(tmp_path, make, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    visitors, key, made = VisitorStore(tmp_path), new_key(), [make(seed) for seed in (1, 2, 3)]
    for each in made:
        visitors.add(key, each.path, each.recipe)
    locked = in_place_of(made[0].path)
    with pytest.raises(GenerationFailed, match="An image cannot be deleted"):
        History(Gallery(tmp_path), visitors, {}).remove(key, [each.path.name for each in made])
    assert [each.path.exists() for each in made] == [True, False, False]
    locked.rmdir()
    locked.with_suffix(".moved").rename(locked)
    assert seeds(visitors, key) == [1]


def test_an_image_with_a_date_before_1980_is_in_the_archive(tmp_path, make, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    visitors, key, made = VisitorStore(tmp_path), new_key(), make(1)
    os.utime(made.path, (1000, 1000))
    visitors.add(key, made.path, made.recipe)
    with zipfile.ZipFile(History(Gallery(tmp_path), visitors, {}).archive(key)) as archive:
        assert archive.read(made.path.name) == made.path.read_bytes()


def test_images_of_programs_go_after_a_day_too_although_nobody_looks(tmp_path, settings, recording_backend, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", settings.outputs)
    page = build(Studio(replace(settings, public=True), [recording_backend()], Gallery(tmp_path)))
    endpoint = next(fn.fn for fn in page.fns.values() if fn.api_name == "text")
    for prompt in ("a red cube", "a blue cone"):
        list(endpoint(prompt, "128x128"))
    old, new = sorted(tmp_path.glob("*.png"), key=lambda path: read_recipe(path).prompt)
    index = VisitorStore(tmp_path, shared=True)._open()
    with index:
        index.execute("UPDATE images SET created = created - ? WHERE file = ?", (SHARED_S, old.name))
    page.clear_temporary()
    assert not old.exists() and new.exists()


def test_an_image_of_a_program_is_handed_over_although_it_cannot_be_noted(tmp_path, settings, recording_backend, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", settings.outputs)
    page = build(Studio(replace(settings, public=True), [recording_backend()], Gallery(tmp_path)))
    endpoint = next(fn.fn for fn in page.fns.values() if fn.api_name == "text")
    shutil.rmtree(tmp_path / FOLDER, ignore_errors=True)
    (tmp_path / FOLDER).touch()  # no folder can be made there
    *_, (image, recipe) = endpoint("a red cube", "128x128")
    assert read_recipe(image["path"]).to_dict() == recipe


def test_what_was_typed_before_the_page_was_shared_stays_also_where_it_changes_there(tmp_path, monkeypatch):
    key = new_key()
    VisitorStore(tmp_path).save_record(key, "text", {"prompt": "private", "seed": "1"})
    shared = VisitorStore(tmp_path, shared=True)
    shared.update_record(key, "text", {"seed": "2"})
    shared.save_record(key, "canny", {"prompt": "there"})
    later = time.time() + 2 * SHARED_S
    monkeypatch.setattr(time, "time", lambda: later)
    shared.forget_old()
    assert shared.record(key, "text") == {"prompt": "private", "seed": "2"} and shared.record(key, "canny") == {}


@pytest.mark.parametrize("damage", [b"", b"not a picture", None])
def test_an_image_that_cannot_be_read_does_not_hide_the_others(tmp_path, make, damage, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    gallery, visitors, key = Gallery(tmp_path), VisitorStore(tmp_path), new_key()
    for seed in (1, 2, 3):
        made = make(seed)
        visitors.add(key, made.path, made.recipe)
        if seed == 2:
            made.path.write_bytes(damage if damage is not None else made.path.read_bytes()[:60])
    entries = History(gallery, visitors, {}).entries(key)
    assert [entry.recipe.seed for entry in entries] == [3, 1]


def test_the_key_is_random_and_not_on_the_disk(tmp_path, make):
    key, made = new_key(), make(1)
    assert is_key(key) and key != new_key()
    assert not any(map(is_key, ("", "short", None, key + "x", "é" * 32, {})))
    VisitorStore(tmp_path).add(key, made.path, made.recipe)
    assert all(key.encode() not in path.read_bytes() and key not in str(path) for path in tmp_path.rglob("*") if path.is_file())


def test_a_photo_is_kept_privately_and_forgotten_with_its_place_in_the_form(tmp_path):
    photo, key = tmp_path / "photo.jpg", new_key()
    photo.write_bytes(b"pixels")
    VisitorStore(tmp_path).keep_file(key, "photo-canny", photo)
    later = VisitorStore(tmp_path)  # after a restart
    assert later.file(key, "photo-canny").read_bytes() == b"pixels"
    assert later.file(key, "photo-depth") is None and later.file(new_key(), "photo-canny") is None
    later.keep_file(key, "photo-canny", None)
    assert later.file(key, "photo-canny") is None
    VisitorStore(tmp_path, shared=True).keep_file(key, "photo-canny", photo)
    assert later.file(key, "photo-canny") is None  # strangers could fill the disk


def test_an_index_without_room_loses_no_image_and_disturbs_nobody_who_types(tmp_path, make):
    visitors, key = VisitorStore(tmp_path), new_key()
    image = make(1)
    visitors.add(key, image.path, image.recipe)
    pages = visitors._open().execute("PRAGMA page_count").fetchone()[0]
    visitors._open().execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to run out of room
    visitors.save_record(key, "text", {"prompt": "x" * 20_000})
    long = replace(image.recipe, prompt="x" * 20_000)
    with pytest.raises(GenerationFailed, match=f"kept in the outputs folder as {image.path.name}.*no space left"):
        History(Gallery(tmp_path), visitors, {}).add(key, replace(image, recipe=long), None)
    assert image.path.is_file() and visitors.record(key, "text") == {}
    visitors._open().execute("PRAGMA max_page_count = 100000")
    visitors.save_record(key, "text", {"prompt": "a red cube"})
    assert visitors.record(key, "text") == {"prompt": "a red cube"}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list open files")
def test_an_index_that_goes_away_leaves_no_open_file_behind(tmp_path, make):
    visitors, key = VisitorStore(tmp_path), new_key()
    for _ in range(3):
        visitors.save_record(key, "text", {"prompt": "a cube"})
        assert sum(str(tmp_path) in os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()) == 1
        shutil.rmtree(tmp_path / FOLDER)
