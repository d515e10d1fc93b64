"""What each command does. Every function takes the parsed words and the terminal, and returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flux_demo.cli import check, output
from flux_demo.cli.terminal import Terminal, in_gb
from flux_demo.errors import DownloadFailed, InvalidRequest
from flux_demo.gallery import GeneratedImage
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.settings import Settings
from flux_demo.studio import MATCH, Studio, only_samples


def generate(asked: argparse.Namespace, terminal: Terminal) -> int:
    """text, canny, depth: the picture's path."""
    mode = MODES[asked.command]
    target = output.checked(asked.output, getattr(asked, "photo", None))
    request = GenerationRequest(mode.name, asked.prompt, seed=asked.seed, steps=asked.steps, guidance=asked.guidance, preset=asked.preset)
    size = _size(asked.size)
    if size == MATCH and mode.control is None:
        raise InvalidRequest(f"The {mode.name} mode has no photo whose shape the size could match. Give --size as WIDTHxHEIGHT.")
    studio = _studio(asked)
    output.check_folder(studio.settings.outputs_folder)
    route = studio.route(mode.name)
    sized = replace(request, size=size if isinstance(size, Size) else None)
    route.dials.complete(sized)  # what cannot be drawn here is said before the photo is looked at
    if mode.control is not None:
        if not route.dials.own_photos:
            raise only_samples(route)
        request = replace(request, control=_map(studio, asked, mode.name, terminal))
    elif isinstance(size, Size):
        request = sized
    terminal.say(f"Runs on: {route.backend.title}.")
    _say_unknown_words(route.backend.name, asked.prompt, terminal)
    image = studio.generate(request, terminal.steps, terminal.status)
    path = image.path
    if target is not None:
        output.write(target, lambda file: file.write(image.path.read_bytes()))
        path = target
    terminal.say(" ".join((_caption(image), *image.notes)))
    terminal.result(str(path), {"path": str(path), "recipe": image.recipe.to_dict(), "seconds": image.seconds})
    return 0


def draw_map(asked: argparse.Namespace, terminal: Terminal) -> int:
    """map: the map's path."""
    target = output.checked(asked.output, asked.photo)
    control = _map(_studio(asked), asked, asked.kind, terminal)
    target = target or output.beside(asked.photo, asked.kind)
    output.write(target, lambda file: control.image.save(file, format="PNG"))
    terminal.say(f"{control.size}" + (f", seen by {control.estimator}" if control.estimator else "") + ".")
    terminal.result(str(target), {"path": str(target), **_describe(control)})
    return 0


def fetch(asked: argparse.Namespace, terminal: Terminal) -> int:
    """fetch: the name of what is here now."""
    settings = Settings.from_env()
    studio = Studio.from_settings(settings)
    terminal.say_status("Asking Hugging Face for the size of the files")
    todo = studio.fetch_size(asked.what)
    free = check.free_for_downloads(settings)
    if free is not None and free < todo.bytes_left:
        raise DownloadFailed(
            f"{todo.name} needs {in_gb(todo.bytes_left)} more, and the disk has {in_gb(free)} free. Make room, or set HF_HOME to a larger disk."
        )
    if todo.bytes_left:
        terminal.say(
            f"{todo.name}: {in_gb(todo.bytes_left)} to fetch of {in_gb(todo.bytes_total)}. An interrupted download is taken up again."
        )
        studio.fetch(asked.what, terminal.bytes)
    else:
        terminal.say(f"{todo.name} is already here, {in_gb(todo.bytes_total)}.")
    values = {"what": asked.what, "name": todo.name, "bytes_total": todo.bytes_total, "bytes_fetched": todo.bytes_left}
    terminal.result(todo.name, values)
    return 0


def recipe(asked: argparse.Namespace, terminal: Terminal) -> int:
    """recipe: the recipe, as JSON in either case."""
    import json

    from flux_demo.recipe import read_recipe

    values = read_recipe(asked.file).to_dict()
    terminal.result(json.dumps(values, indent=2, ensure_ascii=False), values)
    return 0


def _studio(asked: argparse.Namespace) -> Studio:
    settings = Settings.from_env()
    return Studio.from_settings(replace(settings, backend=asked.backend) if asked.backend else settings)


def _size(text: str | None) -> Size | str:
    return MATCH if text == MATCH else Size.parse(text) if text is not None else ""


def _map(studio: Studio, asked: argparse.Namespace, mode: str, terminal: Terminal) -> ControlMap:
    from flux_demo.maps.photo import looks_like_map, open_photo

    size = _size(asked.size) or MATCH
    photo = open_photo(asked.photo)
    control = MODES[mode].control
    assert control is not None
    given = {option.name: getattr(asked, option.name) for option in control.options}
    given = {name: value for name, value in given.items() if value is not None}
    if getattr(asked, "as_map", False):
        if given:
            raise InvalidRequest(
                f"--as-map takes the file as the map that it is, and --{next(iter(given))} would draw it anew. Leave one of them out."
            )
        return studio.as_map(mode, photo, size, asked.fit)
    if looks_like_map(photo) and asked.command != "map":
        terminal.say("The photo looks like a map already. If it is one, add --as-map, and it is followed as it is.")
    terminal.say_status("Looking at the photo")
    return studio.preview(mode, photo, size, asked.fit, **given)


def _describe(control: ControlMap) -> Mapping[str, Any]:
    return {
        "kind": control.kind,
        "width": control.size.width,
        "height": control.size.height,
        "fit": control.fit,
        "options": dict(control.options),
        "estimator": control.estimator,
        "sha256": control.sha256,
    }


def _caption(image: GeneratedImage) -> str:
    made = image.recipe
    return f"{made.width}x{made.height}, seed {made.seed}, {made.steps} steps, guidance {made.guidance:g}, {image.seconds:.1f} s."


def _say_unknown_words(backend: str, prompt: str, terminal: Terminal) -> None:
    """The mini knows few words; which of the prompt's it does not is worth a line before the wait."""
    if backend != "mini":
        return
    from flux_demo.mini_vocabulary import unknown_words, what_it_knows

    unknown = unknown_words(prompt)
    if unknown:
        terminal.say(f"The mini does not know: {', '.join(unknown[:8])}. {what_it_knows()}")


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Terminal], int]] = {
    "map": draw_map,
    "check": check.check,
    "fetch": fetch,
    "recipe": recipe,
}


def run_command(asked: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command that was parsed; the name of a mode generates an image."""
    return COMMANDS.get(asked.command, generate)(asked, terminal)
