"""A run that was stopped leaves a partial image. It is in no history, and outlives a reload, until it is kept or another run has ended."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from flux_demo.errors import InvalidPicture
from flux_demo.gallery import ORIGIN, write_png
from flux_demo.modes import find_mode
from flux_demo.progress import Step
from flux_demo.recipe import CHUNK, PARAMETERS, read_recipe, recipe_of
from flux_demo.request import BackendOutput
from flux_demo.studio import Studio
from flux_demo.ui.files import ShownMap, new_file, served_again
from flux_demo.ui.history import Entry, History, map_beside
from flux_demo.ui.run import Run
from flux_demo.ui.visitor_store import VisitorStore
from flux_demo.version import VERSION


def partial_entry(studio: Studio, run: Run, step: Step, shown: ShownMap | None) -> Entry:
    """The last preview at the image's size, with a recipe that says where the run was stopped."""
    request, preview = run.request, step.preview
    route = studio.route(request.mode)
    backend = route.backend
    assert preview and request.size
    image = preview.convert("RGB").resize((request.size.width, request.size.height), resample=3)  # bicubic
    # Only the default preset is sure to be the one that ran: an image for which another was asked may be made without it.
    preset = request.preset if request.preset in route.dials.presets[:1] else None
    drawn = BackendOutput(image, backend.model_name(find_mode(request.mode)) or backend.title, preset)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    recipe = recipe_of(request, drawn, backend.name, run.seconds, now, VERSION, stopped_at=step.done)
    recipe = replace(recipe, preset_asked=None if preset else request.preset)
    path = new_file(f"{request.mode}-{request.seed}-partial.png")
    with path.open("wb") as file:
        write_png(image, file, {CHUNK: recipe.to_json(), PARAMETERS: recipe.parameters()} | ORIGIN)
    return Entry(str(path), recipe, backend.title, shown, shown.drawn_from.photo if shown else None)


def remember(visitors: VisitorStore, visitor: str, mode: str, partial: Entry) -> None:
    """Keep it for a reload. A full disk is no reason to withhold it now."""
    with suppress(OSError):
        visitors.save_record(visitor, _name(mode), {"path": partial.path})
        visitors.keep_file(visitor, _name(mode), Path(partial.path))
        visitors.keep_file(visitor, _name_of_map(mode), Path(partial.shown.path) if partial.shown else None)


def remember_unwatched(studio: Studio, visitors: VisitorStore, visitor: str, run: Run) -> None:
    """Keep the partial image of a run that was ended because nobody looked."""
    if run.unwatched and (step := run.stopped_at) and step.preview:
        with suppress(OSError):
            remember(visitors, visitor, run.tab, partial_entry(studio, run, step, run.maps.get(run.request.mode)))


def forget(visitors: VisitorStore, visitor: str, mode: str) -> None:
    """It was kept, or something newer takes its place."""
    with suppress(OSError):
        if visitors.record(visitor, _name(mode)):
            visitors.save_record(visitor, _name(mode), {})
            visitors.keep_file(visitor, _name(mode), None)
            visitors.keep_file(visitor, _name_of_map(mode), None)


def partial_before(history: History, visitor: str, mode: str) -> Entry | None:
    """The partial image that an earlier page of this visitor showed in the mode's tab."""
    with suppress(OSError, InvalidPicture):
        path = served_again(history.visitors.record(visitor, _name(mode)).get("path"), history.visitors.file(visitor, _name(mode)))
        if path:
            recipe = read_recipe(path)
            shown = map_beside(recipe, history.visitors.file(visitor, _name_of_map(mode)))
            return Entry(path, recipe, history.titles.get(recipe.backend, recipe.backend), shown)
    return None


def _name(mode: str) -> str:
    return f"partial-{mode}"


def _name_of_map(mode: str) -> str:
    return f"{_name(mode)}-map"
