"""The run button: form -> request -> run -> image. The form stays as it is, whatever happens."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidRequest
from flux_demo.gallery import GeneratedImage
from flux_demo.modes import Mode
from flux_demo.progress import Status
from flux_demo.request import ControlMap, GenerationRequest, Size, parse_seed
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.files import ShownMap, map_to_send, publish
from flux_demo.ui.history import Entry, added, displayed, thumbnails
from flux_demo.ui.preview import draw, drawn_from, is_current
from flux_demo.ui.run import Step, follow

IDLE = {"run": gr.update(interactive=True), "stop": gr.update(interactive=False), "run_state": "idle"}

CUT_OFF = "The run did not start, or its connection was cut: too many may be waiting. Try again in a moment."

# These run in the browser at the click, because a run may wait before its handler starts. ``run_state`` is running, stopping or idle:
# whoever finds it not idle after a run's stream has closed knows that the run did not end by itself.
BEGIN_JS = f"""() => [
    {html.says("Waiting for its turn", "busy")!r},
    {{__type__: "update", interactive: false}},
    {{__type__: "update", interactive: true}},
    "running",
]"""
STOP_JS = f"""() => [{html.says("Stopping", "busy")!r}, {{__type__: "update", interactive: false}}, "stopping"]"""


def run_handler(studio: Studio, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the run button."""

    def make(
        *,
        prompt: Any,
        seed: Any,
        steps: Any,
        guidance: Any,
        size: Any,
        preset: Any,
        history: list[Entry],
        last: Entry | None,
        photo: Any = None,
        fit: Any = "crop",
        as_map: Any = False,
        sample: Any = None,
        shown: ShownMap | None = None,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        try:
            dials = studio.route(mode.name).dials
            control = None
            if mode.control and dials.own_photos:
                sample = None
                now = drawn_from(mode, photo, size, fit, as_map, options)
                _prompt_first(prompt)
                if not is_current(shown, now):  # the click was faster than the live map: draw it, show it, then send it
                    shown = draw(studio, mode, now)
                    yield {"map": shown.path, "shown": shown, "map_note": html.says(shown.note)}
                assert shown
                control = map_to_send(shown)
            request = request_of(mode, prompt, seed, steps, guidance, preset, None if control else size, control, sample)
            events = follow(studio, request)
            try:
                for event in events:
                    if isinstance(event, Step):
                        preview = {"picture": event.preview} if event.preview else {}
                        yield {"status": html.step_of(event.done, event.of)} | preview
                    elif isinstance(event, Status):
                        yield {"status": html.says(event.text, "busy")}
                    elif event is None:
                        yield {}
                    else:
                        yield _finished(studio, event, shown if control else None, history)
            finally:
                events.close()
        except Exception as error:
            yield IDLE | {"status": html.says(html.sentence(error), "problem"), "picture": last.path if last else None}

    return make


def ended(*, run_state: Any, last: Entry | None) -> dict[str, Any]:
    """After a run that did not end by itself: show the last image where the preview was, and say how the run ended."""
    if run_state not in ("stopping", "running"):
        return {}
    said = html.says("Stopped.") if run_state == "stopping" else html.says(CUT_OFF, "problem")
    return IDLE | {"status": said, "picture": last.path if last else None}


def request_of(
    mode: Mode, prompt: Any, seed: Any, steps: Any, guidance: Any, preset: Any, size: Any, control: ControlMap | None, sample: Any = None
) -> GenerationRequest:
    """A request from values as the browser sent them. Raises InvalidRequest."""
    return GenerationRequest(
        mode=mode.name,
        prompt="" if prompt is None else prompt,
        seed=parse_seed(seed),
        steps=whole(steps),
        guidance=guidance,
        size=None if size in (None, "", "match") else Size.parse(size),
        control=control,
        sample=sample,
        preset=None if preset in (None, "") else preset,
    )


def whole(value: Any) -> Any:
    """28.0 as 28, since browsers and JSON know one kind of number; anything else as it is, to be refused in words."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _prompt_first(prompt: Any) -> None:
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidRequest("The prompt is empty. Describe the image in a few words.")


def _finished(studio: Studio, made: GeneratedImage, shown: ShownMap | None, history: list[Entry]) -> dict[str, Any]:
    title = studio.route(made.request.mode).backend.title
    entry = Entry(publish(made.path), made.recipe, title, shown, shown.drawn_from.photo if shown else None)
    history = added(history, entry)
    done = {
        "status": html.says(" ".join((f"Done in {made.seconds:.1f} s.", *made.notes))),
        "history": history,
        "gallery": gr.update(value=thumbnails(history)),
    }
    return IDLE | done | displayed(entry)
