import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from flux_demo.errors import GenerationFailed, InvalidRequest
from flux_demo.gallery import Gallery, write_whole
from flux_demo.recipe import read_recipe
from flux_demo.request import BackendOutput, ControlMap, GenerationRequest, Size

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def request_(photo):
    control = ControlMap("canny", photo.resize((64, 48)), {"low": 50, "high": 200}, "crop")
    return GenerationRequest("canny", "狐狸 fox", seed=0, steps=2, guidance=30.0, size=Size(64, 48), control=control)


@pytest.fixture
def picture(photo):
    return BackendOutput(photo.resize((64, 48)), "mini", "exact", libraries={"torch": "2"})


def test_a_kept_picture_has_its_pixels_and_its_recipe(tmp_path, request_, picture):
    kept = Gallery(tmp_path / "new" / "folder").save(picture, request_, "mini", 1.25)
    with Image.open(kept.path) as file:
        assert file.format == "PNG" and file.mode == "RGB"
        assert file.tobytes() == picture.image.tobytes()
        values = json.loads(file.text["flux_demo"])
        assert file.text["parameters"].startswith("狐狸 fox\nSteps: 2, ")
    assert values["seed"] == 0 and values["backend"] == "mini" and values["seconds"] == 1.25
    assert values["control"]["sha256"] == hashlib.sha256(request_.control.image.tobytes()).hexdigest()
    assert read_recipe(kept.path) == kept.recipe
    assert kept.image.tobytes() == picture.image.tobytes()


def test_requests_and_images_that_follow_a_map_are_told_apart_in_a_set(tmp_path, request_, picture):
    other, kept = replace(request_, seed=1), Gallery(tmp_path).save(picture, request_, "mini", 1)
    assert {request_, replace(request_), other} == {request_, other}
    assert {kept, replace(kept)} == {kept} and {kept.recipe, read_recipe(kept.path)} == {kept.recipe}


def test_a_relative_folder_stays_the_same_one_when_the_program_goes_elsewhere(tmp_path, request_, picture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    gallery = Gallery(Path("outputs"))
    first = gallery.save(picture, request_, "mini", 1)
    monkeypatch.chdir("elsewhere")
    second = gallery.save(picture, request_, "mini", 1)
    assert first.image.tobytes() == second.image.tobytes()
    assert {first.path.parent, second.path.parent} == {tmp_path / "outputs"} and os.listdir() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows does not let a process delete its own working directory")
def test_a_current_folder_that_was_deleted_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InvalidRequest, match="no such file or directory"):
        Gallery(Path("outputs")).check()


def test_two_pictures_of_one_second_have_two_files(tmp_path, request_, picture):
    gallery = Gallery(tmp_path)
    paths = {gallery.save(picture, request_, "mini", 1).path for _ in range(3)}
    assert len(paths) == 3 == len(list(tmp_path.iterdir()))


def test_a_folder_that_refuses_is_a_sentence(tmp_path, request_, picture):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GenerationFailed, match="FLUX_DEMO_OUTPUTS") as error:
        Gallery(tmp_path / "file").save(picture, request_, "mini", 1)
    assert str(tmp_path) not in str(error.value)


def test_a_folder_that_refuses_is_known_before(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidRequest, match="FLUX_DEMO_OUTPUTS") as refusal:
            Gallery(folder).check()
        assert str(tmp_path) not in str(refusal.value)
    Gallery(tmp_path / "new" / "folder").check(10**6)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux has a folder where nothing can be made, and whose disk has no room")
def test_the_reason_is_the_systems_own_and_not_a_lack_of_space(tmp_path, request_, picture):
    for folder, said in ((Path("/proc/foo"), "no such file or directory"), (Path("/dev/null"), "not a directory")):
        with pytest.raises(InvalidRequest, match=f"{said}.*Choose another one with -o[.]$") as refusal:
            Gallery(folder, "-o").check(10**6)
        assert "full" not in str(refusal.value)
        with pytest.raises(GenerationFailed, match="(?i)choose another folder with -o[.]$") as failure:
            Gallery(folder, "-o").save(picture, request_, "mini", 1)
        assert "space" not in str(failure.value)


def test_asking_leaves_nothing_behind(tmp_path):
    Gallery(tmp_path).check(10)
    Gallery(tmp_path / "new").check(10)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_before(tmp_path):
    with pytest.raises(InvalidRequest, match="disk is full"):
        Gallery(tmp_path).check(pixels=2**62)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_images_have_the_permissions_of_any_new_file(tmp_path, request_, picture, umask):
    before = os.umask(umask)
    try:
        path = Gallery(tmp_path).save(picture, request_, "mini", 1).path
        write_whole(tmp_path / "other", lambda file: file.write(b"x"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777, (tmp_path / "other").stat().st_mode & 0o777} == {0o666 & ~umask}


@pytest.mark.parametrize("links", [True, False])
def test_many_threads_keep_many_images_and_none_is_lost(tmp_path, request_, picture, links, monkeypatch):
    if not links:  # as on a USB stick
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "not here")))
    (tmp_path / "somebody-else.png").write_bytes(b"kept")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: Gallery(tmp_path).save(picture, request_, "mini", 1).path, range(24)))
    assert len(set(paths)) == 24
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths} | {"somebody-else.png"}
    for path in paths:
        assert read_recipe(path).seed == 0


def test_a_killed_program_leaves_only_whole_images(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from PIL import Image
from flux_demo.gallery import Gallery
from flux_demo.request import BackendOutput, GenerationRequest, Size
gallery, image = Gallery(Path({str(tmp_path)!r})), Image.effect_noise((1024, 1024), 90).convert("RGB")
request = GenerationRequest("text", "a", seed=1, steps=1, guidance=1.0, size=Size(1024, 1024))
while True:
    print(gallery.save(BackendOutput(image, "mini"), request, "mini", 1).path, flush=True)
"""
    for delay in (0.0, 0.02, 0.05, 0.09):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()  # it saves one after another now
            time.sleep(delay)
            process.kill()
    images = list(tmp_path.glob("*.png"))
    assert len(images) >= 4
    for path in images:
        with Image.open(path) as image:
            image.load()
    left = list(tmp_path.glob(".*"))
    for path in left:
        os.utime(path, (1, 1))  # long ago
    control = BackendOutput(Image.new("RGB", (64, 48)), "mini")
    Gallery(tmp_path).save(control, GenerationRequest("text", "a", seed=1, steps=1, guidance=1.0, size=Size(64, 48)), "mini", 1)
    assert not list(tmp_path.glob(".*"))


def test_what_other_programs_left_half_written_stays(tmp_path, request_, picture):
    (tmp_path / ".film.part").touch()
    os.utime(tmp_path / ".film.part", (1, 1))
    Gallery(tmp_path).save(picture, request_, "mini", 1)
    assert (tmp_path / ".film.part").exists()
