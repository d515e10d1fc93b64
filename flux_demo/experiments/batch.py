"""A list of requests, one per line, in a recipe's own field names: read, checked line by line, generated, and continued where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_demo.backends import Route
from flux_demo.errors import FluxDemoError, InvalidRequest, shortened
from flux_demo.experiments.finished import Finished
from flux_demo.experiments.rows import TEXTS, read
from flux_demo.gallery import GeneratedImage
from flux_demo.maps.source import refuse_address
from flux_demo.modes import MATCH, Mode, find_mode
from flux_demo.progress import OnStatus, OnStep
from flux_demo.reading import parse_size
from flux_demo.recipe import OMITTED_IF_NONE, PAINTED
from flux_demo.request import ControlMap, GenerationRequest, Size, python_number
from flux_demo.seeds import parse_seed, random_seed
from flux_demo.settings import expanded

if TYPE_CHECKING:
    from flux_demo.studio import Studio

NUMBERS = ("steps", "guidance", "width", "height", "sample")
NUMBER = re.compile(r"\s*-?\d+(\.\d*)?\s*", re.ASCII)  # in quotes
WHOLE = {"seed", "steps", "width", "height", "sample"}
# What a recipe tells of a run that is over. A line may have it, as a copied recipe does; it asks for nothing.
IGNORED_FIELDS = {"version", "plan", "seconds", "created", "libraries", "safety", *OMITTED_IF_NONE}
OF_A_RECIPE = {"sha256", "control.kind", "control.estimator"}  # of the map; nobody writes them by hand
OF_A_MAP = {"photo", "map", "fit", "sample", *OF_A_RECIPE}
OF_CONTROL = {"kind", "options", "fit", "sha256", "estimator"}


@dataclass(frozen=True)
class BatchLine:
    """A line that is done: with its image, or with the sentences that say why there is none."""

    line: int  # its number in the file, from 1; of dicts, their place from 1
    key: str  # names what was asked, whatever the line's number; of lines that ask the same, the second's ends in -2
    image: GeneratedImage | None = None
    error: str | None = None
    reused: bool = False  # the gallery had it already


@dataclass(frozen=True)
class _ParsedLine:
    """A line that was read."""

    line: int
    values: Mapping[str, Any]
    mode: Mode
    request: GenerationRequest  # without its map
    key: str
    copied: bool  # it is an image's recipe, with what the service chose


def run(
    studio: Studio,
    source: Iterable[Any] | str | os.PathLike,
    *,
    seeds: Mapping[str, int] | None = None,
    on_route: Callable[[Mode, Route], None] | None = None,
    on_step: OnStep | None = None,
    on_status: OnStatus | None = None,
) -> Iterator[BatchLine]:
    """Generate every line, those of one mode after each other. The file is read before this returns.

    Images that the gallery has are not generated again; ``seeds`` has those that lines without one were given before, by ``BatchLine.key``.
    ``on_route`` is told where a mode runs before its first line does.
    Raises InvalidRequest for a file that cannot be read, and, while it runs, when no image can be kept any more.
    """
    folder = expanded(source).parent if isinstance(source, str | os.PathLike) else Path()
    folder = folder.absolute()  # the caller may go elsewhere between two lines
    if not isinstance(source, Iterable | os.PathLike) or isinstance(source, Mapping | bytes):
        raise InvalidRequest(f"{shortened(source)} is not a list of requests. Give the path of a file, or a list of dicts.")
    if not isinstance(seeds, Mapping | None):
        raise InvalidRequest(f"{shortened(seeds)} gives no seeds. Give a dict of the seeds by BatchLine.key.")
    rows = list(read(source) if isinstance(source, str | os.PathLike) else enumerate(source, 1))
    return _run(studio, rows, folder, seeds or {}, on_route or (lambda mode, route: None), on_step, on_status)


def _run(
    studio: Studio,
    rows: list[tuple[int, Any]],
    folder: Path,
    seeds: Mapping[str, int],
    on_route: Callable[[Mode, Route], None],
    on_step: OnStep | None,
    on_status: OnStatus | None,
) -> Iterator[BatchLine]:
    asks: list[_ParsedLine] = []
    same: Counter[str] = Counter()
    for line, row in rows:
        try:
            ask = _parse_line(line, row)
            same[ask.key] += 1
            asks.append(replace(ask, key=f"{ask.key}-{same[ask.key]}") if same[ask.key] > 1 else ask)
        except FluxDemoError as error:
            yield BatchLine(line, _key(row), error=str(error))
    modes = list(dict.fromkeys(ask.mode.name for ask in asks))
    finished = Finished(studio.gallery.folder)
    asks.sort(key=lambda ask: modes.index(ask.mode.name))
    for ask in asks:
        studio.gallery.check(ask.request.size.pixels if ask.request.size else 0)  # a full disk ends the list, not one line after the other
        try:
            if ask.mode.name in modes:
                on_route(ask.mode, studio.route(ask.mode.name))
                modes.remove(ask.mode.name)
            yield _done(studio, ask, folder, seeds, finished, on_step, on_status)
        except FluxDemoError as error:
            yield BatchLine(ask.line, ask.key, error=str(error))


def _done(
    studio: Studio,
    ask: _ParsedLine,
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
    if ask.copied and not route.dials.presets:
        request = replace(request, preset=None)  # the service chose it
    control = _map(studio, ask, folder)
    if control is not None:
        request = replace(request, control=control, size=control.size)
    whole = route.dials.complete(request)
    model = route.backend.model_name(ask.mode)
    for name, here in (("backend", route.backend.name), ("model", model)):
        wanted = ask.values.get(name)
        if wanted not in (None, here) and here is not None:  # some services name their model only in the answer
            raise InvalidRequest(
                f"The line names the {name} {str(wanted)[:80]!r}, but {here} would run here. Remove {name} from the line, or run it there."
            )
    if (image := finished.find(whole, route)) is not None:
        return BatchLine(ask.line, ask.key, image, reused=True)
    image = studio.generate(request, on_step, on_status)
    finished.add(image)
    return BatchLine(ask.line, ask.key, image)


def _map(studio: Studio, ask: _ParsedLine, folder: Path) -> ControlMap | None:
    """The map of a line, from its photo or ready-made. A photo's path starts at the list's folder."""
    values, control = ask.values, ask.mode.control
    if control is None:
        return None
    if values.get("sample") is not None:
        return None
    size: Size | str = ask.request.size or MATCH
    refuse_address(str(values.get("map") or values.get("photo") or ""))  # before it becomes a name in the list's folder
    if values.get("map") is not None:
        drawn = studio.as_map(ask.mode.name, folder / expanded(values["map"]), size, values.get("fit") or "crop")
    elif values.get("photo") is not None:
        options = {option.name: values[option.name] for option in control.options if option.name in values}
        drawn = studio.preview(ask.mode.name, folder / expanded(values["photo"]), size, values.get("fit") or "crop", **options)
    else:
        raise InvalidRequest(
            f"The line has no photo, and the {ask.mode.name} mode follows one. Add its path as photo, or a ready-made map as map."
        )
    if values.get("sha256") == drawn.sha256:
        return drawn
    if drawn.estimator and values.get("control.estimator") not in (None, drawn.estimator):
        raise InvalidRequest(
            f"The depth of the line's map was estimated by {shortened(values['control.estimator'])}, and here {drawn.estimator} estimates it. "
            "Set FLUX_DEMO_DEPTH_ESTIMATOR to that model, or take control out of the line."
        )
    if values.get("sha256") is not None:
        what = "photo, drawn with the line's size and options, gives" if values.get("map") is None else "map, at the line's size, is"
        raise InvalidRequest(
            f"The {what} another map than the one in the line's recipe. Correct the line, or remove sha256 from its control."
        )
    return drawn


def _parse_line(line: int, row: Any) -> _ParsedLine:
    if isinstance(row, InvalidRequest):
        raise row
    if not isinstance(row, Mapping):
        raise InvalidRequest('The line is not an object with fields. Write it as {"mode": "text", "prompt": "a red cube"}.')
    values = _flat(row)
    if values.get("mode") is None:
        raise InvalidRequest("The line does not say its mode. Add mode: text, canny or depth.")
    for name in TEXTS:
        if not isinstance(values.get(name, ""), str):
            raise InvalidRequest(f"The field {name} takes text, and it is {shortened(values[name])}. Write it in quotes.")
    mode = find_mode(values["mode"])
    _check_names(mode, values)
    seed = values.get("seed")
    return _ParsedLine(
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
        _key(values),
        "version" in row,
    )


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that ask for something; a recipe's control is flattened into them."""
    values = {str(name): _value(name, value) for name, value in row.items() if name not in IGNORED_FIELDS}
    values = {name: value for name, value in values.items() if value is not None}
    control = values.pop("control", None)
    if control is None:
        return values
    if not isinstance(control, Mapping) or set(control) - OF_CONTROL or not isinstance(control.get("options", {}), Mapping):
        raise InvalidRequest("The field control is not a recipe's. Write the map's options beside the others, as low and high.")
    kept = {"control.kind": control.get("kind"), "sha256": control.get("sha256")}
    if values.get("map") is None:  # a ready-made map is followed as it is, however it was drawn
        if control.get("options", {}).get(PAINTED):
            raise InvalidRequest("The line's map was painted by hand, so no photo gives it. Give the map itself as map.")
        kept |= {"control.estimator": control.get("estimator"), "fit": control.get("fit"), **control.get("options", {})}
    return {name: value for name, value in kept.items() if value is not None} | values


