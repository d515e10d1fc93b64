"""A grid of images: planned and checked as a whole, then generated cell by cell. A loop over it can stop, and go on another day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_demo.backends import Route, all_backends
from flux_demo.backends.control_checks import only_samples_error
from flux_demo.errors import BackendUnavailable, FluxDemoError, InvalidRequest, shortened
from flux_demo.experiments.cells import ASK_ABOVE, Cell, CellsRefused, GridRequest, axes_of, count, plan, running_order, with_map
from flux_demo.experiments.finished import Finished
from flux_demo.experiments.sheet import Tile, sheets
from flux_demo.gallery import GeneratedImage
from flux_demo.modes import MATCH, Mode
from flux_demo.progress import OnStatus, OnStep
from flux_demo.reading import parse_size
from flux_demo.request import ControlMap, GenerationRequest, Size

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.studio import Studio

KEPT_MAPS = 64  # about 3 MB each; the others are drawn again when their cell runs


@dataclass(frozen=True)
class GridCell:
    """A cell that is finished: with its image, or with the sentences that say why there is none."""

    number: int
    values: Mapping[str, Any]  # what the axes say here
    index: tuple[int, ...]  # index on each axis
    image: GeneratedImage | None
    error: str | None = None
    reused: bool = False  # the gallery had it already


class Grid:
    """A planned grid. Iterating generates what the gallery does not have, and yields every cell as it is finished; once."""

    def __init__(
        self,
        studio: Studio,
        request: GridRequest,
        vary: Any,
        photo: Any,
        given: Sequence[str],
        limit: int | None,
        on_step: OnStep | None,
        on_status: OnStatus | None,
    ) -> None:
        self.axes, self.request = axes_of(request, vary, given)
        count(self.axes, limit)
        self._studios = _Studios(studio, request.mode.name)
        self._photo = _opened(request, photo)
        self.cells = plan(self.request, self.axes, self._sized, self._complete)
        self._maps: dict[tuple, ControlMap] = {}
        self._check_maps()
        self._finished = Finished(studio.gallery.folder)
        self.results: dict[tuple[int, ...], GridCell] = {}
        self.running: Cell | None = None  # the cell that is being generated
        self._on_step, self._on_status = on_step, on_status

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[GridCell]:
        """Every cell in the order it runs; first those that are there already. A cell that fails is yielded with its error, and the rest goes on.

        Raises BackendUnavailable when nothing can run any more, and InvalidRequest when no image can be kept any more.
        """
        try:
            waiting = []
            for cell in running_order(self.cells):
                if (image := self._there(cell)) is not None:
                    yield self._done(cell, image, reused=True)
                else:
                    waiting.append(cell)
            for cell in waiting:
                yield self._generated(cell)
        finally:
            self.running = None
            self._studios.close()

    def sheets(self, maps: bool = False) -> Iterator[Image]:
        """The labelled sheets of what is finished so far, one or, with a third axis, several; ``maps`` puts each cell's map under it."""
        maps = maps and self.request.mode.control is not None
        tiles = {cell.index: self._tile(cell, self.results[cell.index], maps) for cell in self.cells if cell.index in self.results}
        return sheets(self.axes, tiles, self.title, maps)

    @property
    def routes(self) -> list[Route]:
        """Where the cells run, each place once: cells with a model of their own have a route of their own."""
        routes = [self._studios.of(model).route(self.request.mode.name) for model in dict.fromkeys(cell.model for cell in self.cells)]
        return list({route.backend.title: route for route in routes}.values())

    @property
    def title(self) -> str:
        """What all cells share, in a line."""
        request = self.cells[0].request
        varied = {axis.name for axis in self.axes}
        shared = {"seed": request.seed, "steps": request.steps, "guidance": f"{request.guidance:g}", "size": request.size}
        parts = [axis.template for axis in self.axes if axis.template] if "prompt" in varied else [request.prompt]
        parts.append(", ".join(f"{name} {value}" for name, value in shared.items() if name not in varied))
        return f"{self.request.mode.title}: {' · '.join(part for part in parts if part)}"

    def work(self, cell: Cell) -> int:
        """What a cell costs compared with the others: steps times pixels."""
        request = cell.request
        return (request.steps or 1) * (request.size.pixels if request.size else 1)

    def _generated(self, cell: Cell) -> GridCell:
        self.running = cell
        studio = self._studios.of(cell.model, running=True)
        studio.gallery.check(
            cell.request.size.pixels if cell.request.size else 0
        )  # a full disk ends the grid, not one cell after the other
        try:
            image = studio.generate(with_map(cell, self._map(cell)), self._on_step, self._on_status)
        except BackendUnavailable:  # nothing can run here any more
            raise
        except FluxDemoError as error:
            return self._done(cell, None, error=str(error))
        self._finished.add(image)
        return self._done(cell, image)

    def _done(self, cell: Cell, image: GeneratedImage | None, error: str | None = None, reused: bool = False) -> GridCell:
        result = GridCell(cell.number, cell.values, cell.index, image, error, reused)
        self.results[cell.index] = result
        return result

    def _tile(self, cell: Cell, result: GridCell, maps: bool) -> Tile:
        """A cell on its sheet. Its file and its map are read when it is placed."""
        done, size = result.image, cell.request.size
        assert size is not None

        def drawn() -> Image:
            control = self._map(cell)
            assert control is not None
            return control.image

        return Tile((lambda: done.image) if done else None, (size.width, size.height), drawn if maps else None, result.error or "")

    def _there(self, cell: Cell) -> GeneratedImage | None:
        route = self._studios.of(cell.model).route(cell.request.mode)
        return self._finished.find(with_map(cell, self._map(cell)), route)

    def _sized(self, size: Size | str | None, model: str | None) -> Size | None:
        """The size of a cell: a map's follows the photo where none is named."""
        studio = self._studios.of(model)
        size = parse_size(size, self.request.mode, studio.route(self.request.mode.name).dials.size_limits)
        if self._photo is not None and size in (None, MATCH):
            return studio.matching_size(self.request.mode.name, self._photo, as_map=self.request.as_map)
        return size if isinstance(size, Size) else None

    def _complete(self, request: GenerationRequest, model: str | None) -> GenerationRequest:
        route = self._studios.of(model).route(request.mode)
        if self.request.mode.control and not route.dials.own_photos:
            raise only_samples_error(route)
        return route.dials.complete(request)

    def _check_maps(self) -> None:
        """Draw every map once, so that what a map refuses is said before the first cell runs."""
        refusals = []
        refused: dict[tuple, str | None] = {}
        for cell in self.cells if self.request.mode.control else ():
            if cell.map_key not in refused:
                try:
                    self._map(cell)
                    refused[cell.map_key] = None
                except FluxDemoError as error:
                    refused[cell.map_key] = str(error)
            if sentence := refused[cell.map_key]:
                refusals.append((cell.number, sentence))
        if refusals:
            raise CellsRefused(refusals, len(self.cells))

    def _map(self, cell: Cell) -> ControlMap | None:
        if self._photo is None:
            return None
        if cell.map_key not in self._maps:
            size, fit, options = cell.map_key
            studio, mode = self._studios.of(None), self.request.mode.name
            drawn = (
                studio.as_map(mode, self._photo, size, fit)
                if self.request.as_map
                else studio.preview(mode, self._photo, size, fit, **dict(options))
            )
            if len(self._maps) >= KEPT_MAPS:
                del self._maps[next(iter(self._maps))]
            self._maps[cell.map_key] = drawn
        return self._maps[cell.map_key]


