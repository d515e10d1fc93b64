"""A list of requests, one a line, in a recipe's own field names: read, checked line by line, generated, and continued where it stopped."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_demo.errors import FluxDemoError, InvalidRequest
from flux_demo.experiments.finished import Finished
from flux_demo.gallery import GeneratedImage
from flux_demo.modes import Mode, find_mode
from flux_demo.progress import OnStatus, OnStep
from flux_demo.request import ControlMap, GenerationRequest, Size, python_number
from flux_demo.seeds import parse_seed, random_seed

if TYPE_CHECKING:
    from flux_demo.studio import Studio

MAX_BYTES = 256 * 2**20  # of a list
MAX_LINE = 1_000_000  # characters
NUMBERS = ("steps", "guidance", "width", "height", "sample")
TEXTS = ("mode", "prompt", "photo", "map", "size", "preset", "fit")
# What a recipe tells of a run that is over. A line may have it, as a copied recipe does; it asks for nothing.
TOLD = {"version", "plan", "seconds", "created", "libraries", "safety", "stopped_at"}
OF_CONTROL = {"kind", "options", "fit", "sha256", "estimator"}


@dataclass(frozen=True)
class BatchLine:
    """A line that is done: with its image, or with the sentences that say why there is none."""

    line: int  # its number in the file, from 1; of dicts, their place from 1
    key: str  # names what was asked, whatever the line's number
    image: GeneratedImage | None = None
    error: str | None = None
    reused: bool = False  # the gallery had it already


@dataclass(frozen=True)
class _Ask:
    """A line that was read."""

    line: int
    values: Mapping[str, Any]
    mode: Mode
    request: GenerationRequest  # without its map

    @property
    def key(self) -> str:
        return _key(self.values)


def run(
    studio: Studio,
    source: Iterable[Any] | str | os.PathLike,
    *,
    seeds: Mapping[str, int] | None = None,
    on_step: OnStep | None = None,
    on_status: OnStatus | None = None,
) -> Iterator[BatchLine]:
    """Generate every line, those of one mode after each other. The file is read before this returns.

    Images that the gallery has are not generated again; ``seeds`` has those that lines without one were given before, by ``BatchLine.key``.
    Raises InvalidRequest for a file that cannot be read, and, while it runs, when no image can be kept any more.
    """
    folder = Path(source).expanduser().parent if isinstance(source, str | os.PathLike) else Path()
    rows = list(read(source) if isinstance(source, str | os.PathLike) else enumerate(source, 1))
    return _run(studio, rows, folder, seeds or {}, on_step, on_status)


def _run(
    studio: Studio, rows: list[tuple[int, Any]], folder: Path, seeds: Mapping[str, int], on_step: OnStep | None, on_status: OnStatus | None
) -> Iterator[BatchLine]:
    asks = []
    for line, row in rows:
        try:
            asks.append(_asked(line, row))
        except FluxDemoError as error:
            yield BatchLine(line, _key(row), error=str(error))
    modes = list(dict.fromkeys(ask.mode.name for ask in asks))
    finished = Finished(studio.gallery.folder)
    for ask in sorted(asks, key=lambda ask: modes.index(ask.mode.name)):
        studio.gallery.check(ask.request.size.pixels if ask.request.size else 0)  # a full disk ends the list, not one line after the other
        try:
            yield _done(studio, ask, folder, seeds, finished, on_step, on_status)
        except FluxDemoError as error:
            yield BatchLine(ask.line, ask.key, error=str(error))


def _done(
    studio: Studio,
    ask: _Ask,
    folder: Path,
    seeds: Mapping[str, int],
    finished: Finished,
    on_step: OnStep | None,
    on_status: OnStatus | None,
) -> BatchLine:
    route = studio.route(ask.mode.name)
    request = ask.request
    if request.seed is None:
        request = replace(request, seed=seeds.get(ask.key, random_seed()))
    control = _map(studio, ask, folder)
    if control is not None:
        request = replace(request, control=control, size=control.size)
    whole = route.dials.complete(request)
    model = route.backend.model_name(ask.mode)
    for name, here in (("backend", route.backend.name), ("model", model)):
        wanted = ask.values.get(name)
        if wanted not in (None, here):
            raise InvalidRequest(
                f"The line names the {name} {str(wanted)[:80]!r}, and here runs {here}. Take {name} out of it, or run it there."
            )
    if (image := finished.find(whole, route.backend.name, model)) is not None:
        return BatchLine(ask.line, ask.key, image, reused=True)
    image = studio.generate(request, on_step, on_status)
    finished.add(image)
    return BatchLine(ask.line, ask.key, image)


def _map(studio: Studio, ask: _Ask, folder: Path) -> ControlMap | None:
    """The map of a line, from its photo or ready-made. A photo's path starts at the list's folder."""
    values, control = ask.values, ask.mode.control
    if control is None:
        return None
    if values.get("sample") is not None:
        return None
    size: Size | str = ask.request.size or "match"
    if values.get("map") is not None:
        drawn = studio.as_map(ask.mode.name, folder / Path(values["map"]).expanduser(), size, values.get("fit") or "crop")
    elif values.get("photo") is not None:
        options = {option.name: values[option.name] for option in control.options if option.name in values}
        drawn = studio.preview(ask.mode.name, folder / Path(values["photo"]).expanduser(), size, values.get("fit") or "crop", **options)
    else:
        raise InvalidRequest(
            f"The line has no photo, and the {ask.mode.name} mode follows one. Add its path as photo, or a ready-made map as map."
        )
    if values.get("sha256") not in (None, drawn.sha256):
        raise InvalidRequest(
            "The photo gives another map than the one in the line's recipe. Use the photo that it was drawn from, or take sha256 out."
        )
    return drawn


def read(file: str | os.PathLike) -> Iterator[tuple[int, Any]]:
    """Number and content of each line of a .jsonl or .csv file; a broken line's content is the error. Raises InvalidRequest for the file."""
    path = Path(file).expanduser()
    kind = path.suffix.lower()
    if kind not in (".jsonl", ".ndjson", ".csv"):
        raise InvalidRequest(
            f"{path.name[:80]!r} is not a list that can be read. Give a file that ends in .jsonl, one object a line, or in .csv."
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(f"{path.name!r} is larger than {MAX_BYTES // 2**20} MiB. Split it into several lists.")
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidRequest(f"There is no file {path.name[:80]!r}. Check the name and the folder.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name!r} is not UTF-8 text. Save it as UTF-8 and try again.") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path.name[:80]!r} cannot be read. Check that it is a file, and its permissions.") from error
    rows = list(_csv(text) if kind == ".csv" else _jsonl(text))
    if not rows:
        raise InvalidRequest(f"{path.name!r} has no requests. Write one a line, with at least mode and prompt.")
    return iter(rows)


