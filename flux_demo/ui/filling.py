"""Values from outside for a tab's form, from a link or another program's file: what the tab does not take is left out, and said."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import gradio as gr

from flux_demo.errors import InvalidRequest
from flux_demo.maps.fit import FITS
from flux_demo.modes import MATCH, MODES, Mode, Option
from flux_demo.prompts import MAX_PROMPT, check_prompt
from flux_demo.reading import parse_number, parse_size
from flux_demo.seeds import parse_seed
from flux_demo.studio import Studio
from flux_demo.texts import Text, join_listed
from flux_demo.ui import html
from flux_demo.ui.events import in_tab
from flux_demo.ui.run import MAX_IMAGES
from flux_demo.ui.size_field import checked_size
from flux_demo.ui.tab_state import find_route, settings_state

OPTIONS = tuple(dict.fromkeys(option.name for mode in MODES.values() if mode.control for option in mode.control.options))
FOR_EVERY_MODE = ("mode", "prompt", "seed", "count", "size", "steps", "guidance", "preset")
LINKED = (*FOR_EVERY_MODE, "fit", "sample", *OPTIONS)  # what a link may say
LABELS = {name: name.capitalize() for name in LINKED} | {"count": "Images", "sample": "Sample image"}
LABELS |= {option.name: option.label for mode in MODES.values() if mode.control for option in mode.control.options}

FROM_LINK = "Settings filled in from the link."
NOT_FROM_LINK = "The link has values that cannot be used here: {names}. Check the form before you generate."


def usable_values(studio: Studio, mode: Mode, given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values as the tab's fields hold them, and the labels of those that cannot be used where the mode runs."""
    state = settings_state(find_route(studio, mode), mode)
    readers: dict[str, Callable[[str], Any]] = {
        "prompt": _prompt,
        "seed": _seed,
        "count": lambda text: _within(_whole(text), {"minimum": 1, "maximum": MAX_IMAGES}),
        "size": lambda text: _size(studio, mode, text),
        "steps": lambda text: _within(_whole(text), state["steps"]),
        "guidance": lambda text: _within(parse_number(text), state["guidance"]),
        "preset": {name: name for _, name in state["preset"]["choices"]}.__getitem__,
    }
    if mode.control:
        readers["fit"] = {name: name for name in FITS}.__getitem__
        readers["sample"] = {str(number): number for _, number in state["sample"]["choices"]}.__getitem__
        readers |= {option.name: partial(_option, option) for option in mode.control.options}
    values, wrong = {}, []
    for name, read in readers.items():
        if name in given:
            try:
                values[name] = read(given[name])
            except (ValueError, KeyError, InvalidRequest):
                wrong.append(name)
    if mode.control and mode.control.crosses(values):
        wrong += [option.name for option in mode.control.bounds if option.name in values]
    return {name: value for name, value in values.items() if name not in wrong}, [LABELS[name] for name in wrong]


def _seed(text: str) -> str:
    seed = parse_seed(text)
    return "" if seed is None else str(seed)


def from_query(studio: Studio, query: Any) -> tuple[str | None, dict[str, Any]]:
    """The mode of a link, and its values for the whole page; None and nothing for an address without such values."""
    if not isinstance(query, str):
        return None, {}
    given = {name: values[0] for name, values in parse_qs(query.lstrip("?")[: 4 * MAX_PROMPT]).items() if name in LINKED}
    if not given:
        return None, {}
    named = given.get("mode", "text").lower()
    mode = MODES.get(named, MODES["text"])
    values, wrong = usable_values(studio, mode, given)
    defaults = linked_defaults(studio, mode)
    values = {"seed": ""} | defaults | values  # which a link leaves out
    wrong = wrong if named in MODES else ["Mode", *wrong]
    wrong += [LABELS[name] for name in given if name not in (*FOR_EVERY_MODE, *defaults)]
    told = Text(NOT_FROM_LINK, names=join_listed(map(Text, wrong))) if wrong else FROM_LINK
    values["status"] = html.says(told, "problem" if wrong else "quiet")
    return mode.name, in_tab(mode.name, values) | {"tabs": gr.Tabs(selected=mode.name)}


def linked_defaults(studio: Studio, mode: Mode) -> dict[str, Any]:
    """What a link need not say."""
    state = settings_state(find_route(studio, mode), mode)
    defaults = {"count": 1, "preset": state["preset"]["value"]}
    if mode.control:
        defaults |= {"fit": FITS[0], "sample": state["sample"]["value"]} | {option.name: option.default for option in mode.control.options}
    return defaults


def _option(option: Option, text: str) -> float | bool:
    if option.is_switch:
        return {"true": True, "false": False}[text]
    value = _within(parse_number(text), {"minimum": option.minimum, "maximum": option.maximum})
    return int(value) if float(value).is_integer() else value


def _size(studio: Studio, mode: Mode, text: str) -> str:
    parse_size(text, mode)
    return str(checked_size(studio, mode, text) or MATCH)


def _prompt(text: str) -> str:
    """Raises InvalidRequest for what is no prompt; none at all may be typed yet."""
    if text:
        check_prompt(text)
    return text


def _whole(text: str) -> int:
    """Raises ValueError for a number that is not whole."""
    number = parse_number(text)
    if not isinstance(number, int):
        raise ValueError(text)
    return number


def _within(number: float, slider: Mapping[str, Any]) -> float:
    """The number again. Raises ValueError for one that the slider does not have."""
    if not slider["minimum"] <= number <= slider["maximum"]:
        raise ValueError(number)
    return number
