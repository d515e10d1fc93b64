"""The page's API: typed endpoints made from MODES. Their names, parameters and defaults are fixed; programs call them.

Gradio reads a function's signature and does not check the values that arrive: everything is checked here.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import Parameter, Signature, isgeneratorfunction
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.gallery import GeneratedImage
from flux_demo.maps.notes import map_notes, photo_notes
from flux_demo.maps.photo import open_photo
from flux_demo.modes import MATCH, MODES, Mode, Option
from flux_demo.parameters import settings_in
from flux_demo.progress import Step
from flux_demo.reading import parse_size
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.studio import Studio
from flux_demo.texts import join_sentences
from flux_demo.ui import html
from flux_demo.ui.files import DrawnFrom, ShownMap, address, keep_map, publish_kept, received
from flux_demo.ui.generate import request_of
from flux_demo.ui.run import MAX_RUNS, follow
from flux_demo.ui.translation import translate
from flux_demo.ui.visitor_store import VisitorStore

NOT_FROM_A_FORM = DrawnFrom(None, None, None, False, ())
KNOWN_MAPS = 1000  # the last that were drawn: an image that follows one of them says how it was drawn
IMAGE_AND_RECIPE = Iterator[tuple[gr.FileData, dict]]


def _meaning(option: Option) -> str:
    return f"{option.label}: {option.help}." + ("" if option.is_switch else f" {option.minimum:g} to {option.maximum:g}.")


# What a language model reads about each parameter when it calls the endpoint as a tool.
PARAMETER_DOCS = {
    "prompt": "What the image shows, in English, in a sentence or a few phrases.",
    "size": 'Width and height in pixels, such as "1024x768", multiples of 16; empty or "match" for the default.',
    "seed": "A whole number from 0 to 4294967295 as text; the same seed gives the same image. Empty for a random one.",
    "steps": "How many denoising steps; more take longer. Leave it out for the default.",
    "guidance": "How closely the image follows the prompt. Leave it out for the default.",
    "photo": "The photo: an address that a tool of this page returned, or a data: URI in base64.",
    "map": "The map to follow, as the map's tool returned it: its address, or a data: URI in base64.",
    "picture": "A PNG that was generated here, or by a program that writes as AUTOMATIC1111 does: its address, or a data: URI in base64.",
    "fit": "What to do where the photo has another shape than the size: crop, pad or stretch.",
}


def _parameter(name: str, kind: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


PROMPT = _parameter("prompt", str)
DIALS = (_parameter("seed", str, ""), _parameter("steps", int | None, None), _parameter("guidance", float | None, None))


def add_api(studio: Studio, visitors: VisitorStore) -> None:
    """Add the endpoints to the page that is being built."""
    drawn: deque[ShownMap] = deque(maxlen=KNOWN_MAPS)
    runs = {mode.name: _generation(studio, visitors, mode, drawn) for mode in MODES.values()}
    maps = {f"{mode.name}_map": _map_drawing(studio, mode, drawn) for mode in MODES.values() if mode.control}

    read = {endpoint.__name__: endpoint for endpoint in (_restore(), _status(studio))}
    for group, at_once, endpoints in (("run", MAX_RUNS, runs), ("map", 2, maps), ("read", 4, read)):
        for name, endpoint in endpoints.items():
            gr.api(endpoint, api_name=name, concurrency_id=group, concurrency_limit=at_once)


def _restore() -> Callable:
    def restore(picture: Any) -> dict:
        settings, notes = settings_in(received(picture))
        _tell(notes)
        return settings

    about = "Read the recipe that an image made here carries, or the settings in an image of another program that can be used here."
    return _endpoint(restore, "restore", about, dict, _parameter("picture", gr.FileData))


def _status(studio: Studio) -> Callable:
    return _endpoint(studio.status, "status", "Where each mode runs and why, and what can be asked for.", dict)


def _generation(studio: Studio, visitors: VisitorStore, mode: Mode, drawn: deque[ShownMap]) -> Callable:
    """The endpoint that generates: ``prompt, size, seed, steps, guidance``, or with ``map`` in place of the size."""
    control = mode.control

    def generate(**given: Any) -> Iterator[tuple[dict | None, dict]]:
        control_map = _given_map(studio, mode, given["map"], drawn) if control else None
        limits = studio.route(mode.name).dials.size_limits
        size = None if control else parse_size(_size_text(given["size"]), limits=limits)
        request = request_of(mode, given["prompt"], given["seed"], given["steps"], given["guidance"], None, size, control_map)
        yield from _run(studio, visitors, request)

    if control is None:
        about = 'Generate an image from a prompt. Size is "WIDTHxHEIGHT"; whatever is left out takes the defaults; an empty seed is random.'
        return _endpoint(generate, mode.name, about, IMAGE_AND_RECIPE, PROMPT, _parameter("size", str, ""), *DIALS)
    about = f"Generate an image that follows a {control.kind} map, in the map's size. An empty seed is random."
    return _endpoint(generate, mode.name, about, IMAGE_AND_RECIPE, PROMPT, _parameter("map", gr.FileData), *DIALS)


def _map_drawing(studio: Studio, mode: Mode, drawn: deque[ShownMap]) -> Callable:
    """The endpoint that draws a map: ``photo, size, fit`` and the options of the mode's control."""
    control = mode.control
    assert control

    def draw(**given: Any) -> gr.FileData:
        photo, size, fit = received(given.pop("photo")), _size_text(given.pop("size")), given.pop("fit")
        control_map = studio.preview(mode.name, photo, size or MATCH, "crop" if fit in (None, "") else fit, **given)
        _tell(map_notes(control_map))
        drawn.append(shown := keep_map(control_map, NOT_FROM_A_FORM))
        return gr.FileData(path=shown.path)

    options = [_parameter(option.name, bool if option.is_switch else float, option.default) for option in control.options]
    means = PARAMETER_DOCS | {option.name: _meaning(option) for option in control.options}
    about = f"Draw the {control.kind} map of a photo: PNG, RGB, exactly what /{mode.name} follows. {control.sees}"
    photo, size, fit = _parameter("photo", gr.FileData), _parameter("size", str, MATCH), _parameter("fit", str, "crop")
    return _endpoint(draw, f"{mode.name}_map", about, gr.FileData, photo, size, fit, *options, means=means)


