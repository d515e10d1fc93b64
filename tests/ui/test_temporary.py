"""The temporary folder: private, cleared while the page runs, and gone when it ends."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.recipe import read_recipe
from flux_demo.ui import build, launch_options, temporary
from flux_demo.ui.files import DrawnFrom, ShownMap, publish, unpublish
from flux_demo.ui.history import Entry
from tests.starting import free_port
from tests.ui.conftest import SMALL


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = temporary.private_folder()
    yield folder
    temporary.remove(folder)


def test_the_folder_is_this_users_alone(folder, tmp_path):
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert temporary.private_folder() == folder  # the same for the whole process


@pytest.mark.parametrize("first", ["a file", "an upload"])
def test_it_is_private_also_when_the_system_has_removed_it_meanwhile(studio, tmp_path, photo_file, monkeypatch, first):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    page = build(studio)
    page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        shutil.rmtree(page.folder)
        if first == "a file":
            publish(photo_file)
        else:
            files = {"files": photo_file.read_bytes()}
            assert httpx.post(f"{page.local_url}gradio_api/upload", files=files, trust_env=False, timeout=30).status_code == 200
        assert any(path.is_file() for path in page.folder.rglob("*")) and stat.S_IMODE(page.folder.stat().st_mode) == 0o700
    finally:
        page.close(verbose=False)


def test_without_a_folder_of_ones_own_the_shared_one_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = temporary.private_folder()
    try:
        assert folder.parent == tmp_path and not (tmp_path / "gradio").exists()
    finally:
        temporary.remove(folder)


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(InvalidRequest, match="GRADIO_TEMP_DIR") as refused:
        temporary.private_folder()
    assert str(tmp_path) not in str(refused.value)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path, monkeypatch):
    code = "from flux_demo.ui import temporary; print(temporary.private_folder(), flush=True); input()"
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        theirs = Path(process.stdout.readline().strip())
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        temporary.remove(temporary.private_folder())
        assert theirs.is_dir()
        process.kill()
    assert theirs.is_dir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    temporary.remove(temporary.private_folder())
    assert not theirs.exists()


def test_what_a_living_process_has_stays_where_nothing_can_be_locked(folder, tmp_path, monkeypatch):
    """As on Windows, which has no fcntl, and refuses to delete a file that is open; the process's other files are not."""
    unlink = Path.unlink
    left_behind = tmp_path / f"{temporary.PREFIX}killed"
    left_behind.mkdir()
    for each in (folder, left_behind):
        (each / temporary.LOCK).touch()
        (each / "upload.png").write_text("")

    def as_windows(path, missing_ok=False):
        if path == folder / temporary.LOCK:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)
        patch.setattr(temporary, "_locks", {})  # as another process sees it
        patch.setattr(Path, "unlink", as_windows)
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        temporary.remove(temporary.private_folder())
    assert (folder / "upload.png").is_file() and (folder / temporary.LOCK).is_file()
    assert not left_behind.exists()


def test_it_ends_with_the_process(tmp_path):
    code = "from flux_demo.ui import temporary; (temporary.private_folder() / 'x').write_text('')"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"GRADIO_TEMP_DIR": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_last_of_two_pages_that_share_a_folder_removes_it(folder, tmp_path):
    with temporary.used(folder):
        with temporary.used(folder):
            pass
        assert folder.is_dir()
    assert not folder.exists()
    after = temporary.private_folder()
    temporary.remove(after)
    assert after.parent == tmp_path and after != folder


def test_old_files_go_and_what_is_named_stays(folder):
    (folder / "a").mkdir()
    (folder / "b" / "c").mkdir(parents=True)
    for name in ("a/old", "b/c/kept"):
        (folder / name).write_text(name)
    time.sleep(0.02)
    gone = temporary.clear(folder, [str(folder / "b/c/kept")], older_than_s=0.01)
    assert gone == {str(folder / "a/old")}
    time.sleep(0.02)
    assert temporary.clear(folder, [], older_than_s=3600) == set()
    assert temporary.clear(folder, [str(folder / "b/c/kept")], older_than_s=0.01) == set()
    assert (folder / "b/c/kept").is_file() and not (folder / "a").exists()  # emptied the last time


def test_a_served_copy_that_is_being_downloaded_where_that_keeps_it_open_goes_with_the_next_clearing(folder, tmp_path, monkeypatch):
    """So it is on Windows. Nothing but a copy of the page's own is ever deleted."""
    outside = tmp_path / "image.png"
    outside.write_bytes(b"an image")
    copy = Path(publish(outside))

    def refuse(path):
        raise PermissionError(13, "The process cannot access the file because it is being used by another process", str(path))

    with monkeypatch.context() as downloading:
        downloading.setattr(os, "unlink", refuse)
        unpublish(str(copy))
    assert copy.is_file()
    time.sleep(0.02)
    assert temporary.clear(folder, [], older_than_s=0.01) == {str(copy)}
    unpublish(str(copy))
    unpublish(str(outside))
    assert outside.is_file()


def test_every_path_of_a_history_is_found(folder):
    def path(name):
        return str(folder / name)

    shown = ShownMap(path("map"), DrawnFrom(path("photo"), "1x1", "crop", False, ()), "canny", {}, None, None, "")
    entries = [Entry(path("image"), None, "mini", shown, path("photo-2"))]
    assert temporary.paths_in({1: entries, 2: (Path(path("last")),), 3: "elsewhere", 4: 5}, folder) == set(
        map(path, ("map", "photo", "image", "photo-2", "last"))
    )


def test_the_page_clears_what_no_history_has(page, client, visit, photo_file, held_steps):
    """A run's previews and its upload go, the image in a visitor's history stays, and example photos stay for everybody."""
    from gradio_client import handle_file

    from tests.ui.driving import changed, prompt_field, run, served, set_steps, source, wait_for_status

    visitor = visit()
    prompt_field(visitor).fill("a red cube")
    set_steps(visitor, 4)
    run(visitor)
    shown = None
    for _ in range(4):  # each preview is sent
        changed(visitor, "#picture-text", shown)
        shown = source(visitor, "#picture-text")
        held_steps.release()
    wait_for_status(visitor, "text", "Done in")
    client.predict(handle_file(photo_file), SMALL, api_name="/canny_map")
    before = sum(path.is_file() for path in page.folder.rglob("*"))
    time.sleep(0.1)
    page.clear_temporary(older_than_s=0.05)
    left = [path for path in page.folder.rglob("*") if path.is_file() and path.name != temporary.LOCK]
    assert len(left) < before - 3
    images = [path.read_bytes() for path in left if path.suffix == ".png" and "examples" not in str(path) and _is_ours(path)]
    assert served(visitor, "#picture-text") in images
    assert all(Path(path).is_file() for path in page.kept_files)


def _is_ours(path):
    try:
        return bool(read_recipe(path))
    except Exception:
        return False
