"""A painted map outlives a reload, and a change of photo or settings that is undone. The last eight of each tab are kept."""

import hashlib
from contextlib import suppress
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from flux_demo.errors import InvalidPicture
from flux_demo.modes import Mode
from flux_demo.recipe import PAINTED
from flux_demo.ui.files import DrawnFrom, ShownMap, received, served_again
from flux_demo.ui.visitor_store import VisitorStore, is_key

RECORD = {field.name for field in fields(ShownMap)} - {"painted_on", "edited_before"}  # another version of the program may have kept others
MAX_PAINTED = 8  # painted maps of a tab


def painted_before(visitors: VisitorStore, visitor: Any, mode: Mode, now: DrawnFrom) -> ShownMap | None:
    """The visitor's painted map if one was drawn from what the form describes.

    Raises InvalidPicture when the form's photo is gone.
    """
    if not is_key(visitor) or now.photo is None:
        return None
    with suppress(OSError):  # a disk that refuses is no reason not to draw the map
        if kept := next((each for each in _records(visitors, visitor, mode) if each["drawn_from"] == _id(now)), None):
            if path := served_again(kept["path"], visitors.file(visitor, _file(mode, kept))):
                return ShownMap(**{**kept, "path": path, "drawn_from": now})
    return None


def keep_paint(visitors: VisitorStore, visitor: Any, mode: Mode, shown: ShownMap) -> None:
    """Keep a map that was painted on, or forget it when ``shown`` is what is left after all paint was taken back.

    A full disk is no reason to disturb whoever paints.
    """
    if not is_key(visitor) or shown.drawn_from.photo is None:
        return
    with suppress(InvalidPicture, OSError):
        drawn_from = _id(shown.drawn_from)
        known = _records(visitors, visitor, mode)
        maps = [each for each in known if each["drawn_from"] != drawn_from]
        if PAINTED in shown.options:
            record = {name: value for name, value in asdict(shown).items() if name in RECORD} | {"drawn_from": drawn_from}
            visitors.keep_file(visitor, _file(mode, record), Path(shown.path))
            maps = [*maps, record][-MAX_PAINTED:]
        if maps == known:
            return
        visitors.save_record(visitor, _name(mode), {"maps": maps})
        needed = {_file(mode, each) for each in _records(visitors, visitor, mode)}
        for gone in {_file(mode, each) for each in known} - needed:
            visitors.keep_file(visitor, gone, None)


def _records(visitors: VisitorStore, visitor: str, mode: Mode) -> list[dict[str, Any]]:
    """What is kept of the painted maps, oldest first."""
    maps = visitors.record(visitor, _name(mode)).get("maps", [])
    return [each for each in maps if each.keys() == RECORD]


def _name(mode: Mode) -> str:
    return f"painted-{mode.name}"


def _file(mode: Mode, record: dict[str, Any]) -> str:
    """Named by what is painted: no record can have another one's map."""
    return f"painted-{mode.name}-{record['sha256']}"


def _id(drawn_from: DrawnFrom) -> list[Any]:
    """What a map was drawn from, with the photo by its content: the same photo has another path after a restart."""
    photo = received(drawn_from.photo)
    options = [list(option) for option in drawn_from.options]
    return [_sha256(str(photo), photo.stat().st_mtime_ns), drawn_from.size, drawn_from.fit, drawn_from.as_map, options]


@lru_cache(maxsize=32)
def _sha256(path: str, modified: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
