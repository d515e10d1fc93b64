"""What one tab does to another: restoring, going back to an image's settings, updating after a fetch.

Components of all tabs are named mode__component here.
"""

from collections.abc import Collection
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidPicture
from flux_demo.maps.photo import open_photo
from flux_demo.modes import MODES, Mode
from flux_demo.recipe import NoRecipe
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.events import Form, bind, in_tab
from flux_demo.ui.fetch import SETTINGS, check_handler, fetch_handler, tab_states, tabs_after_route_change
from flux_demo.ui.files import received, still_kept
from flux_demo.ui.generate import BUSY, RUN_COMPONENTS, follow_after_close_handler
from flux_demo.ui.history import Entry, actions, image_components
from flux_demo.ui.history_events import bind_history
from flux_demo.ui.image_heading import still_meanwhile
from flux_demo.ui.map_views import VIEW_COMPONENTS
from flux_demo.ui.restore import entry_from_file, from_other_program, page_updates
from flux_demo.ui.services import Services
from flux_demo.ui.tab_state import takes_photos
from flux_demo.ui.thumbs import at_address, bind_choice
from flux_demo.ui.translation import in_language, language, page_languages

FORM = ("prompt", "seed", "steps", "guidance", "size", "preset", "sample", "fit", "as_map", "photo")
STATES = (  # what a tab has, and a restored recipe may keep
    *(f"{mode.name}__photo" for mode in MODES.values() if mode.control),
    *(f"{mode}__run_state" for mode in MODES),
)
SHOWN = ("tabs", "restore_note", "status", "run_state", *VIEW_COMPONENTS, "view", "shown", "recipe_map_sha256", "map_note")
OF_ANOTHER_PROGRAM = "This image has settings from another program. Use them, or use the image as a photo?"
NO_SETTINGS = "No flux_demo settings in this file. Use it as a photo?"
ONLY_SETTINGS = "This image has settings from another program. Use them?"
OF_NO_USE = "No flux_demo settings in this file, and no tab here follows your own photos."
REST_IS_KEPT = "Stopped. What is already downloaded is kept; the next fetch goes on from there."
NO_LONGER_KEPT = "The file is no longer kept. Drop it again."


def restored_components() -> set[str]:
    """The components that a restored recipe fills in."""
    options = {option.name for mode in MODES.values() if mode.control for option in mode.control.options}
    return {*FORM, *SHOWN, *image_components(), *options}


def bind_follow_after_close(services: Services, mode: Mode, run: Any, form: Form) -> None:
    """Follow a run whose stream was closed before its end was shown."""
    for end in (run.then, run.failure):
        bind(end, follow_after_close_handler(services, mode), form, [*RUN_COMPONENTS, *actions()])


def bind_cross_tab(services: Services, forms: dict[str, Form], page_form: Form, page_opened: Any) -> None:
    """Bind what reaches over the borders of a tab; ``page_opened`` is the event after which a page that opens has its form back."""
    studio = services.studio
    flat = page_form | {
        f"{mode}__{name}": part for mode, form in forms.items() for name, part in form.items() if name not in ("example_paths", "ratios")
    }
    values = [name for name in flat if name.rpartition("__")[2] in restored_components()]

    quiet = {f"{mode}__status": html.says("") for mode in MODES}  # what was said about an earlier file

    def dropped_in(*, dropped: Any, visitor: Any, history: list[Entry], **states: Any) -> dict[str, Any]:
        try:
            entry = entry_from_file(dropped, services.history.titles)
            entry = next((each for each in history if each.recipe == entry.recipe), entry)
            return _restored(services, visitor, entry, history, states)
        except NoRecipe:
            return quiet | _offered(studio, dropped)
        except Exception as error:
            return quiet | {"restore_note": html.says(html.sentence(error), "problem"), **_offers()}

    bind([page_form["dropped"].upload], dropped_in, flat, [*values, "offered", *_offers()], STATES, trigger_mode="always_last")
    _bind_note(studio, flat, values)
    for follows_photo in (mode for mode in MODES.values() if mode.control):
        _bind_offer(follows_photo, flat)
    bind_history(services, flat)
    built = {}
    for each in page_languages():
        with in_language(each):
            built[each] = tab_states(studio)
    depends_on_routes = [f"{mode}__{name}" for mode, state in built[""].items() for name in state]

    def update(**fields: Any) -> dict[str, Any]:
        """The tabs as the routes are now. Where they are as they were, only what the page that was sent to everybody says in English."""
        now, before = tab_states(studio), built[language()]
        if now != before:
            return tabs_after_route_change(studio, before, fields)
        return {
            f"{mode}__{name}": gr.update(**properties)
            for mode, state in now.items()
            for name, properties in state.items()
            if properties != built[""][mode][name] and not (name == "where" and state["run"]["visible"])  # which loading.py says
        }

    settings = tuple(f"{mode}__{name}" for mode in MODES for name in SETTINGS)
    ready = [page_opened]
    for mode, form in forms.items():
        _bind_back(services, mode, flat, values)
        for name, paths in form.get("example_paths", {}).items():
            _bind_example_photos(page_form | form, form[name], paths)
        fetching = bind(
            [form["fetch"].click],
            fetch_handler(studio, MODES[mode]),
            flat,
            [*depends_on_routes, f"{mode}__status", f"{mode}__run_state"],
            concurrency_id="fetch",
            concurrency_limit=1,
        )
        gr.on([form["stop"].click], None, None, None, cancels=[fetching], api_visibility="private")
        _bind_fetch_end(fetching, form)
        ready.append(fetching)
    for event in ready:
        bind(event.then, update, flat, depends_on_routes, settings, queue=False)
    statuses = [f"{mode}__status" for mode in MODES]
    run_states = [f"{mode}__run_state" for mode in MODES]
    bind([page_form["check_again"].click], check_handler(studio), flat, [*depends_on_routes, *statuses], (*settings, *run_states))


