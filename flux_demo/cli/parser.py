"""The commands and their options. What there is of each for the modes (commands, ``map``, ``fetch``, map options) comes from MODES."""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Collection, Iterable
from os.path import expanduser, isfile  # of text: as a Path, neither an empty name nor ./ would be left

from flux_demo.engine.presets import PRESETS
from flux_demo.experiments.axes import axis_names
from flux_demo.experiments.cells import ASK_ABOVE
from flux_demo.maps.fit import FITS
from flux_demo.modes import MODES, Control, Mode
from flux_demo.reading import parse_number
from flux_demo.seeds import MAX_SEED
from flux_demo.settings import BACKENDS
from flux_demo.version import VERSION

ABOUT = "Images from FLUX.1 [dev], and from FLUX.1 Canny and Depth [dev], which follow a photo's edges or depth."
EPILOG = """\
Results (the path of the image) go to standard output, everything else to standard error.
Exit codes: 0 done, 2 not understood, 3 refused or failed (with the reason), 130 interrupted.
The page: python app.py. Environment variables: see the README.
"""


NUMBERS = {"--size", "--seed", "--steps", "--guidance", "--count"}  # options that are followed by one, beside those of maps


class NotUnderstood(Exception):
    """The arguments are not a command."""

    def __init__(self, sentence: str, usage: str, options: Collection[str] | None):
        super().__init__(sentence)
        self.usage = usage
        self.options = options  # those of the command; None where no command was found, or an option's value is wrong


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        about_words = self._subparsers is None and not message.startswith("argument -")
        raise NotUnderstood(f"{self.prog}: {message}", self.format_usage(), self._option_string_actions if about_words else None)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """A command refuses what it does not know itself: otherwise the program would, with its own usage."""
        known, unknown = super().parse_known_args(args, namespace)
        words = [word for word in unknown if word != "--"]
        is_text = len(words) == 1 and (unknown[0] == "--" or not words[0].startswith("-") or " " in words[0])  # by argparse's own rule
        if is_text and getattr(known, "prompt", "") is None:
            known.prompt, unknown = words[0], []  # argparse gives up a positional that may be left out as soon as an option follows PHOTO
        if unknown and self._subparsers is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def parse(arguments: list[str]) -> argparse.Namespace | None:
    """Parse the arguments; None if they asked for ``--help`` or ``--version``, which has been printed. Raises NotUnderstood."""
    try:
        return _parser("--json" in arguments).parse_args(_with_negative_values(arguments))
    except SystemExit:  # raised only for --help and --version
        return None
    except NotUnderstood as error:
        options, dashed = error.options, [argument for argument in itertools.takewhile("--".__ne__, arguments) if argument.startswith("-")]
        if file := next(filter(isfile, dashed), None):
            hint = f"{file!r} was read as an option; write it as './{file}'."
        elif options and (word := next((word for word in dashed if re.match(r"-[^-\d.]", word) and word[:2] not in options), None)):
            hint = f"{word!r} was read as an option; if it is not one, put -- before it, after all options."
        else:
            raise
        raise NotUnderstood(f"{error}. {hint}", error.usage, options) from None