class _Studios:
    """The studio, and one for each other model that a grid names: these run on this machine's own FLUX, one in memory at a time."""

    def __init__(self, studio: Studio, mode: str) -> None:
        self._own, self._mode = studio, mode
        self._others: dict[str, Studio] = {}
        self._in_memory: str | None = None

    def of(self, model: str | None, running: bool = False) -> Studio:
        if model is None:
            return self._own
        settings = self._own.settings
        if settings.backend not in ("auto", "local"):
            raise InvalidRequest(
                f"The {settings.backend} backend has one model for the {self._mode} mode. Vary the model with --backend local."
            )
        if model not in self._others:
            models = {**settings.models, self._mode: model}
            settings = replace(settings, backend="local", models=models)
            self._others[model] = type(self._own)(settings, all_backends(settings), self._own.gallery)
        if running and self._in_memory not in (None, model):
            self._others[self._in_memory].close()
        self._in_memory = model if running else self._in_memory
        return self._others[model]

    def close(self) -> None:
        for studio in self._others.values():
            studio.close()


def _opened(request: GridRequest, photo: Any) -> Image | None:
    """The photo in memory, so that a file that goes away does not end the grid."""
    if request.mode.control is None:
        if photo is not None:
            raise InvalidRequest(f"The {request.mode.name} mode does not follow a photo. Leave the photo out, or use another mode.")
        return None
    if photo is None:
        raise InvalidRequest(f"The {request.mode.name} mode follows a photo, and there is none. Give one after the mode.")
    from flux_demo.maps.photo import open_photo

    return open_photo(Path(photo) if isinstance(photo, str) else photo)


def plan_grid(
    studio: Studio,
    mode: Mode,
    prompt: str | None,
    vary: Any,
    photo: Any = None,
    *,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    size: Size | str | None = None,
    preset: str | None = None,
    fit: str | None = None,
    as_map: bool = False,
    limit: int | None = ASK_ABOVE,
    on_step: OnStep | None = None,
    on_status: OnStatus | None = None,
    **options: float | bool,
) -> Grid:
    """The grid that ``Studio.grid`` returns. Without a seed all cells get one random seed; ``limit`` is the most cells, None any number;
    ``options`` are those of the mode's map. Raises InvalidRequest, BackendUnavailable.
    """
    chosen = {"seed": seed, "steps": steps, "guidance": guidance, "size": size, "preset": preset, "fit": fit, "prompt": prompt, **options}
    given = [name for name, value in chosen.items() if value is not None]
    if mode.control is None and (fit or as_map or options):
        named = next(iter(options), "fit" if fit else "as_map")
        raise InvalidRequest(
            f"The {mode.name} mode has no setting {shortened(named)}, and it does not follow a map. "
            "Correct the name, leave it out, or use another mode."
        )
    request = GridRequest(mode, prompt, seed, steps, guidance, size, preset, fit or "crop", options, as_map)
    return Grid(studio, request, vary, photo, given, limit, on_step, on_status)
