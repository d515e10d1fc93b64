"""The .json beside a grid's sheet: what was asked and which cells are done. By it the same command finds its sheet and its seed again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flux_demo.cli import output
from flux_demo.cli.terminal import Terminal
from flux_demo.errors import InvalidRequest
from flux_demo.experiments.batch import BatchLine
from flux_demo.experiments.grid import Grid, GridCell

SAFE = "The images are in the outputs folder all the same."  # where the disk refuses what is made of them
EVERY_S = 5.0  # a note of ten thousand cells takes a second to write


class Manifest:
    """Written now and then while the grid runs, and at its end. A failure to write it is reported once and stops nothing."""

    def __init__(self, target: Path, grid: Grid, identity: Mapping[str, Any], terminal: Terminal) -> None:
        self._target, self._grid, self._identity, self._terminal = target, grid, identity, terminal
        self._written = -EVERY_S
        self._refused = False

    def keep(self) -> None:
        """Write it, unless that was a moment ago."""
        if time.monotonic() - self._written >= EVERY_S:
            self.write()

    def write(self, sheets: Sequence[Path] = ()) -> None:
        text = json.dumps(self.to_dict(sheets), indent=2) + "\n"
        try:
            output.write(self._target.with_suffix(".json"), lambda file: file.write(text.encode()))
        except InvalidRequest as error:
            if not self._refused:
                self._terminal.say(f"{error} {SAFE}")
            self._refused = True
        self._written = time.monotonic()

    def to_dict(self, sheets: Sequence[Path]) -> dict[str, Any]:
        grid = self._grid
        return {
            "path": str(sheets[0]) if sheets else None,
            "sheets": [str(path) for path in sheets],
            "asked": _plain(self._identity),
            "seed": grid.request.seed,
            "axes": [{"name": axis.name, "values": [_value(value) for value in axis.values]} for axis in grid.axes],
            "cells": [_cell(cell) for cell in sorted(grid.results.values(), key=lambda cell: cell.number)],
        }


def earlier(target: Path | None, outputs: Path, identity: Mapping[str, Any]) -> tuple[Path | None, Mapping[str, Any]]:
    """Where the sheet of the same command is, and what was noted beside it. Without ``-o`` it is looked for, and None if it is not there."""
    if target is None:
        there = {note.stem for note in outputs.glob("grid*.json")}
        for sheet in _sheet_paths(outputs):  # some may have been deleted
            if sheet.stem in there and (noted := _noted(sheet)).get("asked") == _plain(identity):
                return sheet, noted
        return None, {}
    note = target.with_suffix(".json")
    noted = _noted(target)
    if note.exists() and not noted:
        raise InvalidRequest(f"{note.name!r} is there and was not written by a grid, and it would be lost. Give -o another name.")
    return target, noted if noted.get("asked") == _plain(identity) else {}


def reserve_sheet(outputs: Path) -> Path:
    """The first grid-N.png that is free; its empty .json keeps it from a grid that begins at the same time. Raises InvalidRequest."""
    outputs.mkdir(parents=True, exist_ok=True)
    for sheet in _sheet_paths(outputs):
        if not (sheet.exists() or numbered(sheet, 1).exists()) and output.reserve(sheet.with_suffix(".json")):
            return sheet
    raise InvalidRequest("There are too many grids in the outputs folder. Name the sheet with -o.")


def numbered(target: Path, number: int) -> Path:
    """The name of one of several sheets."""
    return target.with_stem(f"{target.stem}-sheet-{number}")  # grid-2 is another grid


def outcome(done: GridCell | BatchLine) -> dict[str, Any]:
    """What became of a cell or a line, for JSON."""
    image = done.image
    if image is None:
        return {"error": done.error}
    return {"path": str(image.path), "recipe": image.recipe.to_dict(), "notes": list(image.notes)}


def _sheet_paths(outputs: Path) -> Iterator[Path]:
    return (outputs / ("grid.png" if number == 1 else f"grid-{number}.png") for number in range(1, 10_000))


def _noted(target: Path) -> dict[str, Any]:
    try:
        noted = json.loads(target.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) and "cells" in noted and "asked" in noted else {}


def _plain(identity: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(identity))


def _cell(cell: GridCell) -> dict[str, Any]:
    values = {name: _value(value) for name, value in cell.values.items()}
    return {"number": cell.number, "values": values, "reused": cell.reused, **outcome(cell)}


def _value(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
