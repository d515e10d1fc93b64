"""Models load behind the page once it is up; while they do, each tab says so in the line that says on what it runs."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui.events import Form, bind
from flux_demo.ui.tab_state import route_of, where

EVERY_S = 1.0
QUIET = 5  # looks in a row with nothing loading, after which the page asks no more; between two modes there is a moment of rest


def bind_loading(studio: Studio, forms: dict[str, Form]) -> None:
    """Look every second what is loading, until all is quiet."""
    # A mode that runs nowhere has nothing to load, and asking again for its route may ask a service on the network.
    routed = [mode for mode in MODES.values() if route_of(studio, mode)[0]]
    form: Form = {f"{mode.name}__where": forms[mode.name]["where"] for mode in routed}
    said = {f"{mode.name}__where": where(studio, mode) for mode in routed}
    form |= {"timer": gr.Timer(EVERY_S, active=bool(routed)), "quiet": gr.State(0), "said": gr.State(said)}
    bind([form["timer"].tick], look_handler(studio, routed), form, list(form), queue=False)


def look_handler(studio: Studio, routed: Sequence[Mode]) -> Callable[..., dict[str, Any]]:
    """What a tick of the timer does: only a line that changed is sent, so that one that is unfolded stays so."""

    def look(*, quiet: int, said: dict[str, str]) -> dict[str, Any]:
        loading = {mode: studio.loading(mode.name) for mode in routed}
        now = {f"{mode.name}__where": where(studio, mode, text) for mode, text in loading.items()}
        quiet = 0 if any(loading.values()) else quiet + 1
        changed = {name: line for name, line in now.items() if said.get(name) != line}
        return changed | {"said": now, "quiet": quiet, "timer": gr.Timer(active=quiet < QUIET)}

    return look
