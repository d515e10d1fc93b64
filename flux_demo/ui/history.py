"""This visitor's images: kept in the session only, so nobody sees another person's."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from flux_demo.modes import MODES
from flux_demo.recipe import Recipe
from flux_demo.ui import html
from flux_demo.ui.files import ShownMap

KEPT = 40  # images a visitor can go back to; the files themselves stay in the gallery


def actions() -> tuple[str, ...]:
    """The buttons under an image."""
    return ("reuse", "renew", "again", *(f"send_{mode.name}" for mode in MODES.values() if mode.control))


@dataclass(frozen=True)
class Entry:
    """An image as the page shows it, and what is needed to return to it."""

    path: str  # the served copy
    recipe: Recipe
    title: str  # of the backend
    shown: ShownMap | None = None  # the map it followed
    photo: str | None = None  # the upload that the map was drawn from


def added(history: list[Entry], entry: Entry) -> list[Entry]:
    """Newest first."""
    return [entry, *history][:KEPT]


def thumbnails(history: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.path, "") for entry in history]


def displayed(entry: Entry) -> dict[str, Any]:
    """What a tab shows of an image."""
    buttons = dict.fromkeys(actions(), gr.update(interactive=True))
    picture = gr.update(value=entry.path, alt_text=f"Picture made from the prompt: {entry.recipe.prompt[:300]}")
    return {"picture": picture, "caption": html.caption(entry.recipe, entry.title), "last": entry, **buttons}
