"""The button beside a refusal: fetch what local FLUX lacks, with the bytes counted, and choose again."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from flux_demo.errors import Cancelled
from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.run import HEARTBEAT_S
from flux_demo.ui.tab_state import looks, what_to_fetch


def fetch_handler(studio: Studio, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the fetch button; closing it ends the download, and the next one goes on where it ended."""

    def fetch() -> Iterator[dict[str, Any]]:
        if not (what := what_to_fetch(studio, mode)):
            return
        status = f"{mode.name}__status"
        yield {status: html.says("Asking how much is missing", "busy"), f"{mode.name}__stop": gr.update(interactive=True, visible=True)}
        events, stopped = _start(studio, what)
        try:
            while True:
                try:
                    event = events.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    yield {}
                    continue
                if event is None:
                    break
                if isinstance(event, BaseException):
                    raise event
                yield {status: html.byte_of(*event)}
            studio.refresh()
            yield dressed(studio) | {status: html.says("All files are here.")}
        except Exception as error:
            yield {status: html.says(html.sentence(error), "problem"), f"{mode.name}__stop": gr.update(interactive=False)}
        finally:
            stopped.set()

    return fetch


def dressed(studio: Studio) -> dict[str, Any]:
    """Every tab's parts as the routes are now, names as mode__component."""
    return {f"{mode.name}__{name}": gr.update(**look) for mode in MODES.values() for name, look in looks(studio, mode).items()}


def _start(studio: Studio, what: str) -> tuple[queue.Queue, threading.Event]:
    events: queue.Queue = queue.Queue()
    stopped = threading.Event()

    def on_bytes(done: int, total: int) -> None:
        if stopped.is_set():
            raise Cancelled
        events.put((done, total))

    def work() -> None:
        try:
            studio.fetch(what, on_bytes)
            events.put(None)
        except BaseException as error:  # carried over to the thread that follows
            events.put(error)

    threading.Thread(target=work, daemon=True, name=f"fetch-{what}").start()
    return events, stopped
