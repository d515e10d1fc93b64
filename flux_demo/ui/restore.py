"""An image that was generated here restores its tab: prompt, settings, and the map if this visitor still has it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.errors import FluxDemoError, InvalidPicture, InvalidRequest
from flux_demo.modes import MODES, Mode
from flux_demo.parameters import LEFT_OUT, NO_NEGATIVE_PROMPT, read_parameters
from flux_demo.recipe import PAINTED, read_recipe
from flux_demo.request import GenerationRequest, Size
from flux_demo.studio import Studio
from flux_demo.texts import Text, join_listed, join_sentences
from flux_demo.ui import html
from flux_demo.ui.events import in_tab
from flux_demo.ui.files import publish, received, still_kept
from flux_demo.ui.filling import usable_values
from flux_demo.ui.generate import with_status
from flux_demo.ui.history import Entry, image_updates
from flux_demo.ui.map_views import MAP, note_under, problem_under, view_updates
from flux_demo.ui.preview import draw, drawn_from, missing_photo_note, note_of
from flux_demo.ui.tab_state import find_route, takes_photos
from flux_demo.ui.translation import translate

RESTORED = "Settings restored."
MAP_LEFT_OUT = "Its map is left out: this service follows only its own sample images."
ELSEWHERE = "The image was generated elsewhere ({title}), so it will not come out the same."
PAINT_IS_GONE = "The image's map was painted on; the PNG does not store the paint."
PAINTING_IS_GONE = "This image followed a map that was painted on, and the PNG stores neither the photo nor the paint. Add the photo for its map without the paint."

FILLED_IN = "Filled in the settings that both programs share."


def entry_from_file(dropped: Any, titles: Mapping[str, str]) -> Entry:
    """A dropped file as an entry; ``titles`` are the backends' by their names. Raises InvalidPicture."""
    path = received(dropped)
    recipe = read_recipe(path)
    if recipe.mode not in MODES:
        why = "This image was generated in a mode that is not available here: {mode}. Enter its settings by hand."
        raise InvalidPicture(why, mode=repr(recipe.mode[:40]))
    return Entry(publish(path, "restored.png"), recipe, titles.get(recipe.backend, recipe.backend))


def tab_updates(studio: Studio, entry: Entry, history: Sequence[Entry], photo: Any = None, run_state: Any = None) -> dict[str, Any]:
    """The new values of the recipe's own tab, by component name; ``photo`` and ``run_state`` are what stands there."""
    recipe, mode = entry.recipe, MODES[entry.recipe.mode]
    values: dict[str, Any] = {
        "prompt": recipe.prompt,
        "seed": "" if recipe.seed is None else str(recipe.seed),
        "size": str(Size(recipe.width, recipe.height)),
        **with_status(html.says(_said(studio, mode, entry)), run_state),
    }
    values |= {name: value for name, value in (("steps", recipe.steps), ("guidance", recipe.guidance)) if value is not None}
    if recipe.preset in _presets(studio, mode):
        values["preset"] = recipe.preset
    if recipe.sample is not None:
        values["sample"] = recipe.sample
    if mode.control and recipe.control and takes_photos(studio, mode):
        values |= _map_of(studio, mode, entry, history, values["size"], photo)
    return values | image_updates(entry)


