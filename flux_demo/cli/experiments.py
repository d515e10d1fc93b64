"""grid and batch: many images from one command, kept as they are finished, and continued by the same command."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from flux_demo.backends import Route
from flux_demo.cli import grid_manifest, output
from flux_demo.cli.batch_record import BatchRecord
from flux_demo.cli.notes import Notes
from flux_demo.cli.terminal import KEPT, Terminal, time_left
from flux_demo.errors import BackendUnavailable, Cancelled, InvalidRequest
from flux_demo.experiments.batch import BatchLine
from flux_demo.experiments.cells import ASK_ABOVE
from flux_demo.experiments.grid import Grid, GridCell
from flux_demo.modes import Mode, find_mode
from flux_demo.progress import Status
from flux_demo.settings import Settings, expanded
from flux_demo.studio import Studio

DONE, SOME_FAILED = 0, 3
SHARED = ("seed", "steps", "guidance", "size", "preset")  # options that grids have in common with single images


class Progress:
    """Which cell runs, and the time that is left, counted in steps times pixels."""

    def __init__(self, grid: Grid, terminal: Terminal) -> None:
        self._grid, self._terminal = grid, terminal
        self._left = sum(grid.work(cell) for cell in grid.cells)
        self._work = 0  # of what was generated here
        self._began: float | None = None

    def finished(self, cell: GridCell) -> None:
        """Count a cell that is done; found ones take no time."""
        work = self._grid.work(self._grid.cells[cell.number - 1])
        self._left -= work
        self._work += 0 if cell.reused else work
        if cell.reused or self._began is None:
            self._began = time.monotonic()

    def step(self, done: int, of: int, preview: object = None) -> None:
        """One more step of the cell that runs."""
        running = self._grid.running
        if self._began is None:
            self._began = time.monotonic()
        left = ""
        if running is not None:
            part = self._grid.work(running) * done // of
            if self._work + part:
                seconds = (time.monotonic() - self._began) / (self._work + part) * (self._left - part)
                left = time_left(seconds)
        self._terminal.say_status(f"cell {self._number()}, step {done} of {of}{left}")

    def status(self, status: Status) -> None:
        """What the cell that runs is doing."""
        self._terminal.say_status(f"cell {self._number()}: {status}")

    def _number(self) -> str:
        return f"{min(len(self._grid.results) + 1, len(self._grid))} of {len(self._grid)}"


def grid(args: argparse.Namespace, terminal: Terminal) -> int:
    """grid: every cell in the gallery, the labelled sheet, and a .json beside it. The result is the sheet's path."""
    mode = find_mode(args.mode)
    control = mode.control
    photo = args.photo if control else None
    target = output.check_target(args.output, photo)
    studio = Studio.from_settings(Settings.from_env(backend=args.backend))
    studio.gallery.check()
    identity = _command_identity(args, studio, mode, photo)
    sheet, before = grid_manifest.earlier(target, studio.settings.outputs_folder, identity)
    given = {name: value for name in SHARED if (value := getattr(args, name)) is not None}
    if args.seed is None and "seed" in before and not any(text.partition("=")[0].strip() == "seed" for text in args.vary):
        given["seed"] = before["seed"]  # the random one that the same command was given before
    if control:
        given |= {name: value for name in ("fit", *(o.name for o in control.options)) if (value := getattr(args, name)) is not None}
        given["as_map"] = args.as_map
    follower: list[Progress] = []
    planned = studio.grid(
        mode.name,
        args.prompt,
        args.vary,
        photo,
        **given,
        limit=None if args.yes else ASK_ABOVE,
        on_step=lambda done, of, preview=None: follower[0].step(done, of),
        on_status=lambda status: follower[0].status(status),
    )
    target = sheet or grid_manifest.reserve_sheet(studio.settings.outputs_folder)
    output.keep_photo(photo, _names(target, len(planned)))  # no grid has more sheets than cells
    manifest = grid_manifest.Manifest(target, planned, identity, terminal)
    if sheet is None:
        manifest.write()
    follower.append(Progress(planned, terminal))
    notes = Notes()
    _say_before(planned, notes, terminal)
    try:
        for cell in planned:
            follower[0].finished(cell)
            for sentence in notes.new(cell.image.notes) if cell.image else [str(cell.error)]:
                terminal.say(f"Cell {cell.number}: {sentence}")
            manifest.keep()
    finally:
        if unfinished := len(planned.results) < len(planned):
            terminal.say(f"{len(planned.results)} of {_cells(len(planned))} done.{_goes_on(planned.routes)}")
        sheets: list[Path] = []
        refused = False
        if planned.results:
            manifest.write()
            sheets, refused = _write(target, planned, args.maps, terminal)
            manifest.write(sheets)
        if unfinished:
            terminal.done = manifest.to_dict(sheets)
            if sheets:
                terminal.say(f"The sheet so far: {', '.join(map(str, sheets))}")
    failed = sum(cell.image is None for cell in planned.results.values())
    reused = sum(cell.reused for cell in planned.results.values())
    if reused:
        terminal.say(f"Already generated: {reused} of {_cells(len(planned))}. Change a value or the seed for new ones.")
    if failed:
        terminal.say(f"Failed: {failed} of {_cells(len(planned))}. Run the same command again to retry only those.")
    if len(sheets) == 1:
        terminal.file(str(sheets[0]), manifest.to_dict(sheets))
    elif sheets or terminal.as_json:
        terminal.result("\n".join(map(str, sheets)), manifest.to_dict(sheets), KEPT)
    return SOME_FAILED if failed or refused else DONE