def _value(name: Any, value: Any) -> Any:
    """A field as JSON would have it: paths and sizes as text, and of a table's rows neither NaN for an empty cell nor 7.0 for 7."""
    value = python_number(value)
    if isinstance(value, str) and not value.strip():  # in CSV, an empty cell
        return None
    if isinstance(value, os.PathLike | Size):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return int(value) if isinstance(value, float) and name in WHOLE and value.is_integer() else value


def _check_names(mode: Mode, values: Mapping[str, Any]) -> None:
    options = {option.name for option in mode.control.options} if mode.control else set()
    for name in ({*NUMBERS, *options} - {"sample"}) & set(values):
        if isinstance(values[name], str) and NUMBER.fullmatch(values[name]):
            raise InvalidRequest(f"The field {name} takes a number, and it is the text {shortened(values[name])}. Write it without quotes.")
    known = {*TEXTS, *NUMBERS, "seed", "model", "backend", *options} | OF_A_MAP
    known -= OF_A_MAP if mode.control is None else set()
    for name in values:
        if name not in known | OF_A_MAP:
            raise InvalidRequest(
                f"{name[:40]!r} is not a field of the {mode.name} mode. The fields are {', '.join(sorted(known - OF_A_RECIPE))}."
            )
        if name not in known:
            raise InvalidRequest(f"The {mode.name} mode does not follow a map, and the line has {name}. Take it out, or name another mode.")
    if mode.control:
        if (kind := values.get("control.kind", mode.control.kind)) != mode.control.kind:
            raise InvalidRequest(
                f"The line's map is of the kind {shortened(kind)}, and the {mode.name} mode follows {mode.control.kind}. Name another mode."
            )
        mode.control.complete({name: value for name, value in values.items() if name in options})
    if type(values.get("sample", 0)) is not int:
        raise InvalidRequest(
            f"The field sample takes a whole number, and it is {shortened(values['sample'])}. Give the number of a sample image."
        )
    if "sample" in values and (clash := sorted({"photo", "map", "fit", *options} & set(values))):
        raise InvalidRequest(f"A sample image is followed as it is, and the line has {clash[0]} too. Leave one of them out.")
    if values.get("size") == MATCH and (mode.control is None or "sample" in values):
        raise InvalidRequest("The line has no photo whose shape the size could match. Give size as WIDTHxHEIGHT, or leave it out.")
    if values.get("map") is not None and (clash := sorted({"photo", *options} & set(values))):
        raise InvalidRequest(f"A ready-made map is followed as it is, and the line has {clash[0]} too. Leave one of them out.")


def _size(values: Mapping[str, Any]) -> Size | None:
    sides = values.get("width"), values.get("height")
    if sides == (None, None):
        size = parse_size(values.get("size"))
        return size if isinstance(size, Size) else None
    if "size" in values or None in sides:
        raise InvalidRequest("The size is incomplete, or given twice. Write width and height, or size as WIDTHxHEIGHT.")
    return Size(*sides)  # type: ignore[arg-type]


def _key(values: Any) -> str:
    """A short name of what a line asks."""
    try:
        text = json.dumps(values, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):  # a dict that is not JSON's, which is refused
        text = repr(values)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
