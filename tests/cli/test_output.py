"""Where results go: any encoding, closed or full streams, long names. Work that was done is never reported as failed."""

import io
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image

from flux_demo import read_recipe
from flux_demo.cli import run
from flux_demo.cli.terminal import Terminal, in_gb
from flux_demo.version import VERSION
from tests.cli.conftest import ROOT

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
QUICK = ("--backend", "mini", "--size", "128x128", "--steps", "1")


def shell(command: str, place, **environment: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FD": f"{sys.executable} -m flux_demo"} | environment
    return subprocess.run(["bash", "-c", command], cwd=place, env=environment, capture_output=True, timeout=240, check=False)


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_the_time_left_is_that_of_the_image_under_way(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    terminal, left = Terminal(as_json=False), []
    for _ in range(2):
        for done in range(1, 11):
            now[0] += 6
            terminal.steps(done, 10)
            left += [screen.getvalue().rpartition(", ")[2]] if done == 2 else []
        now[0] += 60  # for what comes before and after the steps
    assert left == ["48 s left", "48 s left"]


def on_screen(text):
    """What stands in each line of a terminal that knows no escape sequence."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for over in line.split("\r"):
            shown = over + shown[len(over) :]
        lines.append(shown.rstrip())
    return lines


def test_a_progress_line_leaves_nothing_behind_on_any_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    terminal = Terminal(as_json=False)
    terminal.bytes(1, 2)
    long = on_screen(screen.getvalue())
    terminal._updated = 0.0
    terminal.say_status("Short")
    assert long[0].startswith("[####") and on_screen(screen.getvalue()) == ["Short"]
    terminal.say("Done.")
    assert on_screen(screen.getvalue()) == ["Done.", ""]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (23_800_000_000, "23.8 GB"),
        (999_950_000, "1.0 GB"),
        (999_400_000, "999 MB"),
        (140_000_000, "140 MB"),
        (999_600, "1 MB"),
        (9_000, "9 kB"),
    ],
)
def test_sizes_are_rounded_to_a_unit_that_fits(count, text):
    assert in_gb(count) == text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_finished_work_is_finished_in_any_encoding(place, encoding):
    shutil.copy("photo.jpg", "照片.jpg")
    done = shell("$FD map canny 照片.jpg --size 128x128", place, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr.count(b"error")) == (0, 0)
    name = "照片-canny.png"
    assert (place / name).is_file()
    assert done.stdout.decode(encoding).strip() == (name if encoding == "utf-8" else name.encode("ascii", "backslashreplace").decode())


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_recipe_stays_json_in_any_encoding(place, encoding):
    assert run(["text", "狐狸 🦊 é", *QUICK, "-o", "fox.png"]) == 0
    done = shell("$FD recipe fox.png > r.json", place, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert json.loads((place / "r.json").read_text(encoding))["prompt"] == "狐狸 🦊 é"


def test_a_file_name_that_is_not_text_is_printed_as_it_is(place):
    name = os.fsdecode(b"f\xffx.jpg")
    shutil.copy("photo.jpg", name)
    done = shell("$FD map canny f$'\\xff'x.jpg --size 128x128", place, PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, b"f\xffx-canny.png\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_end_finished_work(place, closed):
    done = shell(f"$FD map canny photo.jpg --size 128x128 -o m.png {closed}", place)
    assert done.returncode == 0
    with Image.open(place / "m.png") as drawn:
        drawn.load()  # and nothing that was printed went into it
    if closed == "2>&-":
        assert done.stdout == b"m.png\n"


@needs_full
def test_a_full_disk_under_standard_output_is_said_and_the_image_is_kept(place):
    done = shell("$FD text 'a red cube' --backend mini --size 128x128 --steps 1 -o cube.png > /dev/full", place)
    assert done.returncode == 0 and b"It is cube.png" in done.stderr
    assert read_recipe(place / "cube.png").prompt == "a red cube"
    told = shell("$FD recipe cube.png > /dev/full", place)  # here printing is the work
    assert told.returncode == 3 and b"cannot be written to standard output" in told.stderr
    assert shell("$FD map canny photo.jpg --size 128x128 2> /dev/full", place).returncode == 0


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
@needs_full
def test_where_several_images_are_is_said_where_standard_output_takes_nothing(place, monkeypatch, capsys, words):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(["text", "a red cube", *QUICK, "--count", "2", *words]) == 0
    said = "The result cannot be written to standard output: no space left on device. What was generated is kept.\n"
    assert capsys.readouterr().err.count(said) == 1 and len(list((place / "outputs").glob("*.png"))) == 2


@needs_full
def test_nothing_is_said_to_be_kept_where_nothing_was_generated(place, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(["check"]) == 3
    assert capsys.readouterr().err.endswith("standard output: no space left on device.\n")


def test_a_copy_that_cannot_be_written_ends_nothing_and_the_images_are_said(vanishing, capsys):
    assert run(["text", "a red cube", *QUICK, "--count", "2", "-o", "gone/a.png", "--json"]) == 3
    said = capsys.readouterr()
    images = json.loads(said.out)["images"]
    assert len({each["path"] for each in images}) == 2
    for each in images:
        assert read_recipe(each["path"]).to_dict() == each["recipe"] and f"kept as {each['path']}." in said.err
        assert "cannot be written" in each["error"]


@pytest.mark.parametrize("output", ["a pipe that nobody reads", "/dev/full"])
@needs_full
def test_a_list_goes_on_when_nobody_takes_its_lines(place, output, monkeypatch):
    reads, writes = os.pipe()
    os.close(reads)
    line = {"mode": "text", "prompt": "a red cube", "steps": 1, "size": "128x128"}
    (place / "list.jsonl").write_text("\n".join(json.dumps(line | {"seed": seed}) for seed in (1, 2)))
    with os.fdopen(writes, "w") as pipe, open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full if output == "/dev/full" else pipe)
        assert run(["batch", "list.jsonl", "--backend", "mini", "--json"]) == 0
    results = (place / "outputs" / "list.results.jsonl").read_text().splitlines()
    assert [json.loads(result)["recipe"]["seed"] for result in results] == [1, 2]


@pytest.mark.parametrize("letter", ["a", "é", "照"])
def test_a_long_name_is_shortened(place, letter, capsys):
    stem = letter * (250 // len(letter.encode()))
    shutil.copy("photo.jpg", f"{stem}.jpg")
    for _ in range(2):
        assert run(["map", "canny", f"{stem}.jpg", "--size", "128x128"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second and first.endswith("-canny.png") and stem.startswith(first.removesuffix("-canny.png"))


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "b" * 300 + "/a.png"])
def test_a_name_that_no_disk_takes_is_refused_before_drawing(place, capsys, name):
    assert run(["map", "canny", "photo.jpg", "-o", name]) == 3
    assert "-o" in capsys.readouterr().err


def test_without_a_home_the_program_works(place):
    """As in a container whose user has no entry in the system's list."""
    (place / "sitecustomize.py").write_text("import pwd\ndef nobody(*_): raise KeyError('uid not found')\npwd.getpwuid = nobody\n")
    done = shell(
        f"unset HOME; PYTHONPATH={place}:$PYTHONPATH $FD check && PYTHONPATH={place}:$PYTHONPATH $FD text 'a red cube' {' '.join(QUICK)}",
        place,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_free_space_is_that_of_the_caches_own_disk(place, variable):
    code = (
        "from flux_demo.cli import check; from flux_demo.hub import cache_folder; print(cache_folder()); print(check.free_for_downloads())"
    )
    removed = "unset HF_HUB_CACHE HF_HOME XDG_CACHE_HOME;"
    done = shell(f"{removed} export {variable}=/dev/shm/cache; {sys.executable} -c '{code}'", place)
    folder, free = done.stdout.decode().split()
    assert folder.startswith("/dev/shm/cache")
    assert abs(int(free) - shutil.disk_usage("/dev/shm").free) < 2**28


def test_a_cache_that_cannot_be_is_said_and_its_free_space_is_not(place):
    for command in ("check", "fetch text"):
        done = shell(f"unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE; HF_HOME=/dev/null $FD {command}", place)
        said = (done.stdout + done.stderr).decode()
        assert "HF_HOME names, because no file can be made there (not a directory)" in said
        assert " free" not in said and "Traceback" not in said


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "SSL_CERT_FILE"])
def test_the_command_line_refuses_the_environment_that_the_page_refuses(place, variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, "socks4://nowhere")
    assert run(["check"]) == 3
    assert capsys.readouterr().err.startswith(variable)


def test_the_version_is_json_where_that_is_asked_for(capsys):
    for words in (["--version", "--json"], ["--json", "--version"]):
        assert run(words) == 0
        assert json.loads(capsys.readouterr().out) == {"version": VERSION}


@pytest.mark.parametrize(
    "words",
    [
        ["text", "a cube", "-o", ""],
        ["map", "canny", "photo.jpg", "-o", " "],
        ["grid", "text", "a", "-o", ""],
        ["batch", "a.jsonl", "-o", ""],
    ],
)
def test_an_empty_name_for_the_output_is_refused(place, capsys, words):
    (place / "a.jsonl").write_text('{"mode": "text", "prompt": "a cube", "steps": 1}')
    assert run([*words, "--backend", "mini"]) == 3
    assert "-o" in capsys.readouterr().err and not list(place.glob("**/*.png"))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["depth", "photo.jpg", "a", "--low", "3"], "depth"),
        (["map", "canny", "photo.jpg", "--near", "1"], "map canny"),
        (["grid", "canny", "photo.jpg", "a", "--near", "1"], "grid canny"),
        (["check", "more"], "check"),
    ],
)
def test_what_a_command_does_not_take_is_refused_with_its_own_usage(place, capsys, words, command):
    assert run(words) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"usage: python -m flux_demo {command} [-h]")
        and f"{command}: unrecognized arguments: {words[-1] if command == 'check' else words[-2]}" in said
    )


