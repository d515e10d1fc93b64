"""The button beside a refusal: fetch what local FLUX lacks, with the bytes counted, and choose the routes again."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from flux_demo import background
from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.tab_state import find_route, tab_state, what_to_fetch


def fetch_handler(studio: Studio, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the fetch button; closing it ends the download, and the next one continues where it ended."""
    status, stop, run_state = (f"{mode.name}__{name}" for name in ("status", "stop", "run_state"))

    def fetch() -> Iterator[dict[str, Any]]:
        what = what_to_fetch(find_route(studio, mode))
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
            yield every_tab(studio) | {status: html.says("All files are here."), run_state: "idle"}
        except Exception as error:
            yield {status: html.says(html.sentence(error), "problem"), stop: gr.update(interactive=False), run_state: "idle"}
        finally:
            downloading.close()

    return fetch


def every_tab(studio: Studio) -> dict[str, Any]:
    """Every tab's state as the routes are now, names as mode__component."""
    return {
        f"{mode.name}__{name}": gr.update(**properties) for mode in MODES.values() for name, properties in tab_state(studio, mode).items()
    }
