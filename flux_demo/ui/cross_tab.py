"""What one tab does to another: restoring, sending an image on, going back in the history, updating after a fetch.

Components of all tabs are named mode__component here.
"""

from typing import Any

import gradio as gr

from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.events import Form, bind
from flux_demo.ui.fetch import every_tab, fetch_handler
from flux_demo.ui.generate import ended
from flux_demo.ui.history import Entry, actions, displayed
from flux_demo.ui.restore import across, opened
from flux_demo.ui.tab_state import tab_state

FORM = ("prompt", "seed", "steps", "guidance", "size", "preset", "sample", "fit", "as_map", "photo")
SHOWN = ("tabs", "restore_note", "status", "map", "shown", "wanted", "map_note", "picture", "caption", "last")


def restored() -> set[str]:
    """The components that a restored recipe fills in."""
    options = {option.name for mode in MODES.values() if mode.control for option in mode.control.options}
    return {*FORM, *SHOWN, *actions(), *options}


def bind_end(run: Any, form: Form) -> None:
    """Bring a tab to rest after a run that was stopped or cut off."""
    for end in (run.then, run.failure):
        bind(end, ended, form, ["status", "picture", "run", "stop", "run_state"], queue=False)


def bind_across(studio: Studio, forms: dict[str, Form], everywhere: Form, page: gr.Blocks) -> None:
    """Bind what reaches over the borders of a tab."""
    flat = everywhere | {
        f"{mode}__{name}": part for mode, form in forms.items() for name, part in form.items() if name not in ("chips", "example_paths")
    }
    values = [name for name in flat if name.rpartition("__")[2] in restored()]

    def dropped_in(*, dropped: Any, history: list[Entry]) -> dict[str, Any]:
        try:
            return across(studio, opened(dropped), history)
        except Exception as error:
            return {"restore_note": html.says(html.sentence(error), "problem")}

    bind([everywhere["dropped"].upload], dropped_in, flat, values)
    _bind_history(flat)
    built = _tab_states(studio)
    depends_on_routes = [f"{mode}__{name}" for mode, state in built.items() for name in state]
    for mode, form in forms.items():
        _bind_back(studio, mode, flat, values)
        for other in MODES.values():
            if other.control:
                _bind_send(mode, other, flat)
        if form.get("example_paths"):
            _bind_example_photos(form)
        fetching = bind(
            [form["fetch"].click],
            fetch_handler(studio, MODES[mode]),
            flat,
            [*depends_on_routes, f"{mode}__status", f"{mode}__run_state"],
            concurrency_id="fetch",
            concurrency_limit=1,
        )
        gr.on([form["stop"].click], None, None, None, cancels=[fetching], api_visibility="private")
        bind_end(fetching, form)

    def update() -> dict[str, Any]:
        return {} if built == _tab_states(studio) else every_tab(studio)

    bind([page.load], update, flat, depends_on_routes, queue=False)


def _tab_states(studio: Studio) -> dict[str, dict[str, Any]]:
    return {mode.name: tab_state(studio, mode) for mode in MODES.values()}


def _bind_history(flat: Form) -> None:
    names = [name for name in flat if name.rpartition("__")[2] in {"picture", "caption", "last", *actions()}] + ["tabs"]

    def show(history: list[Entry], event: gr.SelectData) -> list[Any]:
        entry = history[event.index] if isinstance(event.index, int) and 0 <= event.index < len(history) else None
        answer: dict[str, Any] = {}
        if entry:
            answer = {f"{entry.recipe.mode}__{name}": value for name, value in displayed(entry).items()}
            answer["tabs"] = gr.Tabs(selected=entry.recipe.mode)
        return [answer.get(name, gr.skip()) for name in names]

    flat["gallery"].select(
        show, [flat["history"]], [flat[name] for name in names], queue=False, show_progress="hidden", api_visibility="private"
    )


def _bind_back(studio: Studio, mode: str, flat: Form, values: list[str]) -> None:
    form = {"entry": flat[f"{mode}__last"]} | flat

    def back(*, entry: Entry | None, history: list[Entry]) -> dict[str, Any]:
        return across(studio, entry, history) if entry else {}

    bind([flat[f"{mode}__again"].click], back, form, values)


def _bind_send(mode: str, other: Mode, flat: Form) -> None:
    form = {"entry": flat[f"{mode}__last"]} | flat
    photo = f"{other.name}__photo"

    def send(*, entry: Entry | None) -> dict[str, Any]:
        if entry is None:
            return {}
        return {photo: entry.path, f"{other.name}__as_map": False, f"{other.name}__wanted": None, "tabs": gr.Tabs(selected=other.name)}

    bind(
        [flat[f"{mode}__send_{other.name}"].click],
        send,
        form,
        [photo, f"{other.name}__as_map", f"{other.name}__wanted", "tabs"],
        queue=False,
    )


def _bind_example_photos(form: Form) -> None:
    paths = form["example_paths"]

    def choose(event: gr.SelectData) -> tuple[str, None]:
        return paths[event.index], None

    form["example_photos"].select(
        choose, None, [form["photo"], form["wanted"]], queue=False, show_progress="hidden", api_visibility="private"
    )
