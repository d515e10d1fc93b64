"""What a grid varies: axes and their values, read from ``NAME=VALUES``. Pure data: knows no studio and no image."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.maps.fit import FITS
from flux_demo.modes import Mode
from flux_demo.prompts import MAX_PROMPT, is_blank
from flux_demo.reading import parse_size
from flux_demo.request import python_number
from flux_demo.seeds import parse_seed
from flux_demo.settings import expanded

MAX_VALUES = 10_000  # of one axis
REQUEST_AXES = ("seed", "steps", "guidance", "size", "prompt", "preset", "model")
RANGE = re.compile(r"(?P<first>-?[\d.]*\d)\.\.(?P<last>-?[\d.]*\d)(?:/(?P<step>-?[\d.]*\d))?", re.ASCII)
CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")


@dataclass(frozen=True)
class Axis:
    """One thing that varies."""

    name: str
    values: tuple[Any, ...]  # at least one, none twice
    labels: tuple[str, ...]  # one for each value
    template: str = ""  # of prompts: what they were made from

    def label(self, i: int) -> str:
        """What a sheet says of the value: ``guidance 3.5``, and of prompts and modes only the words."""
        return self.labels[i] if self.name in ("prompt", "mode") else f"{self.name} {self.labels[i]}"

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> Axis:
        """An axis of values that are already parsed. Raises InvalidRequest when it is empty or has a value twice."""
        values = [python_number(value) for value in values]
        if any(hasattr(value, "shape") for value in values):
            raise InvalidRequest(f"The values of {name} are a table. Give one row of them.")
        return _axis(name, values, [f"{value:g}" if isinstance(value, float) else str(value) for value in values])


def axis_names(mode: Mode) -> tuple[str, ...]:
    """What a grid of that mode can vary."""
    return REQUEST_AXES + (("fit", *(option.name for option in mode.control.options)) if mode.control else ())


def parse_axes(mode: Mode, vary: Mapping[str, Any] | Iterable[str]) -> tuple[Axis, ...]:
    """Read axes from texts ``"guidance=2.5,3.5"``, or from a mapping of names to such texts or to lists of values. Raises InvalidRequest."""
    axes = tuple(_parse(mode, name, values) for name, values in _pairs(vary))
    for axis in axes:
        if sum(other.name == axis.name for other in axes) > 1:
            raise InvalidRequest(f"The axis {axis.name} is given twice. Put all its values into one.")
    return axes


def parse_template(template: str) -> Axis:
    """The prompts of ``a {red|blue} {cube|ball}``; each label is what was chosen. Raises InvalidRequest."""
    parts = CHOICE.split(template)  # text, choices, text, choices, …, text
    choices = [[choice.strip() for choice in part.split("|")] for part in parts[1::2]]
    count = 1
    for each in choices:
        count *= len(each)
    _check_count("prompt", count)
    values, labels = [], []
    for chosen in itertools.product(*choices):
        woven = itertools.zip_longest(parts[::2], chosen, fillvalue="")
        values.append(" ".join("".join(itertools.chain.from_iterable(woven)).split()))
        labels.append(", ".join(choice or "(nothing)" for choice in chosen) if choices else values[-1])
    if any(map(is_template, values)):
        raise InvalidRequest(f"{shortened(template)} has alternatives inside alternatives. Write them side by side, as {{a|b|c}}.")
    return replace(_axis("prompt", values, labels), template=template)


def is_template(prompt: str) -> bool:
    """Whether a prompt has alternatives: ``{red|blue}``."""
    return CHOICE.search(prompt) is not None


def _pairs(vary: Any) -> list[tuple[str, Any]]:
    if isinstance(vary, Mapping):
        return list(vary.items())
    if isinstance(vary, str):
        return [_pair(vary)]
    if isinstance(vary, Sequence) and all(isinstance(text, str) for text in vary):
        return [_pair(text) for text in vary]
    raise InvalidRequest(
        'What varies cannot be read. Give a dict, such as {"guidance": [2.5, 3.5], "seed": "1..4"}, or texts, such as "seed=1..4".'
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals:
        raise InvalidRequest(f"{text[:60]!r} does not say what to vary. Write NAME=VALUES, for example seed=1,2,3,4.")
    return name.strip(), values


def _parse(mode: Mode, name: str, values: Any) -> Axis:
    if name not in axis_names(mode):
        raise InvalidRequest(f"{shortened(name)} cannot be varied in the {mode.name} mode. Vary one of {', '.join(axis_names(mode))}.")
    if isinstance(values, os.PathLike):
        values = os.fspath(values)
    if not isinstance(values, str | Iterable):
        raise InvalidRequest(f"The axis {name} is {shortened(values)}. Give a list of values, or a text such as 1,2,3.")
    if not isinstance(values, str):
        return Axis.of(name, [parse_size(value, mode) if name == "size" else value for value in values])
    if name == "prompt":
        return _prompts(values)
    if name == "size":
        return Axis.of(name, [parse_size(word, mode) for word in _words(name, values)])
    if name in ("preset", "model"):
        return Axis.of(name, _words(name, values))
    if name == "fit":
        return Axis.of(name, [_one_of(name, word, FITS) for word in _words(name, values)])
    switches = {option.name for option in mode.control.options if option.is_switch} if mode.control else set()
    if name in switches:
        return Axis.of(name, [_one_of(name, word, ("false", "true")) == "true" for word in _words(name, values)])
    numbers = [number for word in _words(name, values) for number in _numbers(name, word)]
    return Axis.of(name, numbers)


def _words(name: str, values: str) -> list[str]:
    words = [word.strip() for word in values.split(",")]
    if not all(words):
        raise InvalidRequest(f"The values of {name} have a gap: {values[:60]!r}. Write them with one comma between two, as {name}=A,B.")
    return words


def _one_of(name: str, word: str, allowed: Sequence[str]) -> str:
    if word not in allowed:
        raise InvalidRequest(f"{word[:40]!r} is not a value of {name}. Use {' or '.join(allowed)}.")
    return word


def _numbers(name: str, word: str) -> list[int | float]:
    """One number, or those of a range ``1..4`` or ``10..30/5``, whose step follows the slash. Whether they can be used is for the request to say."""
    found = RANGE.fullmatch(word)
    if not found:
        return [parse_seed(word) or 0] if name == "seed" else [_number(_decimal(name, word))]
    first, last = _decimal(name, found["first"]), _decimal(name, found["last"])
    step = _decimal(name, found["step"]) if found["step"] else Decimal(1)
    if step <= 0 or last < first:
        raise InvalidRequest(f"The range {word!r} of {name} is empty. Write the smaller number first, and a step above 0, as in 10..30/5.")
    count = int((last - first) / step) + 1
    _check_count(name, count)
    return [_number(first + step * i) for i in range(count)]


def _decimal(name: str, text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value) > 10**12 or "_" in text or not text.isascii():
        raise InvalidRequest(f"{text[:40]!r} is not a number that {name} can take. Write numbers as 1,2,3, or a range as 1..4 or 10..30/5.")
    return value


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _prompts(values: str) -> Axis:
    """The lines of a file, or the alternatives of a template."""
    path = expanded(values)
    if "\0" in values or not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        if path.suffix.lower() in (".txt", ".csv", ".md") and (" " not in values or os.sep in values):
            raise InvalidRequest(
                f"There is no file of prompts {path.name!r}. Check the name, or write the prompts as 'a {{red|blue}} cube'."
            )
        return parse_template(values)
    try:
        if path.stat().st_size > MAX_VALUES * MAX_PROMPT:
            raise InvalidRequest(f"{path.name!r} is far too large to be a list of prompts. Give a text file with one prompt per line.")
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"The file of prompts {path.name!r} cannot be read. Save it as UTF-8 text, one prompt per line.") from error
    return Axis.of("prompt", [line.strip() for line in text.splitlines() if not is_blank(line)])


def _axis(name: str, values: Sequence[Any], labels: Sequence[str]) -> Axis:
    if not values:
        raise InvalidRequest(f"The axis {name} has no values. Give at least one.")
    _check_count(name, len(values))
    twice = next((label for i, label in enumerate(labels) if values[i] in values[:i]), None)
    if twice is not None:
        raise InvalidRequest(f"The axis {name} has {twice[:60]} twice. Give each value once.")
    return Axis(name, tuple(values), tuple(labels))


def _check_count(name: str, count: int) -> None:
    if count > MAX_VALUES:
        raise InvalidRequest(f"The axis {name} has {count:,} values, and the limit is {MAX_VALUES:,}. Give fewer.")
