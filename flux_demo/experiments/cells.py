"""The cells of a grid: every request checked before the first one runs, in the order that switches models and modes least."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flux_demo.errors import BackendUnavailable, InvalidRequest, shortened
from flux_demo.experiments.axes import REQUEST_AXES, Axis, is_template, parse_axes, parse_template
from flux_demo.maps.fit import check_fit
from flux_demo.modes import Mode
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.seeds import random_seed

ASK_ABOVE = 200  # cells; a larger grid may be a mistake, and needs --yes
MAX_CELLS = 100_000
MAX_AXES = 3
NAMED = 8  # cells whose refusals are spelt out


class CellsRefused(InvalidRequest):
    """Some cells of a grid cannot be generated; ``refusals`` has the number and the sentences of each."""

    def __init__(self, refusals: Sequence[tuple[int, str]], of: int) -> None:
        self.refusals = tuple(refusals)
        reasons: dict[str, list[int]] = {}
        for number, reason in refusals:
            reasons.setdefault(reason, []).append(number)
        said = [f"Cell{'s' if len(numbers) > 1 else ''} {_listed(numbers)}: {reason}" for reason, numbers in reasons.items()]
        left = len(said) - NAMED
        more = f" And {left} more reason{'s' * (left > 1)}." if left > 0 else ""
        super().__init__(f"{len(refusals):,} of {of:,} cell{'s' * (of != 1)} cannot be generated. {' '.join(said[:NAMED])}{more}")


@dataclass(frozen=True)
class Cell:
    """One image of a grid."""

    number: int  # from 1, in reading order: along the first axis, then the second, then sheet by sheet
    index: tuple[int, ...]  # index on each axis
    values: Mapping[str, Any]  # what the axes say: {"seed": 3, "guidance": 3.5}
    request: GenerationRequest  # complete but for its map
    model: str | None = None  # the name of other weights than the settings'
    map_key: tuple = ()  # cells with the same key follow the same map


@dataclass(frozen=True)
class GridRequest:
    """What all cells of a grid share."""

    mode: Mode
    prompt: str | None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: Size | str | None = None  # "match" and None: of the photo, or the route's default
    preset: str | None = None
    fit: str = "crop"
    options: Mapping[str, float | bool] = field(default_factory=dict)  # of the map
    as_map: bool = False


def axes_of(grid_request: GridRequest, vary: Any, given: Sequence[str]) -> tuple[tuple[Axis, ...], GridRequest]:
    """The axes, and what is left for all cells; a prompt with alternatives becomes an axis. Raises InvalidRequest."""
    axes = parse_axes(grid_request.mode, vary)
    names = [axis.name for axis in axes]
    for name in names:
        if name in given:
            raise InvalidRequest(f"{name} is both varied and given once. Leave one of them out.")
    if isinstance(grid_request.prompt, str) and is_template(grid_request.prompt):
        axes, grid_request = (*axes, parse_template(grid_request.prompt)), replace(grid_request, prompt=None)
    if not axes:
        raise InvalidRequest("A grid varies something, and nothing was named. Add for example --vary seed=1,2,3,4.")
    if len(axes) > MAX_AXES:
        named = ", ".join(axis.name for axis in axes)
        raise InvalidRequest(
            f"A grid has at most {MAX_AXES} axes (across, down and from sheet to sheet), and {len(axes)} settings vary here: {named}. "
            "Give one of them a single value, such as --seed 7, and make a grid for each of its values."
        )
    if grid_request.prompt is None and not any(axis.name == "prompt" for axis in axes):
        raise InvalidRequest("The grid has no prompt. Give one, or vary it: --vary 'prompt=a {red|blue} cube'.")
    control, drawing = grid_request.mode.control, {*names, *grid_request.options}
    if control and grid_request.as_map and (drawn := {option.name for option in control.options} & drawing):
        raise InvalidRequest(f"A ready-made map is followed as it is, and {min(drawn)} would draw it anew. Leave one of them out.")
    if grid_request.seed is None and "seed" not in names:
        grid_request = replace(grid_request, seed=random_seed())  # one for all cells: what differs is what varies
    return axes, grid_request


def count(axes: Sequence[Axis], limit: int | None) -> int:
    """How many cells there are. Raises InvalidRequest above ``limit``, and above what any grid may have."""
    cells = math.prod(len(axis.values) for axis in axes)
    if cells > MAX_CELLS:
        raise InvalidRequest(f"This grid has {cells:,} cells, and the limit is {MAX_CELLS:,}. Vary less.")
    if not isinstance(limit, int | None):
        raise InvalidRequest(f"{shortened(limit)} is not a valid limit. Give the most cells as a whole number, or None.")
    if limit is not None and cells > limit:
        raise InvalidRequest(f"This grid has {cells:,} cells. Add --yes (limit=None in Python) if you mean it, or vary less.")
    return cells


def plan(
    grid_request: GridRequest,
    axes: Sequence[Axis],
    sized: Callable[[Any, str | None], Size | None],
    complete: Callable[[GenerationRequest, str | None], GenerationRequest],
) -> list[Cell]:
    """Every cell in reading order. Raises CellsRefused with all that ``complete`` and the values themselves refuse."""
    cells, refusals = [], []
    indices = itertools.product(*(range(len(axis.values)) for axis in reversed(axes)))
    for number, backwards in enumerate(indices, 1):
        index = tuple(reversed(backwards))
        values = {axis.name: axis.values[i] for axis, i in zip(axes, index)}
        try:
            cells.append(_cell(grid_request, number, index, values, sized, complete))
        except (InvalidRequest, BackendUnavailable) as refusal:
            if isinstance(refusal, BackendUnavailable) and "model" not in values:
                raise  # nothing here can run the mode, whatever the cell
            refusals.append((number, str(refusal)))
    if refusals:
        raise CellsRefused(refusals, len(cells) + len(refusals))
    return cells


def _cell(grid_request: GridRequest, number: int, index: tuple[int, ...], values: Mapping[str, Any], sized: Any, complete: Any) -> Cell:
    whole = {name: values.get(name, getattr(grid_request, name)) for name in ("prompt", "seed", "steps", "guidance", "size", "preset")}
    model, fit = values.get("model"), values.get("fit", grid_request.fit)
    whole["size"] = sized(whole["size"], model)
    request = complete(GenerationRequest(grid_request.mode.name, **whole), model)
    key: tuple = ()
    if grid_request.mode.control:
        check_fit(fit)
        options = {**grid_request.options, **{name: value for name, value in values.items() if name not in (*REQUEST_AXES, "fit")}}
        key = (request.size, fit, tuple(grid_request.mode.control.complete(options).items()))
    return Cell(number, index, values, request, model, key)


def running_order(cells: Sequence[Cell]) -> list[Cell]:
    """The cells in the order to run them: those with one model, size, map and prompt after each other, because what these need is kept for the next."""
    first_seen: dict[Any, int] = {}

    def rank(value: Any) -> int:
        return first_seen.setdefault(value, len(first_seen))

    keys = {
        cell.number: (
            rank(("model", cell.model)),
            rank(("size", cell.request.size)),
            rank(("map", cell.map_key)),
            rank(cell.request.prompt),
        )
        for cell in cells
    }
    return sorted(cells, key=lambda cell: (keys[cell.number], cell.number))


def with_map(cell: Cell, control: ControlMap | None) -> GenerationRequest:
    """The cell's request with its map."""
    return cell.request if control is None else replace(cell.request, control=control, size=control.size)


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:NAMED]))
    return f"{shown} and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else shown
