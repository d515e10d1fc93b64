"""What each command does. Every function takes the parsed arguments and the terminal, and returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flux_demo.backends.control_checks import only_samples_error
from flux_demo.cli import check, experiments, output
from flux_demo.cli.terminal import KEPT, Terminal, in_gb
from flux_demo.errors import DownloadFailed, InvalidRequest
from flux_demo.exit_codes import DONE, REFUSED
from flux_demo.gallery import GeneratedImage
from flux_demo.maps.notes import EMPTY, estimator_note, map_notes
from flux_demo.modes import MATCH, Control, Mode, find_mode
from flux_demo.reading import parse_size
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.seeds import with_consecutive_seeds
from flux_demo.settings import Settings
from flux_demo.streams import takes_any_text
from flux_demo.studio import Studio
from flux_demo.texts import distinct_numbers

MOST = 100  # images of one command; more are a list, see batch


def generate(args: argparse.Namespace, terminal: Terminal) -> int:
    """A mode's name: generate one image or several. The result is their paths."""
    mode = find_mode(args.command)
    request = GenerationRequest(mode.name, args.prompt, seed=args.seed, steps=args.steps, guidance=args.guidance, preset=args.preset)
    requests = with_consecutive_seeds(request, args.count, MOST)
    targets = _targets(args, args.photo if mode.control else None)
    studio = Studio.from_settings(Settings.from_env(backend=args.backend))
    studio.gallery.check()
    route = studio.route(mode.name)
    size = parse_size(args.size, mode, route.dials.size_limits)
    sized = replace(request, size=size if isinstance(size, Size) else None)
    route.dials.complete(sized)  # refuses what cannot be generated here before the photo is opened
    if mode.control is not None:
        if not route.dials.own_photos:
            raise only_samples_error(route)
        control = _map(studio, args, mode, mode.control, terminal)
        requests = [replace(each, control=control) for each in requests]
    else:
        requests = [replace(each, size=sized.size) for each in requests]
    terminal.say_where(route)
    unknown = route.prompt_notes(args.prompt, mode)
    for sentence in unknown:  # before the person waits for an image without them
        terminal.say(sentence)
    told = (*unknown, *(control.notes if mode.control else ()))
    made: list[dict[str, Any]] = []
    if args.count > 1:
        terminal.done = {"images": made}
    code = DONE
    for each, target in zip(requests, targets, strict=True):
        image = studio.generate(each, terminal.steps, terminal.status)
        terminal.say(" ".join((_caption(image), *(note for note in image.notes if note not in told))))
        kept = output.path_as_named(image, studio)
        made.append({"path": str(kept), "recipe": image.recipe.to_dict(), "seconds": image.seconds, "notes": list(image.notes)})
        if target is not None:
            try:
                _copy(image, target)
                made[-1]["path"] = str(target)
            except InvalidRequest as error:
                terminal.say(f"{error} The image is kept as {kept}.")
                made[-1]["error"] = str(error)
                code = REFUSED
        if args.count == 1:
            terminal.file(made[0]["path"], made[0])
        elif not terminal.as_json:
            terminal.line(made[-1]["path"])
    if args.count > 1 and terminal.as_json:
        terminal.result("", terminal.done, KEPT)
    return code


def _copy(image: GeneratedImage, target: Path) -> None:
    output.write(target, lambda file: file.write(image.path.read_bytes()))


def _targets(args: argparse.Namespace, photo: str | None) -> list[Path | None]:
    """Where each image is written besides the outputs folder: ``-o``, with the image's number if there are several. Raises InvalidRequest."""
    if args.count == 1:
        return [output.check_target(args.output, photo)]
    named = output.check_target(args.output)
    if named is None:
        return [None] * args.count
    return [output.check_target(str(named.with_stem(f"{named.stem}-{number}")), photo) for number in range(1, args.count + 1)]


def draw_map(args: argparse.Namespace, terminal: Terminal) -> int:
    """map: draw the map that a mode would follow. The result is its path."""
    mode = find_mode(args.mode)
    assert mode.control is not None  # the parser offers no other modes
    target = output.check_target(args.output, args.photo)
    control = _map(Studio.from_settings(Settings.from_env(backend=args.backend)), args, mode, mode.control, terminal)
    fill = partial(control.image.save, format="PNG")
    if target is None:
        target = output.write_beside(args.photo, mode.name, fill)
    else:
        output.write(target, fill)
    terminal.say(f"{control.size}.")
    if control.is_empty:
        terminal.say(EMPTY)
    terminal.file(str(target), {"path": str(target), **_describe(control), "notes": list(map_notes(control))})
    return DONE