def _with_negative_values(arguments: list[str]) -> list[str]:
    """``--size -16x16`` as ``--size=-16x16``, so that argparse does not take a negative value for an option. Not so after ``--``, nor after a switch."""
    controls = [mode.control for mode in MODES.values() if mode.control]
    of_maps = {f"--{option.name}" for control in controls for option in control.options if not option.is_switch}
    joined: list[str] = []
    for position, argument in enumerate(arguments):
        takes_number = joined and joined[-1] in NUMBERS | of_maps and "--" not in arguments[:position]
        if takes_number and re.match(r"-[\d.]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def number(text: str) -> int | float:
    try:
        return parse_number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def number_or_none(text: str) -> int | float | None:
    """The same of a seed, which may be empty, as on the page."""
    return number(text) if text.strip() else None


def _parser(as_json: bool) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m flux_demo",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=json.dumps({"version": VERSION}) if as_json else f"flux_demo {VERSION}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text, for errors too")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for mode in MODES.values():
        _add_generation(commands, mode)
    _add_maps(commands)
    _add_grid(commands)
    batch = _add(commands, "batch", "generate a list of requests, one per line; the same command continues where it stopped")
    batch.add_argument("file", metavar="FILE", help="a .jsonl or .csv file with a recipe's field names")
    _backend(batch)
    batch.add_argument("-o", "--output", metavar="FOLDER", help="where to keep the images (default: the outputs folder)")

    check = _add(commands, "check", "show what can run here, and why the rest cannot, before any download")
    _backend(check)
    fetch = _add(commands, "fetch", "download what the local backend needs; says the size first, and resumes")
    fetch.add_argument(
        "what", choices=(*MODES, "estimator", "filter"), help="the mode to download for, the depth estimator, or the content filter"
    )
    recipe = _add(commands, "recipe", "print the recipe in an image, as JSON")
    recipe.add_argument(
        "file", metavar="FILE.png", type=expanduser, help="an image that was generated here, or a PNG with AUTOMATIC1111's parameters"
    )
    return parser


def _add(commands, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", allow_abbrev=False)
    # SUPPRESS: otherwise the default of the command's own --json would override a --json before the command.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text")
    return parser


def _add_generation(commands, mode: Mode) -> None:
    source = f"that follows a photo's {mode.control.title.lower()}" if mode.control else "from a prompt"
    parser = _add(commands, mode.name, f"generate an image {source}")
    if mode.control:
        parser.add_argument(
            "photo",
            metavar="PHOTO",
            type=expanduser,
            help="the photo to follow: JPEG, PNG, WebP, AVIF, HEIC, TIFF, GIF, BMP, JPEG 2000 or PSD",
        )
    parser.add_argument("prompt", metavar="PROMPT", help="what the image should show")
    _add_settings(parser, mode)
    parser.add_argument(
        "--count",
        type=number,
        default=1,
        metavar="N",
        help="how many images, with consecutive seeds; -o out.png then writes out-1.png, out-2.png and so on",
    )
    _backend(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUT.png", type=expanduser, help="where to write a copy; the image is kept in the outputs folder anyway"
    )


def _add_settings(parser: argparse.ArgumentParser, mode: Mode) -> None:
    """What can be set for one image, and for all of a grid."""
    if mode.control:
        _map_options(parser, mode.control)
        parser.add_argument("--as-map", action="store_true", help="PHOTO is already the map: it is fitted to the size and never redrawn")
    _size(parser, is_map=mode.control is not None)
    parser.add_argument(
        "--seed", type=number_or_none, metavar="N", help=f"0 to {MAX_SEED}; the same seed gives the same image (default: random)"
    )
    parser.add_argument(
        "--steps",
        type=number,
        metavar="N",
        help=f"more take longer (default with local FLUX: {mode.steps}; best quality: {mode.quality_steps})",
    )
    parser.add_argument(
        "--guidance", type=number, metavar="G", help=f"how closely to follow the prompt (default with local FLUX: {mode.guidance:g})"
    )
    presets = " ".join(f"{preset.name}: {preset.changes}" for preset in PRESETS.values()).replace("%", "%%")
    parser.add_argument("--preset", metavar="NAME", help=f"how local FLUX runs, and what that changes. {presets}")


def _add_grid(commands) -> None:
    grid = _add(commands, "grid", "generate a labelled sheet of images that differ in one to three settings")
    modes = grid.add_subparsers(dest="mode", metavar="MODE", required=True)
    for mode in MODES.values():
        parser = _add(modes, mode.name, f"a grid in the {mode.name} mode")
        if mode.control:
            parser.add_argument("photo", metavar="PHOTO", type=expanduser, help="the photo to follow")
        parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what the images should show; 'a {red|blue} cube' varies it")
        parser.add_argument(
            "--vary",
            metavar="NAME=VALUES",
            action="append",
            default=[],
            help=f"across, then down, then sheet by sheet: {', '.join(axis_names(mode))}; values as 1,2,3, 1..4 or 10..30/5 (in steps of 5); "
            "for prompt a file with one prompt per line, or 'a {red|blue} cube'",
        )
        _add_settings(parser, mode)
        if mode.control:
            parser.add_argument("--maps", action="store_true", help="put each image's map under it")
        else:
            parser.set_defaults(maps=False)
        parser.add_argument("--yes", action="store_true", help=f"allow more than {ASK_ABOVE} images")
        _backend(parser)
        parser.add_argument(
            "-o", "--output", metavar="GRID.png", type=expanduser, help="where to write the sheet (default: the outputs folder)"
        )


def _add_maps(commands) -> None:
    maps = _add(commands, "map", "draw the map that a mode would follow, and nothing else")
    modes = maps.add_subparsers(dest="mode", metavar="MODE", required=True)
    for mode in MODES.values():
        if not mode.control:
            continue
        sees = mode.control.sees.removesuffix(".")
        parser = _add(modes, mode.name, f"{mode.control.title.lower()} of a photo: {sees[0].lower()}{sees[1:]}")
        parser.add_argument("photo", metavar="PHOTO", type=expanduser, help="the photo to draw a map of")
        _map_options(parser, mode.control)
        _size(parser, is_map=True)
        _backend(parser)
        parser.add_argument(
            "-o",
            "--output",
            metavar="MAP.png",
            type=expanduser,
            help=f"where to write the map (default: PHOTO-{mode.name}.png in this folder)",
        )


def _map_options(parser: argparse.ArgumentParser, control: Control) -> None:
    for option in control.options:
        if option.is_switch:
            parser.add_argument(f"--{option.name}", action="store_true", default=None, help=option.help)
        else:
            parser.add_argument(f"--{option.name}", type=number, metavar="N", help=f"{option.help} (default: {option.default:g})")
    parser.add_argument("--fit", choices=FITS, help="how to bring a photo of another shape to the size (default: crop)")


def _size(parser: argparse.ArgumentParser, *, is_map: bool) -> None:
    default = '"match", the offered size nearest the photo\'s shape' if is_map else "the first size that the backend offers"
    parser.add_argument("--size", metavar="WxH", help=f"width and height in pixels, each a multiple of 16 (default: {default})")


def _backend(parser: argparse.ArgumentParser) -> None:
    names: Iterable[str] = ("auto", *BACKENDS)
    parser.add_argument("--backend", choices=names, help="where to run (default: auto, the first backend that can)")
