"""What can be typed. One command per row of MODES, and the options of its map from the same table."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable

from flux_demo.maps.fit import FITS
from flux_demo.modes import MODES, Control, Mode
from flux_demo.request import MAX_SEED
from flux_demo.settings import BACKENDS
from flux_demo.version import VERSION

ABOUT = "Pictures from FLUX.1 [dev], and from FLUX.1 Canny and Depth [dev] that follow a photo's edges or depth."
EPILOG = """\
Results go to standard output (the path of the picture), all else to standard error.
Exit codes: 0 done, 2 not understood, 3 refused or failed (with the reason), 130 interrupted.
The page: python app.py. Environment variables: see the README.
"""


class NotUnderstood(Exception):
    """The arguments are not a command."""

    def __init__(self, sentence: str, usage: str):
        super().__init__(sentence)
        self.usage = usage


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise NotUnderstood(f"{self.prog}: {message}", self.format_usage())


def parse(arguments: list[str]) -> argparse.Namespace | None:
    """Read the command; None when ``--help`` or ``--version`` was asked for and printed. Raises NotUnderstood."""
    try:
        return _parser().parse_args(_glued(arguments))
    except SystemExit:  # only help and version leave this way
        return None


def _glued(arguments: list[str]) -> list[str]:
    """``--size -16x16`` as ``--size=-16x16``: a value below zero is refused as a size, not taken for an option."""
    glued: list[str] = []
    for argument in arguments:
        if glued and re.fullmatch(r"--[a-z]+", glued[-1]) and re.match(r"-[\d.]", argument):
            glued[-1] += f"={argument}"
        else:
            glued.append(argument)
    return glued


def number(text: str) -> int | float:
    """A number of any size: whether it can be used is for the request to say."""
    if "_" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m flux_demo",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"flux_demo {VERSION}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text, for errors too")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for mode in MODES.values():
        _add_generation(commands, mode)
    _add_maps(commands)

    check = _add(commands, "check", "what can run here and why not, before any download")
    _backend(check)
    fetch = _add(commands, "fetch", "download what the local backend needs; says the size first, and resumes")
    fetch.add_argument("what", choices=(*MODES, "estimator"), help="the mode to fetch for, or the depth estimator")
    recipe = _add(commands, "recipe", "print the recipe that a picture carries, as JSON")
    recipe.add_argument("file", metavar="FILE.png", help="a picture that was made here")
    return parser


def _add(commands, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", allow_abbrev=False)
    # SUPPRESS: the default of a command's own --json would undo a --json before the command.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object instead of text")
    return parser


def _add_generation(commands, mode: Mode) -> None:
    purpose = f"draw a picture that follows a photo's {mode.title.lower()}" if mode.control else "draw a picture from a prompt"
    parser = _add(commands, mode.name, purpose)
    if mode.control:
        parser.add_argument("photo", metavar="PHOTO", help="the photo to follow, of any format that Pillow reads")
    parser.add_argument("prompt", metavar="PROMPT", help="what the picture shows")
    if mode.control:
        _map_options(parser, mode.control)
        parser.add_argument("--as-map", action="store_true", help="PHOTO is itself the map: fitted to the size, never redrawn")
    _size(parser, is_map=mode.control is not None)
    parser.add_argument("--seed", type=number, metavar="N", help=f"0 to {MAX_SEED}; the same seed gives the same picture (default: random)")
    parser.add_argument("--steps", type=number, metavar="N", help=f"more take longer (default: {mode.steps}; best: {mode.quality_steps})")
    parser.add_argument("--guidance", type=number, metavar="G", help=f"how closely to follow the prompt (default: {mode.guidance:g})")
    parser.add_argument("--preset", metavar="NAME", help="how fast and how exact local FLUX runs")
    _backend(parser)
    parser.add_argument("-o", "--output", metavar="OUT.png", help="where to write the picture (default: the outputs folder)")


def _add_maps(commands) -> None:
    maps = _add(commands, "map", "draw the map that a mode would follow, and nothing else")
    kinds = maps.add_subparsers(dest="kind", metavar="KIND", required=True)
    for mode in MODES.values():
        if not mode.control:
            continue
        parser = _add(kinds, mode.name, f"{mode.control.title.lower()} of a photo: {mode.control.sees[0].lower()}{mode.control.sees[1:]}")
        parser.add_argument("photo", metavar="PHOTO", help="the photo to look at")
        _map_options(parser, mode.control)
        _size(parser, is_map=True)
        _backend(parser)
        parser.add_argument(
            "-o", "--output", metavar="MAP.png", help=f"where to write the map (default: PHOTO-{mode.name}.png in this folder)"
        )


def _map_options(parser: argparse.ArgumentParser, control: Control) -> None:
    for option in control.options:
        if option.is_switch:
            parser.add_argument(f"--{option.name}", action="store_true", default=None, help=option.help)
        else:
            parser.add_argument(f"--{option.name}", type=number, metavar="N", help=f"{option.help} (default: {option.default:g})")
    parser.add_argument("--fit", choices=FITS, default="crop", help="how a photo of another shape meets the size (default: crop)")


def _size(parser: argparse.ArgumentParser, *, is_map: bool) -> None:
    default = 'the preset nearest the photo\'s shape, "match"' if is_map else "the first preset of where it runs"
    parser.add_argument("--size", metavar="WxH", help=f"width and height in pixels, each a multiple of 16 (default: {default})")


def _backend(parser: argparse.ArgumentParser) -> None:
    names: Iterable[str] = ("auto", *BACKENDS)
    parser.add_argument("--backend", choices=names, help="where to run (default: auto, the first that can)")
