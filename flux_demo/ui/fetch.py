"""What chooses the routes again: the button that fetches what local FLUX lacks, with the bytes counted, and the one that checks the backends."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from flux_demo import background
from flux_demo.backends import Route
from flux_demo.modes import MODES, Mode
from flux_demo.reading import as_int
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.filling import usable_values
from flux_demo.ui.generate import BUSY
from flux_demo.ui.tab_state import find_route, may_check, tab_state, what_to_fetch

SETTINGS = ("size", "steps", "guidance", "preset")  # the fields whose ranges and choices depend on the route


def fetch_handler(studio: Studio, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the fetch button; closing it ends the download, and the next one continues where it ended."""
    status, stop, run_state = (f"{mode.name}__{name}" for name in ("status", "stop", "run_state"))

    def fetch() -> Iterator[dict[str, Any]]:
        what = what_to_fetch(studio, mode)
        if what is None:
            return

        def download(report: background.Reporter[tuple[int, int]]) -> None:
            studio.fetch(what, lambda done, total: report((done, total)))

        yield {
            status: html.says("Asking how much is missing", "busy"),
            stop: gr.update(interactive=True, visible=True),
            run_state: "running",
        }
        downloading = background.follow(download, f"fetch-{what}")
        try:
            for event in downloading:
                yield {status: html.byte_of(*event)} if event else {}
            tabs = every_tab(studio)
            yield tabs | {status: html.says("All files are here."), stop: tabs[stop] | {"interactive": False}, run_state: "idle"}
        except Exception as error:
            yield {status: html.says(html.sentence(error), "problem"), stop: gr.update(interactive=False), run_state: "idle"}
        finally:
            downloading.close()

    return fetch


def check_handler(studio: Studio) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the button beside the reasons: what was started, stopped or copied since is found without a restart."""
    # The studio keeps no refusal: each question looks anew. So the modes that nothing ran at the last look are remembered here.
    without_route = {mode for mode, backend in _used(studio).items() if backend is None}

    def check(**fields: Any) -> Iterator[dict[str, Any]]:
        if not may_check(studio):
            return
        idle = [mode for mode in MODES if fields[f"{mode}__run_state"] not in BUSY]
        yield {f"{mode}__status": html.says("Checking the backends", "busy") for mode in idle}
        before, used = tab_states(studio), _used(studio) | dict.fromkeys(without_route)
        studio.refresh()
        now = _used(studio)
        found = "Checked: no other backend can be used yet." if now == used else "Checked: other backends are in use now."
        without_route.clear()
        without_route.update(mode for mode, backend in now.items() if backend is None)
        tabs = every_tab(studio) | settings_after_route_change(studio, before, fields)
        yield tabs | {f"{mode}__status": html.says(found) for mode in idle}

    return check


def tab_states(studio: Studio) -> dict[str, dict[str, Any]]:
    """Every tab's state, by mode."""
    return {name: tab_state(studio, mode) for name, mode in MODES.items()}


def _used(studio: Studio) -> dict[str, str | None]:
    """The backend of each mode; None where nothing runs it."""
    routes = {name: find_route(studio, mode) for name, mode in MODES.items()}
    return {name: route.backend.name if isinstance(route, Route) else None for name, route in routes.items()}


def every_tab(studio: Studio) -> dict[str, Any]:
    """Every tab's state as the routes are now, names as mode__component; what stands in the settings is left to ``settled``."""
    answer = {}
    for mode in MODES.values():
        for name, state in tab_state(studio, mode).items():
            properties = {each: value for each, value in state.items() if each != "value" or name not in SETTINGS}
            answer[f"{mode.name}__{name}"] = gr.update(**properties)
    return answer


def settings_after_route_change(studio: Studio, before: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """New values for the settings after the routes have changed, where a field has the old default or a value that the new route does not take.

    ``before`` are the tabs' states of that time, by mode.
    """
    answer: dict[str, Any] = {}
    for mode in MODES.values():
        now, was = tab_state(studio, mode), before[mode.name]
        form = {name: fields[f"{mode.name}__{name}"] for name in SETTINGS}
        taken, _ = usable_values(studio, mode, {name: str(as_int(value)) for name, value in form.items()})
        if now != was:  # with their choices and ranges: this takes the place of what every_tab gives
            new = [name for name, value in form.items() if name not in taken or value == was[name]["value"]]
            answer |= {f"{mode.name}__{name}": gr.update(**now[name]) for name in new}
    return answer
