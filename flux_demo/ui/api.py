"""The page's API: seven typed endpoints. Their names, parameters and defaults are fixed; programs call them.

Annotations are read while Gradio runs, so this file must not postpone them. Gradio checks no types here: everything is checked by us.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any

import gradio as gr

from flux_demo.backends.queue import STANDING
from flux_demo.maps.photo import open_photo
from flux_demo.modes import MODES
from flux_demo.recipe import read_recipe
from flux_demo.request import ControlMap, GeneratedImage, GenerationRequest
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.files import DrawnFrom, keep_map, publish, received
from flux_demo.ui.generate import request_of
from flux_demo.ui.run import Step, follow

NOWHERE = DrawnFrom(None, None, None, False, ())


def add_api(studio: Studio) -> None:
    """Add the endpoints to the page that is being built."""

    def text(
        prompt: str, size: str = "", seed: str = "", steps: int | None = None, guidance: float | None = None
    ) -> Iterator[tuple[gr.FileData, dict]]:
        """Make a picture from a prompt. Size is "WIDTHxHEIGHT"; what is left out takes the defaults; an empty seed is a random one."""
        yield from _run(studio, request_of(MODES["text"], prompt, seed, steps, guidance, None, _size_text(size), None))

    def canny(
        prompt: str, map: gr.FileData, seed: str = "", steps: int | None = None, guidance: float | None = None
    ) -> Iterator[tuple[gr.FileData, dict]]:
        """Make a picture that follows an edge map, as large as the map."""
        yield from _run(studio, request_of(MODES["canny"], prompt, seed, steps, guidance, None, None, _given_map("canny", map)))

    def depth(
        prompt: str, map: gr.FileData, seed: str = "", steps: int | None = None, guidance: float | None = None
    ) -> Iterator[tuple[gr.FileData, dict]]:
        """Make a picture that follows a depth map, as large as the map."""
        yield from _run(studio, request_of(MODES["depth"], prompt, seed, steps, guidance, None, None, _given_map("depth", map)))

    def canny_map(photo: gr.FileData, size: str = "match", fit: str = "crop", low: float = 50, high: float = 200) -> gr.FileData:
        """Draw the edge map of a photo: PNG, RGB, exactly what /canny follows."""
        return _drawn(studio.preview("canny", received(photo), _size_text(size) or "match", fit or "crop", low=low, high=high))

    def depth_map(
        photo: gr.FileData, size: str = "match", fit: str = "crop", near: float = 0.0, far: float = 1.0, invert: bool = False
    ) -> gr.FileData:
        """Draw the depth map of a photo, near is bright: PNG, RGB, exactly what /depth follows."""
        return _drawn(
            studio.preview("depth", received(photo), _size_text(size) or "match", fit or "crop", near=near, far=far, invert=invert)
        )

    def restore(picture: gr.FileData) -> dict:
        """Read the recipe that a picture made here carries."""
        return read_recipe(received(picture)).to_dict()

    def status() -> dict:
        """Where each mode runs and why, and what can be asked for."""
        return studio.status()

    lines: tuple[tuple[str, int, tuple[Callable, ...]], ...] = (
        ("run", STANDING, (text, canny, depth)),
        ("map", 2, (canny_map, depth_map)),
        ("look", 4, (restore, status)),
    )
    for line, at_once, endpoints in lines:
        for endpoint in endpoints:
            gr.api(_worded(endpoint), api_name=endpoint.__name__, concurrency_id=line, concurrency_limit=at_once)


def _worded(endpoint: Callable) -> Callable:
    """Turn every error into the sentence that the client shall read; the signature stays."""
    if isgeneratorfunction(endpoint):

        @wraps(endpoint)
        def stream(*values: Any) -> Iterator[Any]:
            try:
                yield from endpoint(*values)
            except Exception as error:
                raise gr.Error(html.sentence(error), print_exception=False) from None

        return stream

    @wraps(endpoint)
    def call(*values: Any) -> Any:
        try:
            return endpoint(*values)
        except Exception as error:
            raise gr.Error(html.sentence(error), print_exception=False) from None

    return call


def _run(studio: Studio, request: GenerationRequest) -> Iterator[tuple[gr.FileData | None, dict]]:
    """Follow a run: what comes last is the picture and its recipe, what comes before says how far it is, again at every heartbeat."""
    latest: tuple[gr.FileData | None, dict] = (None, {})
    events = follow(studio, request)
    try:
        for event in events:
            if isinstance(event, GeneratedImage):
                latest = (gr.FileData(path=publish(event.path)), event.recipe.to_dict())
            elif isinstance(event, Step):
                latest = (None, {"step": event.done, "of": event.of})
            yield latest
    finally:
        events.close()


def _drawn(control: ControlMap) -> gr.FileData:
    return gr.FileData(path=keep_map(control, NOWHERE).path)


def _given_map(kind: str, uploaded: Any) -> ControlMap:
    return ControlMap(kind, open_photo(received(uploaded)))


def _size_text(size: Any) -> str:
    """ "WIDTHxHEIGHT" or "match"; anything else goes to the parser, which says what is wrong with it."""
    return "" if size is None else str(size).strip()