def test_an_empty_edge_map_is_said(place, capsys):
    Image.new("RGB", (64, 64), "teal").save("plain.png")
    assert run(["map", "canny", "plain.png", "--size", "128x128"]) == 0
    assert "same colour everywhere" in capsys.readouterr().err


def test_what_became_of_the_photo_is_said_once(place, photo, capsys):
    photo.save("moving.gif", save_all=True, append_images=[photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    for command in (["map", "canny", "moving.gif"], ["canny", "moving.gif", "a red cube", "--steps", "1", "--backend", "mini"]):
        assert run([*command, "--size", "128x128"]) == 0
        said = capsys.readouterr().err
        assert said.count("To fit 128x128: 38% cropped left and right.") == 1
        assert said.count("The file has several frames or pages, and only the first is used.") == 1


def test_what_became_of_each_photo_of_a_list_is_said_with_its_line(place, photo, capsys):
    for name in ("one", "two"):
        photo.save(f"{name}.gif", save_all=True, append_images=[photo.rotate(180)])
    line = '{{"mode": "canny", "prompt": "a cube", "photo": "{}.gif", "size": "128x128", "steps": 1}}'
    (place / "list.jsonl").write_text("\n".join(map(line.format, ("one", "two"))))
    assert run(["batch", "list.jsonl", "--backend", "mini"]) == 0
    said = capsys.readouterr().err
    assert said.count("The file has several frames or pages") == said.count("To fit 128x128: 38% cropped left and right.") == 2


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="Linux has a folder where nothing can be made, whoever asks")
@pytest.mark.parametrize("words", [("text", "a cube"), ("map", "canny", "photo.jpg"), ("grid", "text", "a cube", "--vary", "seed=1,2")])
def test_a_place_where_no_file_can_be_made_is_refused_before_anything_is_generated(place, capsys, words):
    assert run([*words, "--backend", "mini", "-o", "/proc/image.png"]) == 3
    said = capsys.readouterr().err
    assert said == "'/proc/image.png' cannot be written: no file can be made there (no such file or directory). Give -o another path.\n"
    assert not (place / "outputs").exists()
