"""The heading of the image in sight: it says so if the form has other settings by now, and, during a run, that it is an earlier image."""

import filecmp
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidPicture, InvalidRequest
from flux_demo.modes import MATCH, MODES, Mode
from flux_demo.reading import parse_size
from flux_demo.recipe import PAINTED
from flux_demo.request import Size
from flux_demo.seeds import parse_seed
from flux_demo.ui import html
from flux_demo.ui.files import DrawnFrom, ShownMap, still_kept
from flux_demo.ui.history import Entry, image_updates
from flux_demo.ui.painted import painted_before
from flux_demo.ui.preview import drawn_from, is_current
from flux_demo.ui.run import MAX_IMAGES
from flux_demo.ui.services import Services

MEANWHILE = "an earlier one, while the next is generated"


def heading_update(
    services: Services, visitor: Any, mode: Mode, last: Entry | None, fields: Mapping[str, Any], shown: ShownMap | None
) -> dict[str, Any]:
    """The heading over the image in a tab, after its form or its painted map changed. During a run, an earlier image has a heading of its own."""
    if last is None or last.recipe.mode != mode.name:
        return {}
    if _is_looking_back(services, visitor, mode.name):
        return {}
    return {"image_head": heading_of(last, fields, shown)}


def heading_of(last: Entry, fields: Mapping[str, Any], shown: ShownMap | None = None) -> str:
    """The heading over an image, by the form's fields and the map in sight; without any fields, nothing is known of them."""
    recipe = last.recipe
    same = not fields or (
        fields.get("prompt") == recipe.prompt
        and fields.get("steps") in (recipe.steps, None)
        and fields.get("guidance") in (recipe.guidance, None)
        and (recipe.preset is None or fields.get("preset") in (recipe.preset, None))
        and (recipe.sample is None or fields.get("sample") in (recipe.sample, None))
        and _same_seed(recipe.seed, fields)
        and _same_size(last, fields.get("size"))
        and _same_map(last, fields)
        and _same_paint(last, fields, shown)
    )
    return html.image_head("" if same else "from earlier settings")


def image_updates_in(services: Services, visitor: Any, tab: str, entry: Entry, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a tab shows of an image; of another mode's, made for a comparison, the fields say nothing."""
    if entry.recipe.mode != tab:
        return image_updates(entry)
    return image_updates(entry) | {"image_head": heading_of(entry, fields, _painted(services, visitor, MODES[tab], fields))}


def meanwhile_updates(looks_back: bool = True) -> dict[str, Any]:
    """What a tab shows beside an earlier image during a run, or when it shows the previews again."""
    heading = html.image_head(MEANWHILE, during_a_run=True) if looks_back else html.image_head()
    return {"preview": gr.update(visible=looks_back), "image_head": heading}


def still_meanwhile(services: Services, visitor: Any, tab: str) -> dict[str, Any]:
    """What goes along with an image in a tab where an earlier one is looked at during a run: nothing elsewhere."""
    return meanwhile_updates() if _is_looking_back(services, visitor, tab) else {}


def _is_looking_back(services: Services, visitor: Any, tab: str) -> bool:
    run = services.runs.find(visitor, tab)
    return run is not None and run.is_looking_back


def _painted(services: Services, visitor: Any, mode: Mode, fields: Mapping[str, Any]) -> ShownMap | None:
    """What the visitor painted on the map that the fields describe."""
    if mode.control is None:
        return None
    with suppress(InvalidPicture):  # the photo is gone, and the map with it
        return painted_before(services.visitors, visitor, mode, _drawn_from(mode, fields))
    return None


def _same_seed(seed: int | None, fields: Mapping[str, Any]) -> bool:
    """Whether a click may give the seed: one of several images has a later one than the form."""
    try:
        first = parse_seed(fields.get("seed"))
    except InvalidRequest:
        return False
    count = fields.get("count")
    return first is None or seed is None or seed - first in range(count if isinstance(count, int) else MAX_IMAGES)


def _same_size(last: Entry, size_text: Any) -> bool:
    """Whether the size is the one that is asked for. Of an image from before a restart, nobody knows whether its size matched the photo."""
    try:
        size = parse_size(size_text)
    except InvalidRequest:
        return False
    if size == MATCH:
        return last.shown is None or last.shown.drawn_from.size in (None, "", MATCH)
    return size in (None, Size(last.recipe.width, last.recipe.height))


def _same_map(last: Entry, fields: Mapping[str, Any]) -> bool:
    """Whether the map's fields are those that the image's map was drawn with. Without a photo, the map is the one that came with the image."""
    control, photo, before = last.recipe.control, still_kept(fields.get("photo")), still_kept(last.photo)
    if control is None or photo is None:
        return True
    drawn = {name: value for name, value in control.options.items() if name in fields}  # nothing for a ready-made map
    fit = {"fit": control.fit} if control.fit else {}
    if bool(fields.get("as_map")) == bool(drawn) or any(fields.get(name) != value for name, value in (drawn | fit).items()):
        return False
    return before is None or photo == before or filecmp.cmp(photo, before, shallow=False)


def _same_paint(last: Entry, fields: Mapping[str, Any], shown: ShownMap | None) -> bool:
    """Whether the map in sight is the one that the image followed, where either is painted on. Of a map that is to be drawn anew, nothing is known yet."""
    control, mode = last.recipe.control, MODES[last.recipe.mode]
    if control is None or shown is None or PAINTED not in {*shown.options, *control.options}:
        return True
    return shown.sha256 == control.sha256 or not is_current(shown, _drawn_from(mode, fields))


def _drawn_from(mode: Mode, fields: Mapping[str, Any]) -> DrawnFrom:
    return drawn_from(mode, fields.get("photo"), fields.get("size"), fields.get("fit"), fields.get("as_map"), dict(fields))