def _endpoint(
    handler: Callable, name: str, about: str, returns: Any, *parameters: Parameter, means: Mapping[str, str] = PARAMETER_DOCS
) -> Callable:
    """``handler(**values)`` as a function of exactly these parameters, whose names and types Gradio's clients see, and whose errors are
    sentences for the people who use them.
    """
    signature = Signature(list(parameters), return_annotation=returns)

    def arguments(values: tuple) -> dict[str, Any]:
        bound = signature.bind(*values)
        bound.apply_defaults()
        return bound.arguments

    def call(*values: Any) -> Any:
        with _errors_in_words():
            return handler(**arguments(values))

    def stream(*values: Any) -> Any:
        with _errors_in_words():
            yield from handler(**arguments(values))

    endpoint: Any = stream if isgeneratorfunction(handler) else call
    lines = "".join(f"\n    {each.name}: {means.get(each.name, each.name)}" for each in parameters)
    endpoint.__name__, endpoint.__doc__, endpoint.__signature__ = name, f"{about}\n\nArgs:{lines}" if lines else about, signature
    endpoint.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": returns}
    return endpoint


@contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise gr.Error(html.sentence(error), print_exception=False) from None


def _run(studio: Studio, visitors: VisitorStore, request: GenerationRequest) -> Iterator[tuple[dict | None, dict]]:
    """Follow a run: the last pair is the image and its recipe, earlier ones say how far it is, again at every heartbeat."""
    latest: tuple[dict | None, dict] = (None, {})
    events = follow(studio, request)
    try:
        for event in events:
            if isinstance(event, GeneratedImage):
                visitors.add_unclaimed(event.path, event.recipe)
                _tell(event.notes)
                latest = (address(publish_kept(event.path), "image/png"), event.recipe.to_dict())
            elif isinstance(event, Step):
                latest = (None, {"step": event.done, "of": event.of})
            yield latest
    finally:
        events.close()


def _tell(notes: Sequence[str]) -> None:
    """Say what a program should know beside the result. It arrives as one status of the job, with the text as its log."""
    if notes:
        gr.Warning(translate(join_sentences(*notes)))


def _given_map(studio: Studio, mode: Mode, uploaded: Any, drawn: deque[ShownMap]) -> ControlMap:
    """A map as it was uploaded, and how it was drawn if it was drawn here.

    One that the route cannot follow is refused by its header, before it is decoded.
    """
    assert mode.control
    limits = studio.route(mode.name).dials.size_limits

    def check(width: int, height: int) -> None:
        try:
            limits.check(Size(width, height))
        except InvalidRequest as error:
            why = "The map has {size} pixels, and so would the image. {reason} Scale or crop the map, for example to {nearest}."
            raise InvalidRequest(why, size=f"{width}x{height}", reason=error.text, nearest=limits.nearest(width, height)) from error

    image = open_photo(received(uploaded), check)
    given = ControlMap(mode.control.kind, image, notes=photo_notes(image, Size(*image.size), "crop"))
    wanted = given.kind, given.sha256
    known = next((each for each in reversed([*drawn]) if (each.kind, each.sha256) == wanted), None)
    return replace(given, options=known.options, fit=known.fit, estimator=known.estimator) if known else given


def _size_text(size: Any) -> str:
    """ "WIDTHxHEIGHT" or "match"; anything else goes to the parser, which says what is wrong with it."""
    return "" if size is None else size.strip() if isinstance(size, str) else shortened(size)
