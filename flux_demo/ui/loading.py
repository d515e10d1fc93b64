"""Models load behind the page once it is up; while they do, each tab says so in the line that says on what it runs."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from flux_demo.modes import MODES
from flux_demo.studio import Studio
from flux_demo.ui.bind import Form, bind
from flux_demo.ui.looks import where

EVERY_S = 1.0
QUIET = 5  # looks in a row with nothing loading, after which the page asks no more; between two modes there is a moment of rest


def bind_loading(studio: Studio, forms: dict[str, Form]) -> None:
    """Look every second what is loading, until all is quiet."""
    form: Form = {f"{name}__where": each["where"] for name, each in forms.items()}
    lines = {f"{name}__where": where(studio, MODES[name]) for name in forms}
    form |= {"timer": gr.Timer(EVERY_S), "quiet": gr.State(0), "lines": gr.State(lines)}
    bind([form["timer"].tick], look_handler(studio), form, list(form), queue=False)


def look_handler(studio: Studio) -> Callable[..., dict[str, Any]]:
    """What a tick of the timer does: only a line that changed is sent, so that one that is unfolded stays so."""

    def look(*, quiet: int, lines: dict[str, str]) -> dict[str, Any]:
        loading = {name: studio.loading(name) for name in MODES}
        now = {f"{name}__where": where(studio, mode, loading[name]) for name, mode in MODES.items()}
        quiet = 0 if any(loading.values()) else quiet + 1
        changed = {name: line for name, line in now.items() if lines.get(name) != line}
        return changed | {"lines": now, "quiet": quiet, "timer": gr.Timer(active=quiet < QUIET)}

    return look
