"""What one tab does to another: restoring, sending a picture on, going back in the history, dressing after a fetch.

Components of all tabs are named mode__component here.
"""

from typing import Any

import gradio as gr

from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.events import Form, bind
from flux_demo.ui.fetch import dressed, fetch_handler
from flux_demo.ui.generate import ENDED_JS, ended
from flux_demo.ui.history import ACTIONS, Entry, displayed
from flux_demo.ui.restore import across, opened
from flux_demo.ui.tab_state import looks

RESTORED = {
    *("tabs", "restore_note", "prompt", "seed", "steps", "guidance", "size", "preset", "status", "sample", "fit", "as_map", "photo"),
    *("map", "shown", "wanted", "map_note", "picture", "caption", "last", *ACTIONS),
    *(option.name for mode in MODES.values() if mode.control for option in mode.control.options),
}


def bind_end(run: Any, form: Form) -> None:
    """Bring a tab to rest after a run that was stopped or cut off."""
    for end in (run.then, run.failure):
        bind(end, ended, form, ["status", "picture", "run", "stop"], queue=False, js=ENDED_JS)


def bind_across(studio: Studio, forms: dict[str, Form], everywhere: Form, page: gr.Blocks) -> None:
    """Bind what reaches over the borders of a tab."""
    flat = everywhere | {
        f"{mode}__{name}": part for mode, form in forms.items() for name, part in form.items() if name not in ("chips", "example_paths")
    }
    values = [name for name in flat if name.rpartition("__")[2] in RESTORED]

    def dropped_in(*, dropped: Any, history: list[Entry]) -> dict[str, Any]:
        try:
            return across(studio, opened(dropped), history)
        except Exception as error:
            return {"restore_note": html.says(html.sentence(error), "problem")}

    bind([everywhere["dropped"].upload], dropped_in, flat, values)
    _bind_history(flat)
    for mode, form in forms.items():
        _bind_back(studio, mode, flat, values)
        for other in MODES.values():
            if other.control:
                _bind_send(mode, other, flat)
        if form.get("example_paths"):
            _bind_example_photos(form)
        dressing = [f"{name}__{part}" for name, each in forms.items() for part in looks(studio, MODES[name])] + [f"{mode}__status"]
        fetching = bind(
            [form["fetch"].click], fetch_handler(studio, MODES[mode]), flat, dressing, concurrency_id="fetch", concurrency_limit=1
        )
        gr.on([form["stop"].click], None, None, None, cancels=[fetching], api_visibility="private")
        bind_end(fetching, form)
    built = {mode.name: looks(studio, mode) for mode in MODES.values()}

    def dress() -> dict[str, Any]:
        return {} if built == {mode.name: looks(studio, mode) for mode in MODES.values()} else dressed(studio)

    bind([page.load], dress, flat, dressing, queue=False)


def _bind_history(flat: Form) -> None:
    names = [name for name in flat if name.rpartition("__")[2] in {"picture", "caption", "last", *ACTIONS}] + ["tabs"]

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
