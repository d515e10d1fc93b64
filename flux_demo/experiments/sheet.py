"""The labelled sheet of a grid: the first axis runs across, the second down, the third makes several sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flux_demo.experiments import lettering
from flux_demo.experiments.axes import Axis

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SIDE = 12_000  # pixels of a sheet
MAX_AREA = 60_000_000  # below what the page's loader takes, so that a sheet can be opened there
MAX_CELL = 512  # pixels of a cell's longer side; the cells' own files have them whole
MIN_CELL = 32
PAGED_CELL = 128  # where rows need several sheets, cells get no smaller than this for it
MAX_COLUMNS = 316  # of two axes with 100,000 cells at least one has no more
PAPER, INK, FAINT, EMPTY = "#ffffff", "#1c1c1e", "#6b6b70", "#ececee"


@dataclass(frozen=True)
class Tile:
    """What stands in one cell of a sheet. Pictures are read when they are placed: those of a large grid do not fit into memory."""

    image: Callable[[], Image] | None  # None: not generated yet, or refused
    size: tuple[int, int] = (256, 256)  # of the image
    map: Callable[[], Image] | None = None
    note: str = ""  # in place of a missing image

    @classmethod
    def of(cls, image: Image, map: Image | None = None) -> Tile:
        """A tile of pictures that are in memory already."""
        return cls(lambda: image, image.size, (lambda: map) if map else None)


@dataclass(frozen=True)
class Layout:
    """Pixels of a sheet."""

    columns: int
    rows: int
    cell: tuple[int, int]  # the box that each image is fitted into
    with_maps: bool
    text: int  # size of the labels
    gap: int
    left: int  # room for the labels of the rows
    label_lines: int

    @property
    def top(self) -> int:
        """Room for the title and the labels of the columns."""
        return round(self.text * (1.9 + 1.35 * self.label_lines)) + 2 * self.gap

    @property
    def row_height(self) -> int:
        return self.cell[1] * (2 if self.with_maps else 1) + self.gap

    @property
    def size(self) -> tuple[int, int]:
        return self.left + self.columns * (self.cell[0] + self.gap), self.top + self.rows * self.row_height


def sheets(axes: Sequence[Axis], tiles: Mapping[tuple[int, ...], Tile], title: str, with_maps: bool = False) -> Iterator[Image]:
    """Every sheet of a grid. ``tiles`` by their index on each axis; a cell without one is left empty."""
    varying = [number for number, axis in enumerate(axes) if len(axis.values) > 1] or [0]  # the others are said in the title
    fixed = [axis.label(0) for number, axis in enumerate(axes) if number not in varying]
    title = "    ".join((*fixed, title))
    tiles = {tuple(index[number] for number in varying): tile for index, tile in tiles.items()}
    across, *others = (axes[number] for number in varying)
    down, third = (*others, None, None)[:2]
    shape = _shape(tiles)
    for page in range(len(third.values) if third else 1):
        heading = f"{third.label(page)}    {title}" if third else title
        tail = (page,) if third else ()
        if down is None:
            yield from _wrapped(across, tiles, heading, shape, with_maps)
        elif len(across.values) > MAX_COLUMNS:
            yield from _pages(down, across, lambda x, y, tail=tail: tiles.get((y, x, *tail)), heading, shape, with_maps)  # type: ignore[misc]
        else:
            yield from _pages(across, down, lambda x, y, tail=tail: tiles.get((x, y, *tail)), heading, shape, with_maps)  # type: ignore[misc]


def _shape(tiles: Mapping[tuple[int, ...], Tile]) -> tuple[int, int]:
    """The box that every image fits into, unscaled."""
    sizes = [tile.size for tile in tiles.values() if tile.image is not None] or [(256, 256)]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _wrapped(axis: Axis, tiles: Mapping[tuple[int, ...], Tile], title: str, shape: tuple[int, int], with_maps: bool) -> Iterator[Image]:
    """One axis: along the line, and on to the next line as text goes, each tile under its own label."""
    count = len(axis.values)
    columns = count if count <= 6 else min(40, math.ceil(math.sqrt(count * shape[1] * (2 if with_maps else 1) / shape[0])))
    parts = []
    layout = _layout(axis, None, columns, math.ceil(count / columns), shape, with_maps)
    for begin in range(0, count, columns):
        end = min(count, begin + columns)
        part = Axis(axis.name, axis.values[begin:end], axis.labels[begin:end])
        parts.append((part, [tiles.get((i,)) for i in range(begin, end)]))
    height = layout.top - round(layout.text * 1.9) - layout.gap + layout.row_height
    room = _room(layout, height)
    for begin in range(0, len(parts), room):
        yield _lines(parts[begin : begin + room], title, layout, height)


def _lines(parts: Sequence[tuple[Axis, list[Tile | None]]], title: str, layout: Layout, height: int) -> Image:
    from PIL import Image as PIL_Image
    from PIL import ImageDraw

    head = round(layout.text * 1.9) + layout.gap
    page = PIL_Image.new("RGB", (layout.size[0], head + len(parts) * height + layout.gap), PAPER)
    pen = ImageDraw.Draw(page)
    _write_title(pen, title, layout, page.width)
    for row, (axis, line) in enumerate(parts):
        y = head + row * height
        for column, tile in enumerate(line):
            x = layout.left + column * (layout.cell[0] + layout.gap)
            _write_label(pen, axis.label(column), (x, y), layout)
            _paste_tile(page, pen, tile, (x, y + height - layout.row_height), layout)
    return page


def _pages(across: Axis, down: Axis, at, title: str, shape: tuple[int, int], with_maps: bool) -> Iterator[Image]:
    """Two axes: one sheet, or several where it would be too high."""
    layout = _layout(across, down, len(across.values), len(down.values), shape, with_maps)
    room = _room(layout, layout.row_height)
    for begin in range(0, len(down.values), room):
        yield _table(across, down, range(begin, min(len(down.values), begin + room)), at, title, layout)


def _table(across: Axis, down: Axis, rows: range, at, title: str, layout: Layout) -> Image:
    from PIL import Image as PIL_Image
    from PIL import ImageDraw

    page = PIL_Image.new("RGB", (layout.size[0], layout.top + len(rows) * layout.row_height), PAPER)
    pen = ImageDraw.Draw(page)
    _write_title(pen, title, layout, page.width)
    y = layout.top - round(layout.text * 1.35 * layout.label_lines) - layout.gap // 2
    for x in range(len(across.values)):
        _write_label(pen, across.label(x), (layout.left + x * (layout.cell[0] + layout.gap), y), layout)
    for i, row in enumerate(rows):
        top = layout.top + i * layout.row_height
        _write_row(pen, down.label(row), top, layout)
        for x in range(len(across.values)):
            _paste_tile(page, pen, at(x, row), (layout.left + x * (layout.cell[0] + layout.gap), top), layout)
    return page


def _room(layout: Layout, height: int) -> int:
    """How many rows of that height a sheet holds."""
    return max(1, (min(MAX_SIDE, MAX_AREA // layout.size[0]) - layout.top) // height)


def _layout(across: Axis, down: Axis | None, columns: int, rows: int, shape: tuple[int, int], with_maps: bool) -> Layout:
    """The largest cells that a sheet has room for, and labels in proportion."""
    height = rows * shape[1] * (2 if with_maps else 1)
    scale = min(1.0, MAX_CELL / max(shape), MAX_SIDE / 1.2 / (columns * shape[0]))
    scale = max(min(scale, MAX_SIDE / 1.2 / height), min(scale, PAGED_CELL / max(shape)))
    area = columns * shape[0] * scale * min(height * scale, MAX_SIDE)
    scale *= min(1.0, math.sqrt(MAX_AREA / 1.3 / area))
    scale = max(scale, MIN_CELL / max(shape))
    cell = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    text = max(11, min(30, round(min(cell) / 11)))
    gap = max(4, text // 2)
    left = gap
    if down is not None:
        widest = max(lettering.width(down.label(i)[:200], text) for i in range(len(down.values)))
        left = 2 * gap + math.ceil(min(widest, max(cell[0] * 0.8, text * 7)))  # rounded down, a word would be broken
    fits = all(lettering.width(across.label(i)[:200], text) <= cell[0] for i in range(len(across.values)))
    return Layout(columns, rows, cell, with_maps, text, gap, left, 1 if fits else 3)


def _write_title(pen, title: str, layout: Layout, page_width: int) -> None:
    for line in lettering.wrapped(title, layout.text, page_width - 2 * layout.gap, 1):
        lettering.draw(pen, (layout.gap, layout.gap + layout.text), line, layout.text, FAINT)


def _write_label(pen, label: str, at: tuple[int, int], layout: Layout) -> None:
    """A column's label, its last line just over the column."""
    lines = lettering.wrapped(label, layout.text, layout.cell[0], layout.label_lines)
    for i, line in enumerate(lines):
        y = at[1] + round(layout.text * (1.0 + 1.35 * (i + layout.label_lines - len(lines))))
        lettering.draw(pen, (at[0], y), line, layout.text, INK)


