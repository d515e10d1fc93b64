"""The run button: form -> request -> run -> image. The form stays as it is, whatever happens."""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import gradio as gr

from flux_demo.errors import Cancelled
from flux_demo.mini_vocabulary import prompt_notes
from flux_demo.modes import MODES, Mode
from flux_demo.progress import Step
from flux_demo.prompts import check_prompt
from flux_demo.reading import as_int, parse_size
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.seeds import parse_seed, with_consecutive_seeds
from flux_demo.texts import Number, Text, join_sentences
from flux_demo.ui import html
from flux_demo.ui.clicks import CLICKED_JS, keep_refusal, lost_click_message, starting, take_refusal
from flux_demo.ui.files import ShownMap, map_to_send, still_kept
from flux_demo.ui.history import Entry, history_updates, no_image_updates, picture_of, preview_of
from flux_demo.ui.image_heading import image_updates_in, meanwhile_updates
from flux_demo.ui.map_views import MAP
from flux_demo.ui.number_fields import check_not_empty
from flux_demo.ui.partial import forget, partial_before, partial_entry, remember
from flux_demo.ui.preview import drawn_from, map_to_follow
from flux_demo.ui.run import MAX_IMAGES, Run, StillRunning
from flux_demo.ui.services import Services
from flux_demo.ui.size_field import checked_size
from flux_demo.ui.strip import strip_updates
from flux_demo.ui.translation import DONE, DONE_SEVERAL, STOPPED_AT, STOPPED_AT_OF_SEVERAL, translate
from flux_demo.ui.visitor_store import is_key

BUSY = ("running", "stopping")  # what ``run_state`` is for as long as the page tells of a run
ANNOUNCED = "seed "  # prefix of run_state, before the seed, while the status announces the next image's seed
UNDER_WAY = {"run": gr.update(interactive=False), "stop": gr.update(interactive=True), "run_state": "running"}
IDLE = {"run": gr.update(interactive=True), "stop": gr.update(interactive=False), "run_state": "idle"}
FAILED = IDLE | {"run_state": "failed"}

Fields = Mapping[str, Any]  # of a form, by name
Starting = Generator[dict[str, Any], None, Run]  # yields what changes before a run, and returns the run

OTHER_WINDOW = "Another of your windows generated this image. Click Generate for one with the settings here."
OTHER_WINDOW_STOPPED = "Another of your windows stopped this run. Click Generate for an image with the settings here."
COMPARED = "The comparison is below, above your images: one image in each mode."
NOT_COMPARED = "An image of the comparison was deleted meanwhile. Compare again to see all of them side by side."
CUT_OFF = "The run did not start, or its connection was cut: too many may be waiting. Try again in a moment."
RUN_COMPONENTS = (
    "status",
    "picture",
    "image_head",
    "caption",
    "details",
    "preview",
    "keep",
    "run",
    "stop",
    "run_state",
    "history",
    "gallery",
    "recent",
    "last",
    "strip",
)

# These run in the browser at the click, because a run may wait before its handler starts. ``run_state`` is running, stopping, failed, idle,
# or an announced seed: whoever finds it running or stopping after a run's stream has closed knows that the run's end was not shown.
BEGIN_JS = f"""() => {{
    {CLICKED_JS}
    return [{html.script_says("In queue", "busy")!r}, {{__type__: "update", interactive: false}}, {{__type__: "update", interactive: true}}, "running"];
}}"""
STOP_JS = f"""() => [{html.script_says("Stopping", "busy")!r}, {{__type__: "update", interactive: false}}, "stopping"]"""