def batch(args: argparse.Namespace, terminal: Terminal) -> int:
    """batch: one result per line as it is done, its path or with --json an object, and a record in the outputs folder."""
    studio = Studio.from_settings(Settings.from_env(backend=args.backend, outputs=args.output, options={"outputs": "-o"}))
    studio.gallery.check()
    record = BatchRecord(studio.gallery.folder, args.file, terminal)
    seeds = record.seeds()
    routes: list[Route] = []

    def on_route(mode: Mode, route: Route) -> None:
        routes.append(route)
        _say_where(route, terminal, mode)

    lines = studio.batch(
        args.file,
        seeds=seeds,
        on_route=on_route,
        on_step=terminal.steps,
        on_status=terminal.status,
    )
    notes = Notes()
    done = failed = reused = 0
    try:
        for line in lines:
            done, failed, reused = done + 1, failed + (line.image is None), reused + line.reused
            if line.image is not None and (not line.reused or line.key not in seeds):
                record.append(_line(line))
            _say_line(line, studio, notes, terminal)
    except (KeyboardInterrupt, Cancelled):
        terminal.say(f"{_lines(done)} done.{_goes_on(routes)}")
        raise
    if reused:
        terminal.say(f"Already generated: {reused} of {_lines(done)}.")
    if failed:
        terminal.say(f"Failed: {failed} of {_lines(done)}. Correct what failed, and the same command generates only that.")
    return SOME_FAILED if failed else DONE


def _say_line(line: BatchLine, studio: Studio, notes: Notes, terminal: Terminal) -> None:
    if line.image is None:
        terminal.say(f"Line {line.line}: {line.error}")
    else:
        took = "already generated." if line.reused else f"{line.image.seconds:.1f} s."
        control = line.image.request.control
        of_photo = control.notes if control else ()  # each line has its own photo
        own = [note for note in line.image.notes if note in of_photo]
        others = notes.new(note for note in line.image.notes if note not in of_photo)
        terminal.say(" ".join((f"Line {line.line}: {took}", *own, *others)))
    if terminal.as_json:
        terminal.line(json.dumps(_line(line)))
    elif line.image is not None:
        terminal.line(str(output.path_as_named(line.image, studio)))


def _command_identity(args: argparse.Namespace, studio: Studio, mode: Mode, photo: str | None) -> dict[str, Any]:
    """What makes two commands the same: what was typed, what is in the files that it names, and which model runs where."""
    identity = {
        name: value for name, value in vars(args).items() if name not in ("json", "yes", "output", "maps", "command") and value is not None
    }
    varied = {name.strip(): values for name, _, values in (text.partition("=") for text in args.vary)}
    for name, path in (("sha256", photo), ("prompts_sha256", varied.get("prompt"))):
        if path and os.path.isfile(path := expanded(path)):
            with suppress(OSError), open(path, "rb") as file:  # what cannot be read is refused where the grid is planned
                identity[name] = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(BackendUnavailable):  # the models of --vary may run all the same
        backend = studio.route(mode.name).backend
        identity |= {"backend": backend.name, "model": backend.model_name(mode)}
    if mode.control and mode.control.needs_estimator and not args.as_map:
        with suppress(BackendUnavailable):  # refused where the grid is planned
            identity["estimator"] = studio.estimator().title
    return identity


def _say_before(grid: Grid, notes: Notes, terminal: Terminal) -> None:
    """How many cells there are, where they run, and what is not known there of their prompts."""
    terminal.say(f"{_cells(len(grid))}.")
    for route in grid.routes:
        _say_where(route, terminal)
        for cell in grid.cells:
            for sentence in notes.new(route.prompt_notes(cell.request.prompt, grid.request.mode)):
                terminal.say(sentence)


def _write(target: Path, grid: Grid, maps: bool, terminal: Terminal) -> tuple[list[Path], bool]:
    """Write the sheets, one after the other: the names of those that the disk took, and whether it refused one."""
    sheets = grid.sheets(maps)
    first = list(itertools.islice(sheets, 2))  # one stands alone, several are numbered
    written: list[Path] = []
    for number, sheet in enumerate(itertools.chain(first, sheets), 1):
        name = grid_manifest.numbered(target, number) if len(first) > 1 else target
        try:
            output.write(name, partial(sheet.save, format="PNG", compress_level=3))
        except InvalidRequest as error:
            terminal.say(f"{error} {grid_manifest.SAFE}")
            return written, True
        written.append(name)
    return written, False


def _say_where(route: Route, terminal: Terminal, mode: Mode | None = None) -> None:
    if mode is not None:  # the lines of a list are in several
        terminal.say(f"{mode.title}.")
    terminal.say_where(route)
    if not route.backend.reproducible:
        terminal.say(
            f"{route.backend.title} may ignore the seed, so its earlier images cannot be reused. "
            "The same command generates all of them again, and each is charged."
        )


def _goes_on(routes: Sequence[Route]) -> str:
    return " Run the same command to continue." if all(route.backend.reproducible for route in routes) else ""


def _names(target: Path, count: int) -> list[Path]:
    """A file for each sheet, numbered where there are several."""
    return [target] if count == 1 else [grid_manifest.numbered(target, number) for number in range(1, count + 1)]


def _cells(count: int) -> str:
    return f"{count:,} cell{'s' * (count != 1)}"


def _lines(count: int) -> str:
    return f"{count:,} line{'s' * (count != 1)}"


def _line(line: BatchLine) -> dict[str, Any]:
    return {"line": line.line, "key": line.key, "reused": line.reused, **grid_manifest.outcome(line)}
