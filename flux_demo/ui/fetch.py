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
from flux_demo.ui.translation import translate

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

    def check(**fields: Any) -> Iterator[dict[str, Any]]:
        if not may_check(studio):
            return
        idle = [mode for name, mode in MODES.items() if fields[f"{name}__run_state"] not in BUSY]
        yield {f"{mode.name}__status": html.says("Checking the backends", "busy") for mode in idle}
        before = tab_states(studio)
        studio.refresh()
        yield tabs_after_route_change(studio, before, fields) | {f"{mode.name}__status": _checked(studio, mode) for mode in idle}

    return check


def _checked(studio: Studio, mode: Mode) -> str:
    route = find_route(studio, mode)
    if not isinstance(route, Route):
        return html.says("Checked. Nothing can run this mode yet.")
    return html.says(translate("Checked. In use: {backend}.", backend=translate(route.backend.title)))


def tab_states(studio: Studio) -> dict[str, dict[str, Any]]:
    """Every tab's state, by mode."""
    return {name: tab_state(studio, mode) for name, mode in MODES.items()}


def every_tab(studio: Studio) -> dict[str, Any]:
    """Every tab's state as the routes are now, names as mode__component, without the values of the settings, which a person may have changed."""
    answer = {}
    for mode, state in tab_states(studio).items():
        for name, properties in state.items():
            kept = {each: value for each, value in properties.items() if each != "value" or name not in SETTINGS}
            answer[f"{mode}__{name}"] = gr.update(**kept)
    return answer


def tabs_after_route_change(studio: Studio, before: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """``every_tab``, with new values for the settings that have the old default, or a value that the new route does not take.

    ``before`` are the tabs' states of that time, by mode.
    """
    answer = every_tab(studio)
    for name, mode in MODES.items():
        now, was = tab_state(studio, mode), before[name]
        form = {each: fields[f"{name}__{each}"] for each in SETTINGS}
        taken, _ = usable_values(studio, mode, {each: str(as_int(value)) for each, value in form.items()})
        if now != was:
            new = [each for each, value in form.items() if each not in taken or value == was[each]["value"]]
            answer |= {f"{name}__{each}": gr.update(**now[each]) for each in new}
    return answer
