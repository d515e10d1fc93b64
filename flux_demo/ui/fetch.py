"""The button beside a refusal: fetch what local FLUX lacks, with the bytes counted, and choose the routes again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from flux_demo import background
from flux_demo.modes import MODES, Mode
from flux_demo.reading import as_int
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.filling import usable_values
from flux_demo.ui.tab_state import tab_state, what_to_fetch

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
        if now != was:
            new = [name for name, value in form.items() if name not in taken or value == was[name]["value"]]
            answer |= {f"{mode.name}__{name}": now[name]["value"] for name in new}
    return answer
