"""Sheets: what stands where, that labels can be read in every script, and that no sheet is larger than can be opened."""

import pytest
from PIL import Image, ImageChops, ImageDraw, features

from flux_demo.experiments import lettering
from flux_demo.experiments.axes import Axis
from flux_demo.experiments.sheet import MAX_AREA, Tile, sheets

COLOURS = {(0, 0): "#ff0000", (1, 0): "#00ff00", (0, 1): "#0000ff", (1, 1): "#ffff00"}
laid_out = pytest.mark.skipif(
    not features.check("raqm"), reason="Pillow lays out lines from right to left with FriBiDi, which is not on this machine"
)
NOBODYS = chr(0x0378)  # assigned to nothing


def drawn(text):
    page = Image.new("L", (250, 60), 255)
    lettering.draw(ImageDraw.Draw(page), (5, 40), text, 24, "black")
    return page


def test_the_first_axis_runs_across_and_the_second_down():
    axes = Axis.of("seed", [1, 2]), Axis.of("guidance", [2.5, 3.5])
    tiles = {place: Tile.of(Image.new("RGB", (128, 96), colour)) for place, colour in COLOURS.items()}
    (sheet,) = sheets(axes, tiles, "a cube")
    centres = {}
    for place, colour in COLOURS.items():
        wanted = Image.new("RGB", sheet.size, colour)
        left, top, right, bottom = ImageChops.invert(
            ImageChops.difference(sheet, wanted).convert("L").point(lambda v: 255 if v else 0)
        ).getbbox()
        assert (right - left, bottom - top) == (128, 96)
        centres[place] = left, top
    assert centres[0, 0][0] == centres[0, 1][0] < centres[1, 0][0]
    assert centres[0, 0][1] == centres[1, 0][1] < centres[0, 1][1]


def test_a_missing_cell_is_not_taken_for_an_image():
    (sheet,) = sheets((Axis.of("seed", [1, 2]),), {(0,): Tile.of(Image.new("RGB", (128, 128), "#123456"))}, "a cube")
    assert sheet.getpixel((sheet.width - 20, sheet.height - 40)) not in ((0x12, 0x34, 0x56), (255, 255, 255))


def test_a_cell_whose_file_is_gone_costs_no_sheet(tmp_path):
    tiles = {(0,): Tile(lambda: Image.open(tmp_path / "gone.png"), (128, 128)), (1,): Tile.of(Image.new("RGB", (128, 128), "#123456"))}
    (sheet,) = sheets((Axis.of("seed", [1, 2]),), tiles, "a cube")
    assert sheet.getpixel((sheet.width - 70, sheet.height - 40)) == (0x12, 0x34, 0x56)
    assert sheet.getpixel((20, sheet.height - 40)) not in ((0x12, 0x34, 0x56), (255, 255, 255))


def test_maps_stand_under_their_cells():
    tiles = {(i,): Tile.of(Image.new("RGB", (64, 64), "#ff0000"), Image.new("RGB", (64, 64), "#0000ff")) for i in range(2)}
    (sheet,) = sheets((Axis.of("low", [10, 20]),), tiles, "a cube", with_maps=True)
    column = [sheet.getpixel((30, y)) for y in range(sheet.height)]
    assert column.count((255, 0, 0)) == column.count((0, 0, 255)) == 64
    assert column.index((255, 0, 0)) < column.index((0, 0, 255))


@pytest.mark.parametrize("count", [(1, 1), (5000, 1), (1, 1500), (316, 64)])
def test_no_sheet_is_larger_than_can_be_opened(count, monkeypatch):
    monkeypatch.setattr(lettering, "draw", lambda *_: None)  # it takes long, and changes no size
    axes = Axis.of("seed", range(count[0])), Axis.of("steps", range(1, count[1] + 1))
    total = 0
    for sheet in sheets(axes, {(0, 0): Tile.of(Image.new("RGB", (1024, 1024)))}, "many"):
        assert sheet.width * sheet.height <= 64_000_000 > MAX_AREA
        total += 1
    assert total < 40


@pytest.mark.parametrize(
    "text",
    [
        "Würfel",
        "кубик",
        "κύβος",
        "立方体",
        "ひらがな",
        "정육면체",
        "घन",
        "مكعب",
        "קובייה",
        "ลูกบาศก์",
        "ঘনক",
        "கனசதுரம்",
        "→ 3×",
        "😀",
        "კუბი",
        "խորանարդ",
    ],
)
def test_every_script_has_letters_of_its_own(text):
    """A font without a letter draws the same box for each."""
    for letter in {each for each in text if each.isalpha() or each in "→😀"}:
        assert drawn(letter) not in (drawn(NOBODYS), drawn("")), letter


@pytest.mark.parametrize("letter", [chr(first + 32) for first, _, font in lettering.SCRIPTS if font.startswith("NotoSans")])
def test_punctuation_and_digits_stay_visible_beside_every_script(letter):
    for mark in sorted(lettering.SHARED - {" "}):
        assert drawn(letter + mark) not in (drawn(letter + " "), drawn(letter + NOBODYS)), mark


@laid_out
def test_a_line_from_right_to_left_is_laid_out_as_a_whole():
    """Its end stands on the left."""
    changed = ImageChops.difference(drawn("קובייה, כדור 3"), drawn("קובייה, כדור 4")).getbbox()
    assert changed[2] < 5 + lettering.width("0", 24) + 2


@pytest.mark.parametrize("text", [NOBODYS, "🤖", "👩‍🚀"])
def test_a_character_that_no_font_has_is_a_box(text):
    assert drawn(text).getextrema() == (0, 255)


@laid_out
def test_what_only_changes_the_character_before_it_is_not_drawn():
    assert drawn("❤\ufe0f") == drawn("❤")


@pytest.mark.parametrize("size", [11, 20, 30])
def test_long_prompts_are_shortened_to_their_room(size):
    for text in ("a red cube on a wooden floor " * 40, "立方体" * 300, "x" * 10_000):
        lines = lettering.wrapped(text, size, 200, 3)
        assert len(lines) == 3 and lines[-1].endswith("…")
        assert max(lettering.width(line, size) for line in lines) <= 200


@pytest.mark.parametrize("side", [64, 128, 200, 256, 300])
def test_a_short_label_is_never_broken(side, monkeypatch):
    written = []
    monkeypatch.setattr(lettering, "draw", lambda on, at, text, size, fill: written.append(text))
    colours = ["red", "green", "blue", "yellow", "orange", "purple", "white", "black", "Würfel", "кубик"]
    axes = Axis.of("seed", [1, 2]), Axis.of("prompt", colours)
    list(sheets(axes, {(0, 0): Tile.of(Image.new("RGB", (side, side)))}, "a cube"))
    assert set(colours) <= set(written)


def test_paper_is_white():
    (sheet,) = sheets((Axis.of("seed", [1]),), {}, "nothing")
    assert sheet.getpixel((0, sheet.height - 1)) == (255, 255, 255)