def _map_of(studio: Studio, mode: Mode, entry: Entry, history: Sequence[Entry], size: str, photo: Any) -> dict[str, Any]:
    """Map and photo from this visitor's own images where the hash is known; otherwise the map of the photo that stands there, compared with
    the recipe's. Without a photo, an empty panel that asks for it; a photo stays, also where no map can be drawn from it.
    """
    control = entry.recipe.control
    assert mode.control and control
    options = {option.name: control.options.get(option.name, option.default) for option in mode.control.options}
    fit, as_map = control.fit or "crop", not control.options.keys() & options.keys()
    form = {"fit": fit, "as_map": as_map, "view": MAP, **options}
    for known in (entry, *history):
        shown = known.shown
        if shown and shown.sha256 == control.sha256 and still_kept(shown.path):
            its_photo = still_kept(known.photo)
            if its_photo is None and photo:  # the one that stands there may be it: after a restart, nobody knows which it was
                with suppress(FluxDemoError):
                    if draw(studio, mode, drawn_from(mode, photo, size, fit, as_map, options)).sha256 == control.sha256:
                        its_photo = photo
            shown = replace(shown, drawn_from=drawn_from(mode, its_photo, size, fit, as_map, options), painted_on=None)
            map_shown = {"shown": shown, "recipe_map_sha256": control.sha256, "map_note": note_of(shown, control.sha256)}
            return form | view_updates(MAP, shown) | map_shown | {"photo": its_photo}
    painted = bool(control.options.get(PAINTED))
    recipe_map_sha256 = None if painted else control.sha256  # no photo gives a painted map again, so none is compared with it
    try:
        shown = draw(studio, mode, drawn_from(mode, photo, size, fit, as_map, options))
        note = note_under(shown, translate(PAINT_IS_GONE)) if painted else note_of(shown, recipe_map_sha256)
        return form | view_updates(MAP, shown) | {"shown": shown, "recipe_map_sha256": recipe_map_sha256, "map_note": note}
    except FluxDemoError as error:
        if still_kept(photo):  # it stays, and so does its copy on the disk
            return (
                form
                | view_updates(MAP, None)
                | {"shown": None, "recipe_map_sha256": recipe_map_sha256, "map_note": problem_under(None, error.text)}
            )
    note = html.says(PAINTING_IS_GONE) if painted else missing_photo_note(recipe_map_sha256)
    return form | view_updates(MAP, None) | {"photo": None, "shown": None, "recipe_map_sha256": recipe_map_sha256, "map_note": note}


def _said(studio: Studio, mode: Mode, entry: Entry) -> str:
    """Says that the settings are restored, and which of them cannot be run here."""
    recipe, route = entry.recipe, find_route(studio, mode)
    if not isinstance(route, Route):
        return RESTORED
    if recipe.control and not takes_photos(studio, mode):
        return join_sentences(Text(RESTORED), Text(MAP_LEFT_OUT))
    try:
        size = Size(recipe.width, recipe.height)
        route.dials.complete(GenerationRequest(mode.name, recipe.prompt, recipe.seed, recipe.steps, recipe.guidance, size))
    except InvalidRequest as error:
        return join_sentences(Text(RESTORED), error.text)
    same = route.backend.name == recipe.backend
    return join_sentences(Text(RESTORED), "" if same else Text(ELSEWHERE, title=Text(entry.title)))


def _presets(studio: Studio, mode: Mode) -> Sequence[str]:
    route = find_route(studio, mode)
    return route.dials.presets if isinstance(route, Route) else ()


def page_updates(studio: Studio, entry: Entry, history: Sequence[Entry], states: Mapping[str, Any]) -> dict[str, Any]:
    """``tab_updates`` for the whole page, names as mode__component, with the recipe's tab chosen; ``states`` are the tabs' photos and run states."""
    mode = entry.recipe.mode
    answer = in_tab(mode, tab_updates(studio, entry, history, states.get(f"{mode}__photo"), states.get(f"{mode}__run_state")))
    return answer | {"tabs": gr.Tabs(selected=mode), "restore_note": html.says("")}


def from_other_program(studio: Studio, dropped: Any, run_state: Any = None) -> dict[str, Any]:
    """What another program's PNG shares with the text tab's form, names as mode__component; empty if it says nothing."""
    try:
        shared = read_parameters(received(dropped))
    except InvalidPicture:
        return {}
    text = MODES["text"]
    parts = [Text(FILLED_IN)]
    given = {name: str(value) for name in ("prompt", "seed", "size", "steps", "guidance") if (value := getattr(shared, name)) is not None}
    values, wrong = usable_values(studio, text, given)
    wrong = [*(name.capitalize() for name in shared.unusable), *wrong]
    if shared.has_negative_prompt:
        parts.append(Text(NO_NEGATIVE_PROMPT))
    if wrong:
        parts.append(Text(LEFT_OUT, names=join_listed(map(Text, wrong))))
    values.setdefault("seed", "")
    values |= with_status(html.says(join_sentences(*parts)), run_state)
    return in_tab("text", values) | {"tabs": gr.Tabs(selected="text"), "restore_note": html.says("")}
