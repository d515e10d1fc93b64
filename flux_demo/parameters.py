"""AUTOMATIC1111's ``parameters``, as other programs write them into their PNGs: what they share with a request here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.recipe import MAX_CHUNK, PARAMETERS, NoRecipe, read_recipe
from flux_demo.request import Size
from flux_demo.seeds import MAX_SEED
from flux_demo.texts import Text, join_listed

OF_ANOTHER_PROGRAM = "Another program wrote these settings. They are those that both programs share."
NO_NEGATIVE_PROMPT = "Its negative prompt is left out: FLUX.1 [dev] takes none."
LEFT_OUT = "What cannot be used here is left out: {names}."

RANDOM = "-1"  # AUTOMATIC1111's seed for one
SETTING = re.compile(
    r'(\w[\w ]{0,80}):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)'
)  # a name is short: a long one would be tried from each letter on


@dataclass(frozen=True)
class SharedSettings:
    """What another program's PNG says about its image; None for what it does not say, or what cannot be used here."""

    prompt: str
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: Size | None = None
    has_negative_prompt: bool = False  # which FLUX.1 [dev] has no use for
    unusable: tuple[str, ...] = ()  # of the fields above those that it says something of, and nothing that can be used


def read_parameters(source: str | os.PathLike) -> SharedSettings:
    """The settings in a PNG of AUTOMATIC1111 or of a program that writes as it does. Raises InvalidPicture, NoRecipe."""
    from flux_demo.maps.photo import open_png_text

    text = open_png_text(Path(source)).get(PARAMETERS, "")
    if not text or len(text) > MAX_CHUNK or "Steps:" not in text:
        raise NoRecipe("This file has no settings. Choose the original PNG, not one that another program has saved again.")
    return parse_parameters(text)


def settings_in(source: str | os.PathLike) -> tuple[dict[str, Any], list[str]]:
    """The recipe in a PNG, or what another program's PNG shares with one; and sentences about the latter. Raises InvalidPicture, NoRecipe."""
    try:
        return read_recipe(source).to_dict(), []
    except NoRecipe as error:
        try:
            shared = read_parameters(source)
        except NoRecipe:
            raise error from None
    size = {"width": shared.size.width, "height": shared.size.height} if shared.size else {}
    found = {"mode": "text", "prompt": shared.prompt, "seed": shared.seed, "steps": shared.steps, "guidance": shared.guidance, **size}
    notes = [OF_ANOTHER_PROGRAM]
    notes += [NO_NEGATIVE_PROMPT] if shared.has_negative_prompt else []
    notes += [Text(LEFT_OUT, names=join_listed(shared.unusable))] if shared.unusable else []
    return {name: value for name, value in found.items() if value is not None}, notes


def parse_parameters(text: str) -> SharedSettings:
    """Read the text: the prompt's lines, perhaps a negative prompt's, then one line of settings. Extensions add lines, which are left out."""
    lines = text.strip().replace("\r\n", "\n").split("\n")
    at = max((number for number, line in enumerate(lines) if line.lstrip().startswith("Steps:")), default=len(lines))
    prompt, _, negative = ("\n" + "\n".join(lines[:at])).partition("\nNegative prompt:")  # without a prompt, it is the first line
    given = {name.strip().lower(): value.strip() for name, value in SETTING.findall("".join(lines[at : at + 1]))}
    given["guidance"] = given.get("distilled cfg scale", "")  # "cfg scale" is another quantity, which FLUX.1 [dev] does not have
    guidance = _number(given["guidance"])
    seed, steps, size = _whole(given.get("seed"), MAX_SEED), _whole(given.get("steps"), 1000), _size(given.get("size"))
    read = {"seed": seed, "size": size, "steps": steps, "guidance": guidance}
    unusable = tuple(name for name, value in read.items() if value is None and given.get(name) not in (None, "", RANDOM))
    return SharedSettings(prompt.strip(), seed, steps, guidance, size, bool(negative.strip()), unusable)


def _whole(text: str | None, largest: int) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= largest else None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,4}(\.\d{1,20})?", text) else None


def _size(text: str | None) -> Size | None:
    try:
        return Size.parse(text) if text else None
    except InvalidRequest:
        return None