def _offers(photo_in: Collection[str] = (), settings: bool = False) -> dict[str, Any]:
    """The buttons of the note about a dropped file: to use it as a photo in some modes, and to use another program's settings."""
    offers = {f"offer_{mode.name}": gr.update(visible=mode.name in photo_in) for mode in MODES.values() if mode.control}
    return offers | {"offer_settings": gr.update(visible=settings)}


def _offered(studio: Studio, dropped: Any) -> dict[str, Any]:
    """What can be done with a file that has no recipe; if it is not an image, why it cannot be opened."""
    try:
        open_photo(received(dropped))
    except InvalidPicture as error:
        return {"restore_note": html.says(error.text, "problem"), "offered": None} | _offers()
    foreign = bool(from_other_program(studio, dropped))
    modes = [mode.name for mode in MODES.values() if mode.control and takes_photos(studio, mode)]
    if modes:
        note = html.says(OF_ANOTHER_PROGRAM if foreign else NO_SETTINGS, "problem")
    else:
        note = html.says(ONLY_SETTINGS if foreign else OF_NO_USE, "problem")
    return {"restore_note": note, "offered": str(received(dropped))} | _offers(modes, foreign)


def _bind_note(studio: Studio, flat: Form, values: list[str]) -> None:
    """The note's own buttons."""

    def use_settings(*, offered: str | None, run_state: Any) -> dict[str, Any]:
        if not still_kept(offered):
            return {"restore_note": html.says(NO_LONGER_KEPT, "problem")}
        return from_other_program(studio, offered, run_state) | {"offered": None} | _offers()

    form = flat | {"run_state": flat["text__run_state"]}
    bind([flat["offer_settings"].click], use_settings, form, [*values, "offered", *_offers()], queue=False)
    gr.on([flat["close_note"].click], None, None, flat["restore_note"], js=f"() => {html.says('')!r}", api_visibility="private")


def _bind_offer(mode: Mode, flat: Form) -> None:
    """The button that makes an image without settings a tab's photo."""
    photo, as_map, recipe_map_sha256 = (f"{mode.name}__{name}" for name in ("photo", "as_map", "recipe_map_sha256"))

    def use(*, offered: str | None) -> dict[str, Any]:
        if not still_kept(offered):
            return {"restore_note": html.says(NO_LONGER_KEPT, "problem")}
        taken = {photo: offered, as_map: False, recipe_map_sha256: None, "offered": None, "restore_note": html.says("")}
        return taken | _offers() | {"tabs": gr.Tabs(selected=mode.name)}

    outputs = [photo, as_map, recipe_map_sha256, "offered", "restore_note", "tabs", *_offers()]
    bind([flat[f"offer_{mode.name}"].click], use, flat, outputs, queue=False)


def _bind_fetch_end(fetching: Any, form: Form) -> None:
    """Bring a tab to rest after a download that was stopped or cut off."""

    def at_rest(*, run_state: Any) -> dict[str, Any]:
        if run_state not in BUSY:
            return {}
        return {"status": html.says(REST_IS_KEPT), "stop": gr.update(interactive=False), "run_state": "idle"}

    for end in (fetching.then, fetching.failure):
        bind(end, at_rest, form, ["status", "stop", "run_state"], queue=False)


def _bind_back(services: Services, mode: str, flat: Form, values: list[str]) -> None:
    form = {"entry": flat[f"{mode}__last"]} | flat

    def back(*, entry: Entry | None, visitor: Any, history: list[Entry], **states: Any) -> dict[str, Any]:
        return _restored(services, visitor, entry, history, states) if entry else {}

    bind([flat[f"{mode}__reuse_settings"].click], back, form, values, STATES)


def _restored(services: Services, visitor: Any, entry: Entry, history: list[Entry], states: dict[str, Any]) -> dict[str, Any]:
    """The page with an image and its settings in the image's own tab, where a run may be going on."""
    mode = entry.recipe.mode
    return page_updates(services.studio, entry, history, states) | in_tab(mode, still_meanwhile(services, visitor, mode))


def _bind_example_photos(form: Form, gallery: gr.Gallery, paths: list[str]) -> None:
    def choose(*, chosen: Any) -> dict[str, Any]:
        at = at_address(paths, chosen)
        return {} if at is None else {"photo": paths[at], "as_map": False}

    bind_choice(gallery, choose, form, ["photo", "as_map"])
