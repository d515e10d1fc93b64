"""Models load in the background once the page is up; meanwhile each tab says so in the line that says where it runs."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.modes import MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui.events import Form, bind
from flux_demo.ui.tab_state import find_route, route_line_of

EVERY_S = 1.0
QUIET = 5  # checks in a row with nothing loading, after which the page stops asking; between two modes there is a short pause


def bind_loading(studio: Studio, forms: dict[str, Form]) -> None:
    """Check every second what is loading, until nothing is."""
    # A mode that runs nowhere has nothing to load, and choosing its route again may ask a service on the network.
    routes = {mode.name: find_route(studio, mode) for mode in MODES.values()}
    routed = [MODES[name] for name, route in routes.items() if isinstance(route, Route)]
    form: Form = {f"{mode.name}__where": forms[mode.name]["where"] for mode in routed}
    said = {f"{mode.name}__where": route_line_of(studio, mode, routes[mode.name]) for mode in routed}
    form |= {"timer": gr.Timer(EVERY_S, active=bool(routed)), "quiet": gr.State(0), "said": gr.State(said)}
    bind([form["timer"].tick], loading_handler(studio, routed), form, list(form), queue=False)


def loading_handler(studio: Studio, routed: Sequence[Mode]) -> Callable[..., dict[str, Any]]:
    """What a tick of the timer does: only a line that changed is sent, so that one that is open stays open."""

    def check(*, quiet: int, said: dict[str, str]) -> dict[str, Any]:
        loading = {mode: studio.loading(mode.name) for mode in routed}
        now = {f"{mode.name}__where": route_line_of(studio, mode, find_route(studio, mode), text) for mode, text in loading.items()}
        quiet = 0 if any(loading.values()) else quiet + 1
        changed = {name: line for name, line in now.items() if said.get(name) != line}
        return changed | {"said": now, "quiet": quiet, "timer": gr.Timer(active=quiet < QUIET)}

    return check