def _write_row(pen, label: str, top: int, layout: Layout) -> None:
    lines = lettering.wrapped(label, layout.text, layout.left - 2 * layout.gap, max(1, min(8, int(layout.cell[1] / layout.text / 1.35))))
    for i, line in enumerate(lines):
        lettering.draw(pen, (layout.gap, top + round(layout.text * (1.0 + 1.35 * i))), line, layout.text, INK)


def _paste_tile(page: Image, pen, tile: Tile | None, at: tuple[int, int], layout: Layout) -> None:
    tile = tile or Tile(None)
    for number, read in enumerate((tile.image, tile.map) if layout.with_maps else (tile.image,)):
        x, y = at[0], at[1] + number * layout.cell[1]
        image = None
        with suppress(OSError):  # the file is gone, or damaged by now
            image = read() if read else None
        if image is None:
            pen.rectangle((x, y, x + layout.cell[0] - 1, y + layout.cell[1] - 1), fill=EMPTY)
            note = tile.note or ("its file is gone or damaged" if read else "not generated")
            if number == 0 and min(layout.cell) > 4 * layout.text:  # where it can be read
                for i, line in enumerate(lettering.wrapped(note, layout.text, layout.cell[0] - 2 * layout.gap, 5)):
                    lettering.draw(pen, (x + layout.gap, y + layout.gap + round(layout.text * (1 + 1.35 * i))), line, layout.text, FAINT)
            continue
        scale = min(layout.cell[0] / image.width, layout.cell[1] / image.height, 1.0)
        shown = image if scale == 1 else image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        page.paste(shown, (x + (layout.cell[0] - shown.width) // 2, y + (layout.cell[1] - shown.height) // 2))
