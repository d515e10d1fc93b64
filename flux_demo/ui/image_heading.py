"""Whether the image in sight was generated with the settings that the form has now: if not, its heading says so."""

import filecmp
from collections.abc import Mapping
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.modes import MATCH
from flux_demo.reading import parse_size
from flux_demo.request import Size
from flux_demo.seeds import parse_seed
from flux_demo.ui import html
from flux_demo.ui.files import still_kept
from flux_demo.ui.history import Entry, displayed
from flux_demo.ui.run import MAX_IMAGES


def heading_of(last: Entry, fields: Mapping[str, Any]) -> str:
    """The heading over an image, by the form's fields; without any, nothing is known of them."""
    recipe = last.recipe
    same = not fields or (
        fields.get("prompt") == recipe.prompt
        and fields.get("steps") in (recipe.steps, None)
        and fields.get("guidance") in (recipe.guidance, None)
        and (recipe.preset is None or fields.get("preset") in (recipe.preset, None))
        and (recipe.sample is None or fields.get("sample") in (recipe.sample, None))
        and _same_seed(recipe.seed, fields)
        and _same_size(Size(recipe.width, recipe.height), fields.get("size"))
        and _same_map(last, fields)
    )
    return html.image_head("" if same else "from earlier settings")


def displayed_in(tab: str, entry: Entry, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a tab shows of an image; of another mode's, made for a comparison, the fields say nothing."""
    return displayed(entry) | ({"image_head": heading_of(entry, fields)} if entry.recipe.mode == tab else {})


def _same_seed(seed: int | None, fields: Mapping[str, Any]) -> bool:
    """Whether a click may give the seed: one of several images has a later one than the form."""
    try:
        first = parse_seed(fields.get("seed"))
    except InvalidRequest:
        return False
    count = fields.get("count")
    return first is None or seed is None or seed - first in range(count if isinstance(count, int) else MAX_IMAGES)


def _same_size(size: Size, asked: Any) -> bool:
    """Whether the size is the one that is asked for; one that is to match a photo is part of the map."""
    try:
        return parse_size(asked) in (None, MATCH, size)
    except InvalidRequest:
        return False


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