def run_handler(services: Services, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind the run button."""
    studio = services.studio

    def make(
        *,
        visitor: Any,
        prompt: Any,
        seed: Any,
        steps: Any,
        guidance: Any,
        size: Any,
        preset: Any,
        count: Any,
        last: Entry | None,
        saved_fields: Fields,
        photo: Any = None,
        fit: Any = "crop",
        as_map: Any = False,
        sample: Any = None,
        shown: ShownMap | None = None,
        view: Any = MAP,
        painter: Any = None,
        painting: str | None = None,
        recipe_map_sha256: str | None = None,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        def start() -> Starting:
            dials, control, follows = studio.route(mode.name).dials, None, None
            check_not_empty({"Steps": steps, "Guidance": guidance})
            if mode.control and dials.own_photos:
                now = drawn_from(mode, photo, size, fit, as_map, options)
                check_prompt("" if prompt is None else prompt)
                follows, changed = map_to_follow(services, visitor, mode, now, shown, view, painter, painting)
                yield changed | ({"recipe_map_sha256": None} if recipe_map_sha256 else {})  # a recipe's map is compared until a click
                control = map_to_send(follows)
            else:
                checked_size(studio, mode, size)
            request = request_of(mode, prompt, seed, steps, guidance, preset, size, control, sample)
            requests = [dials.complete(each) for each in with_consecutive_seeds(request, as_int(count), MAX_IMAGES)]
            maps = {mode.name: follows}
            return services.runs.start(visitor, requests, lambda made: services.history.add(visitor, made, follows), maps=maps)

        yield from show_run(services, visitor, mode, last, saved_fields, start())

    return make


def show_run(
    services: Services, visitor: Any, mode: Mode, last: Entry | None, saved_fields: Fields, start: Starting
) -> Iterator[dict[str, Any]]:
    """Start a run at a click and show it until it ends; instead, the run of another window, or why none could be started."""
    try:
        with starting(services.visitors, visitor, mode.name):
            run = yield from start
    except StillRunning:
        yield from watch_other(services, visitor, mode, last, saved_fields)
    except Exception as error:
        said = html.says(html.sentence(error), "problem")
        keep_refusal(services.visitors, visitor, mode.name, said)
        yield FAILED | {"status": said, "picture": picture_of(last)}
    else:
        yield from watch(services, visitor, run, last, saved_fields)


def watch(services: Services, visitor: str, run: Run, last: Entry | None, saved_fields: Fields) -> Iterator[dict[str, Any]]:
    """Show a run until it ends: its steps, each image when it is ready, and how it ended.

    ``saved_fields`` is the window's form, and changes with it: it tells at the end whether the image was generated with the settings of the form.
    """
    seen, told, beside = 0, None, False
    # A late answer to a change in the form may have said otherwise, and so does the last answer of a run that ended just before the click:
    # Gradio delivers that twice.
    yield {} if run.stopping else UNDER_WAY
    for _ in run.watch():
        if run.done.is_set():
            break
        at, previewed, looks_back = run.latest_event, run.latest_preview, run.is_looking_back  # read before the images are counted
        if seen < len(run.images):
            seen, beside = len(run.images), False
            run.show_previews()  # if an earlier image was looked at meanwhile
            last, shown_now = _newest(services, visitor, run, last, saved_fields)
            yield shown_now | {"preview": gr.update(visible=False)}
            continue
        if at is told:
            yield {}
            continue
        preview: dict[str, Any] = {"picture": preview_of(previewed)} if previewed and not looks_back else {}
        if looks_back or beside:
            preview |= meanwhile_updates(looks_back)
        beside, told = looks_back, at
        if isinstance(at, Step):
            yield {"status": html.step_of(at.done, at.of, at.seconds_left, seen + 1, len(run.requests))} | preview
        elif at:
            yield {"status": html.says(at.text, "busy")} | preview
    # The images once more: of two updates that come at once, the browser may show only the second.
    last, shown_now = _newest(services, visitor, run, last, saved_fields) if run.images else (last, {})
    yield shown_now | _final_updates(services, visitor, run, last, saved_fields)


def watch_other(services: Services, visitor: str, mode: Mode, last: Entry | None, saved_fields: Fields) -> Iterator[dict[str, Any]]:
    """Show the run that another window of this visitor started in the mode's tab, and say at its end whose it was."""
    if (run := services.runs.find(visitor, mode.name)) is None:
        yield IDLE
        return
    for answer in watch(services, visitor, run, last, saved_fields):
        if answer.get("run_state") == IDLE["run_state"]:  # the run's end
            if run.error is None:
                answer["status"] = html.says(OTHER_WINDOW)
            elif isinstance(run.error, Cancelled):
                answer["status"] = html.says(OTHER_WINDOW_STOPPED)
        yield answer


def _newest(services: Services, visitor: str, run: Run, last: Entry | None, saved_fields: Fields) -> tuple[Entry | None, dict[str, Any]]:
    """The run's newest image, and the visitor's images with it as the page shows them."""
    history = services.history.entries(visitor)
    last = next((entry for entry in history if entry.name == run.images[-1].path.name), last)
    return last, history_updates(history) | _image_updates(services, visitor, run, last, saved_fields)


def _image_updates(services: Services, visitor: str, run: Run, entry: Entry | None, saved_fields: Fields) -> dict[str, Any]:
    """An image in the run's tab, if it was not deleted during the run; the form may have changed."""
    return image_updates_in(services, visitor, run.tab, entry, saved_fields) if entry and still_kept(entry.path) else no_image_updates()


def follow_after_close_handler(services: Services, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """After a stream that closed before its run's end was shown: by Stop, or because the connection was cut. Follows the run on."""

    def follow_on(*, visitor: Any, run_state: Any, last: Entry | None, saved_fields: Fields) -> Iterator[dict[str, Any]]:
        refusal = take_refusal(services.visitors, visitor, mode.name)
        if run_state not in BUSY:
            return
        if run := services.runs.find(visitor, mode.name):
            if run_state == "stopping":
                run.stop()  # once more: a Stop just after the click may have come before its run
            try:
                yield from watch(services, visitor, run, last, saved_fields)
            except Exception as error:  # a full disk, as it may have closed the stream before
                yield FAILED | {"status": html.says(html.sentence(error), "problem"), "picture": picture_of(last)}
            return
        if run_state == "stopping":
            yield IDLE | {"status": html.says("Stopped."), "picture": picture_of(last)}
            return
        what = lost_click_message(services.visitors, visitor, mode.name) if is_key(visitor) else ""
        partial = partial_before(services.history, visitor, mode.name) if what else None
        in_place = image_updates_in(services, visitor, mode.name, partial, saved_fields) if partial else {"picture": picture_of(last)}
        yield FAILED | in_place | {"status": refusal or html.says(what or CUT_OFF, "problem")}

    return follow_on


def stop_handler(services: Services, mode: Mode) -> Callable[..., dict[str, Any]]:
    """Ends this visitor's run at its next step."""

    def stop(*, visitor: Any) -> dict[str, Any]:
        if run := services.runs.find(visitor, mode.name):
            run.stop()
        return {}

    return stop


def request_of(
    mode: Mode, prompt: Any, seed: Any, steps: Any, guidance: Any, preset: Any, size: Any, control: ControlMap | None, sample: Any = None
) -> GenerationRequest:
    """A request from values as the browser sent them; a map takes the place of size and sample. Raises InvalidRequest."""
    chosen = None if control else parse_size(size)
    return GenerationRequest(
        mode=mode.name,
        prompt="" if prompt is None else prompt,
        seed=parse_seed(seed),
        steps=as_int(steps),
        guidance=guidance,
        size=chosen if isinstance(chosen, Size) else None,
        control=control,
        sample=None if control else sample,
        preset=None if preset in (None, "") else preset,
    )


def announced_seed(run_state: Any, seed: str, text: str) -> dict[str, Any]:
    """Put a seed into the form, and say so where the tab tells of no run."""
    return {"seed": seed} | ({} if run_state in BUSY else {"status": html.says(text), "run_state": f"{ANNOUNCED}{seed}"})


def is_outdated(run_state: Any, seed: Any) -> bool:
    """Whether a change in the form has outdated the status: why a run failed, or a seed that the form no longer has."""
    return run_state == FAILED["run_state"] or str(run_state).startswith(ANNOUNCED) and run_state != f"{ANNOUNCED}{seed or ''}"


def with_status(status: str, run_state: Any) -> dict[str, Any]:
    """A status that comes with new values of the form. Their change must not clear it, as a change clears why a run failed."""
    return {"status": status} | ({} if run_state in BUSY else {"run_state": IDLE["run_state"]})


def _final_updates(services: Services, visitor: str, run: Run, last: Entry | None, saved_fields: Fields) -> dict[str, Any]:
    if run.error is None:
        forget(services.visitors, visitor, run.tab)
        if len({request.mode for request in run.requests}) > 1:
            own = next(made for made in run.images if made.request.mode == run.tab).path.name
            entry = next((each for each in services.history.entries(visitor) if each.name == own), None)
            strip = strip_updates(run.strip) if run.strip else {}
            problem = html.sentence(run.no_strip) if run.no_strip else NOT_COMPARED
            status = html.says(COMPARED) if run.strip else html.says(problem, "problem")
            return IDLE | _image_updates(services, visitor, run, entry, saved_fields) | strip | {"status": status}
        seconds = sum(made.recipe.seconds for made in run.images)  # as the captions have them
        told = prompt_notes(run.requests[0].prompt)  # under the prompt
        notes = dict.fromkeys(note for made in run.images for note in made.notes if note not in told)
        done = DONE_SEVERAL if len(run.images) > 1 else DONE
        said = Text(done, seconds=Number(f"{seconds:.1f}"), count=len(run.images))
        return IDLE | {"status": html.says(join_sentences(said, *notes))}
    back = _image_updates(services, visitor, run, last, saved_fields)
    if not isinstance(run.error, Cancelled):
        return FAILED | back | {"status": html.says(html.sentence(run.error), "problem")}
    if (step := run.stopped_at) is None or step.preview is None:
        return IDLE | back | {"status": html.says("Stopped.")}
    if len(run.requests) == 1:
        status = html.says(translate(STOPPED_AT, done=step.done, of=step.of))
    else:
        title = f" ({MODES[run.request.mode].title})" if run.request.mode != run.tab else ""  # of a comparison
        images = f"{len(run.requests)}{title}"
        status = html.says(translate(STOPPED_AT_OF_SEVERAL, done=step.done, of=step.of, number=len(run.images) + 1, images=images))
    partial = partial_entry(services.studio, run, step, run.maps.get(run.request.mode))
    remember(services.visitors, visitor, run.tab, partial)
    return IDLE | _image_updates(services, visitor, run, partial, saved_fields) | {"status": status}