def fetch(args: argparse.Namespace, terminal: Terminal) -> int:
    """fetch: download model files. The result is the model's name."""
    settings = Settings.from_env()
    studio = Studio.from_settings(settings)
    terminal.say_status("Asking Hugging Face for the size of the files")
    todo = studio.fetch_size(args.what)
    free = check.free_for_downloads()
    if free is not None and free < todo.bytes_left:
        needed, there = distinct_numbers(todo.bytes_left / 1e9, free / 1e9, 1)
        raise DownloadFailed(
            f"{todo.name} needs {needed} GB more, and the disk has {there} GB free. "
            "Free some space, or set HF_HOME or HF_HUB_CACHE to a larger disk."
        )
    if todo.bytes_left:
        terminal.say(
            f"{todo.name}: {in_gb(todo.bytes_left)} of {in_gb(todo.bytes_total)} to fetch. "
            "An interrupted download continues where it stopped."
        )
        studio.fetch(args.what, terminal.bytes)
    else:
        terminal.say(f"{todo.name} is already here, {in_gb(todo.bytes_total)}.")
    values = {"what": args.what, "name": todo.name, "bytes_total": todo.bytes_total, "bytes_fetched": todo.bytes_left}
    terminal.result(todo.name, values)
    return DONE


def recipe(args: argparse.Namespace, terminal: Terminal) -> int:
    """recipe: the recipe in a PNG file, or another program's settings, as JSON with or without ``--json``."""
    import json

    from flux_demo.parameters import settings_in

    values, notes = settings_in(args.file)
    for sentence in notes:
        terminal.say(sentence)
    return DONE if terminal.result(json.dumps(values, indent=2, ensure_ascii=not takes_any_text()), values) else REFUSED


def _map(studio: Studio, args: argparse.Namespace, mode: Mode, control: Control, terminal: Terminal) -> ControlMap:
    """The map of the photo that the arguments name, with what the person may not expect of it said."""
    drawn = _drawn_or_given(studio, args, mode, control, terminal)
    for sentence in drawn.notes:
        terminal.say(sentence)
    return drawn


def _drawn_or_given(studio: Studio, args: argparse.Namespace, mode: Mode, control: Control, terminal: Terminal) -> ControlMap:
    """The map drawn with the options in the arguments; or the photo itself with ``--as-map``."""
    from flux_demo.maps.photo import looks_like_map, open_photo

    size = parse_size(args.size) or MATCH
    photo = open_photo(args.photo)
    options = {option.name: getattr(args, option.name) for option in control.options}
    options = {name: value for name, value in options.items() if value is not None}
    as_map = getattr(args, "as_map", None)  # None: a command without that option
    if as_map:
        if options:
            raise InvalidRequest(
                f"--as-map uses the file as the map, but --{next(iter(options))} is for drawing one. Leave one of them out."
            )
        return studio.as_map(mode.name, photo, size, args.fit or "crop")
    if as_map is not None and (look := looks_like_map(photo)):
        way = "invert it to white lines on black and add" if look == "inverted canny" else "add"
        terminal.say(f"The photo already looks like a map. If it is one, {way} --as-map to use it as is.")
    terminal.say_status("Drawing the map")
    drawn = studio.preview(mode.name, photo, size, args.fit or "crop", **options)
    if drawn.estimator:
        terminal.say(estimator_note(drawn.estimator))
    return drawn


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
    used = [
        f"seed {made.seed}" if made.seed is not None else "",
        f"{made.steps} step{'s' * (made.steps != 1)}" if made.steps is not None else "",
    ]
    used.append(f"guidance {made.guidance:g}" if made.guidance is not None else "")
    return ", ".join(filter(None, (f"{made.width}x{made.height}", *used, made.safety, f"{image.seconds:.1f} s.")))


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Terminal], int]] = {
    "map": draw_map,
    "check": check.check,
    "fetch": fetch,
    "recipe": recipe,
    "grid": experiments.grid,
    "batch": experiments.batch,
}


def run_command(args: argparse.Namespace, terminal: Terminal) -> int:
    """Run the parsed command. A command that is not in the table is the name of a mode."""
    return COMMANDS.get(args.command, generate)(args, terminal)