def _jsonl(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError
            yield number, json.loads(line)
        except (ValueError, RecursionError):
            yield number, InvalidRequest('The line is not JSON. Write one object a line, as {"mode": "text", "prompt": "a red cube"}.')


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                continue
            if len(cells) > len(names):
                yield (
                    reader.line_num,
                    InvalidRequest(f"The line has {len(cells)} columns, and the first has {len(names)}. Quote texts with commas in them."),
                )
                continue
            yield reader.line_num, {name: _typed(name, cell) for name, cell in zip(names, cells) if cell.strip()}
    except csv.Error:
        yield (
            reader.line_num,
            InvalidRequest(
                "The line is not CSV: a quote is not closed, or the line is too long. Check the quotes; lines after it were not read."
            ),
        )


def _typed(name: str, cell: str) -> Any:
    """A CSV cell as JSON would have it; texts stay as they are."""
    if name in TEXTS or name == "seed":
        return cell if name == "prompt" else cell.strip()
    try:
        return json.loads(cell.strip().lower())
    except ValueError:
        return cell


def _asked(line: int, row: Any) -> _Ask:
    if isinstance(row, InvalidRequest):
        raise row
    if not isinstance(row, Mapping):
        raise InvalidRequest('The line is not an object with fields. Write it as {"mode": "text", "prompt": "a red cube"}.')
    values = _flat(row)
    if values.get("mode") is None:
        raise InvalidRequest("The line does not say its mode. Add mode, as text, canny or depth.")
    for name in TEXTS:
        if not isinstance(values.get(name, ""), str):
            raise InvalidRequest(f"{name} is {str(values[name])[:40]!r}, and it is a text. Write it in quotes.")
    mode = find_mode(values["mode"])
    _check_names(mode, values)
    seed = values.get("seed")
    return _Ask(
        line,
        values,
        mode,
        GenerationRequest(
            mode.name,
            values.get("prompt", ""),
            seed=parse_seed(seed) if isinstance(seed, str) else seed,
            steps=values.get("steps"),
            guidance=values.get("guidance"),
            size=_size(values),
            sample=values.get("sample"),
            preset=values.get("preset"),
        ),
    )


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that ask for something; a recipe's control is laid open."""
    values = {str(name): python_number(value) for name, value in row.items() if value is not None and name not in TOLD}
    control = values.pop("control", None)
    if control is None:
        return values
    if not isinstance(control, Mapping) or set(control) - OF_CONTROL or not isinstance(control.get("options", {}), Mapping):
        raise InvalidRequest("The field control is not a recipe's. Write the map's options beside the others, as low and high.")
    kept = {name: control[name] for name in ("fit", "sha256") if control.get(name) is not None}
    return {**kept, **control.get("options", {}), **values}


def _check_names(mode: Mode, values: Mapping[str, Any]) -> None:
    known: set[str] = {*TEXTS, *NUMBERS, "seed", "model", "backend", "sha256"}
    options = {option.name for option in mode.control.options} if mode.control else set()
    for name in values:
        if name not in known | options:
            raise InvalidRequest(
                f"{name[:40]!r} is not a field of the {mode.name} mode. The fields are {', '.join(sorted((known | options) - {'sha256'}))}."
            )
        if mode.control is None and name in ("photo", "map", "fit", "sample"):
            raise InvalidRequest(f"The {mode.name} mode does not follow a map, and the line has {name}. Take it out, or name another mode.")
    if mode.control:
        mode.control.complete({name: value for name, value in values.items() if name in options})
    if values.get("map") is not None and (clash := sorted({"photo", *options} & set(values))):
        raise InvalidRequest(f"A ready-made map is followed as it is, and the line has {clash[0]} too. Leave one of them out.")


def _size(values: Mapping[str, Any]) -> Size | None:
    sides = values.get("width"), values.get("height")
    if sides == (None, None):
        return None if values.get("size") in (None, "match") else Size.parse(values["size"])
    if "size" in values or None in sides:
        raise InvalidRequest("The size is given by halves. Write width and height, or size as WIDTHxHEIGHT.")
    return Size(*sides)  # type: ignore[arg-type]


def _key(values: Any) -> str:
    """A short name of what a line asks."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
