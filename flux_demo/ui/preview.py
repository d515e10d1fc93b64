"""The live map: drawn again when anything that it depends on changes, and never sent when it is out of date."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidPicture, InvalidRequest
from flux_demo.gallery import write_png
from flux_demo.maps.fit import centre_crop
from flux_demo.maps.notes import SAME_SHAPE, SEVERAL
from flux_demo.maps.photo import browsers_show, looks_like_map, open_photo, open_png_text
from flux_demo.modes import MATCH, Mode
from flux_demo.recipe import read_recipe
from flux_demo.request import ControlMap
from flux_demo.studio import Studio
from flux_demo.texts import Text, join_sentences
from flux_demo.ui import html
from flux_demo.ui.files import DrawnFrom, Look, ShownMap, keep_map, new_file, received, still_kept
from flux_demo.ui.map_notes import Facts, photo_note
from flux_demo.ui.map_views import MAP, PAINT, new_map_updates, note_under, problem_under, view_updates, with_paint
from flux_demo.ui.number_fields import check_not_empty
from flux_demo.ui.painted import MAX_PAINTED, keep_paint, painted_before
from flux_demo.ui.services import Services
from flux_demo.ui.size_field import checked_size
from flux_demo.ui.tab_state import map_note, takes_photos
from flux_demo.ui.translation import translate
from flux_demo.ui.visitors import current_caller

LOOKS: dict[tuple[str, str], Look] = {  # by the map's kind and what the photo looks like: how it could be used as the map
    ("canny", "canny"): "map",
    ("canny", "inverted canny"): "inverted",
    ("depth", "depth"): "either",  # nothing tells which end of the greys is near
}
OFFERS: dict[Look | None, tuple[bool, bool]] = {
    None: (False, False),
    "map": (True, False),
    "inverted": (False, True),
    "either": (True, True),
}

PREVIOUS_IS_BACK = "The previous photo is back."
NO_PHOTO_IN_PNG = "The PNG does not store the photo. Add it, and its map will be compared with the one that the image followed."
SAME_MAP = "It is the map that the image followed."
ANOTHER_MAP = "It is not the map that the image followed: the photo or the settings differ."
# For as long as the line under the map has it, the style sheet shows the one under the photo.
PHOTO_REFUSED = '<i class="photo-refused"></i>'


def drawn_from(mode: Mode, photo: Any, size: Any, fit: Any, as_map: Any, options: dict[str, Any]) -> DrawnFrom:
    """What a map depends on, as the form is now."""
    assert mode.control
    path = photo.get("path") if isinstance(photo, dict) else photo
    return DrawnFrom(path, size, fit, bool(as_map), tuple((option.name, options.get(option.name)) for option in mode.control.options))


def is_current(shown: ShownMap | None, now: DrawnFrom) -> bool:
    """Whether the map on the page is the one that the form describes. A map restored from a recipe has no photo to be drawn from."""
    return shown is not None and (shown.drawn_from == now or (now.photo is None and shown.drawn_from.photo is None))


def draw(studio: Studio, mode: Mode, now: DrawnFrom) -> ShownMap:
    """Draw the map that the form describes and keep it as a file. Raises FluxDemoError."""
    if now.photo is None:
        raise InvalidRequest("There is no photo to follow. Drop one on the photo panel, or click an example.")
    photo = received(now.photo)
    facts = _facts(str(photo), photo.stat().st_mtime_ns)
    checked_size(studio, mode, now.size)  # what the run would refuse is not drawn either
    assert mode.control
    if not now.as_map:
        labels = {option.name: option.label for option in mode.control.options}
        check_not_empty({labels[name]: value for name, value in now.options})
    size, fit = (MATCH if now.size in (None, "") else now.size), ("crop" if now.fit in (None, "") else now.fit)
    if now.as_map:
        control = studio.as_map(mode.name, photo, size=size, fit=fit)
    else:
        control = studio.preview(mode.name, photo, size=size, fit=fit, **dict(now.options))
    look = None if now.as_map or not facts.looks_like else LOOKS.get((control.kind, facts.looks_like))
    shown = keep_map(control, now, photo_note(facts, control, fit, now.as_map, look))
    return replace(shown, looks_like=look, keeps=_crop_region(facts, control) if fit == "crop" else None)


def map_of(services: Services, visitor: Any, mode: Mode, now: DrawnFrom) -> ShownMap:
    """The map that the form describes: the one that the visitor painted on, or drawn. Raises FluxDemoError."""
    return painted_before(services.visitors, visitor, mode, now) or draw(services.studio, mode, now)


def map_to_follow(
    services: Services, visitor: Any, mode: Mode, now: DrawnFrom, shown: ShownMap | None, view: Any, painter: Any, painting: str | None
) -> tuple[ShownMap, dict[str, Any]]:
    """The map as the form and the editor have it at a click, and what the page shows of it. Raises FluxDemoError."""
    if shown is None or not is_current(shown, now):  # the click was faster than the live map: draw it, show it, then send it
        found = map_of(services, visitor, mode, now)
        answer = new_map_updates(view, found)
    else:
        opening = view == PAINT and painting is None  # the answer to the choice of the editor, which is in sight already, is on its way
        found = with_paint(shown, painter, shown.sha256 if opening else painting)
        if found is not shown:
            keep_paint(services.visitors, visitor, mode, found)
        answer = {"map": found.path, "painting": found.sha256}
    note = {"map_note": note_under(found)}  # in place of what was said of another photo
    return found, note if found is shown else note | answer | {"shown": found}


def photo_handler(services: Services, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The handler of a photo that came or went; it says that the map is being drawn, which may take a while.

    It is to be bound to Gradio's queue. Without it, each answer makes Gradio's image panel report its photo as changed again, for seconds.
    """

    def draw_first(
        *,
        visitor: Any,
        photo: Any,
        size: Any,
        fit: Any,
        as_map: Any,
        shown: ShownMap | None,
        recipe_map_sha256: str | None,
        refused: bool,
        view: Any,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        now = drawn_from(mode, photo, size, fit, as_map, options)
        if is_current(shown, now) or not takes_photos(services.studio, mode):  # a photo that was kept where another service ran the mode
            return
        if now.photo is None and refused and shown is None:  # why it was refused stays in sight
            return
        if now.photo is None:
            compared = recipe_map_sha256 is not None and shown is not None  # whoever takes that photo away goes on to something else
            note = ("" if compared else missing_photo_note(recipe_map_sha256)) or map_note(mode)
            yield _no_map(note) | {"recipe_map_sha256": None if compared else recipe_map_sha256, "refused": False}
            return
        yield {"map_note": html.says("Drawing the map", "busy"), "refused": False}
        try:
            photo = received(now.photo)
            copy = for_the_browser(photo)
            _facts(str(photo), photo.stat().st_mtime_ns)  # decodes it; the map has them from the cache
        except InvalidPicture as error:
            yield _photo_before(mode, shown, error.text)
            return
        except Exception as error:
            yield _no_map(html.says(html.sentence(error), "problem"))
            return
        if copy:
            yield {"photo": copy}  # a change, of which the map is drawn
            return
        yield _redrawn(services, visitor, mode, now, shown, recipe_map_sha256, view)

    return draw_first


def _photo_before(mode: Mode, shown: ShownMap | None, refused: str) -> dict[str, Any]:
    """What the page shows in place of a photo that cannot be used: the one before, if it is still there, or an empty panel."""
    if shown and (photo := still_kept(shown.drawn_from.photo)):
        said, note = join_sentences(refused, Text(PREVIOUS_IS_BACK)), note_under(shown)
        return {"photo": photo, "photo_note": html.says(said, "problem"), "map_note": note + PHOTO_REFUSED}
    answer = {"photo": None, "photo_note": html.says(refused, "problem"), "refused": True}
    return _no_map(map_note(mode) + PHOTO_REFUSED) | answer


def live_map_handler(services: Services, mode: Mode) -> Callable[..., dict[str, Any]]:
    """The handler of every other change that the map depends on.

    Without a photo it answers nothing: when a page opens, its other fields may be there before its photo, and an answer could take the
    photo's map away.
    """

    def redraw(
        *,
        visitor: Any,
        photo: Any,
        size: Any,
        fit: Any,
        as_map: Any,
        shown: ShownMap | None,
        recipe_map_sha256: str | None,
        view: Any,
        **options: Any,
    ) -> dict[str, Any]:
        now = drawn_from(mode, photo, size, fit, as_map, options)
        if now.photo is None or is_current(shown, now) or not takes_photos(services.studio, mode):
            return {}
        caller = current_caller.get()
        try:
            with services.turns.turn(caller.client.address if caller else ""):
                return _redrawn(services, visitor, mode, now, shown, recipe_map_sha256, view)
        except InvalidRequest as error:
            return {"map_note": problem_under(shown, error.text)}

    return redraw


def _redrawn(
    services: Services, visitor: Any, mode: Mode, now: DrawnFrom, before: ShownMap | None, recipe_map_sha256: str | None, view: Any
) -> dict[str, Any]:
    """What the page shows of the map that the form describes, in place of the map ``before``."""
    try:
        checked_size(services.studio, mode, now.size)
    except InvalidRequest:  # said at the size field
        return _no_map(html.says("The map is drawn once the size is valid."))
    try:
        shown = map_of(services, visitor, mode, now)
    except Exception as error:
        return _no_map(html.says(html.sentence(error), "problem"))
    if view == PAINT and before:
        shown = replace(shown, edited_before=(replace(before, edited_before=()), *before.edited_before)[:MAX_PAINTED])
    return new_map_updates(view, shown) | {"shown": shown, "map_note": note_of(shown, recipe_map_sha256)} | offers(shown.looks_like)


def note_of(shown: ShownMap, recipe_map_sha256: str | None) -> str:
    """The line under a map that may be compared with a recipe's."""
    return note_under(shown, _compared(shown, recipe_map_sha256))


def _no_map(note: str) -> dict[str, Any]:
    return view_updates(MAP, None) | {"shown": None, "map_note": note} | offers(None)


def for_the_browser(photo: Path) -> str | None:
    """A PNG with the very pixels of a photo that browsers do not show, such as TIFF and HEIC; None for any other. Raises InvalidPicture."""
    if browsers_show(photo):
        return None
    path = new_file(f"{photo.stem}.png")
    opened = open_photo(photo)
    with path.open("wb") as file:
        write_png(opened, file, {SEVERAL: "1"} if opened.info.get(SEVERAL) else None)
    return str(path)


def offers(look: Look | None) -> dict[str, Any]:
    """The buttons that make the photo itself the map."""
    as_is, inverted = OFFERS[look]
    return {"use_as_map": gr.update(visible=as_is), "use_inverted": gr.update(visible=inverted)}


def invert_photo(*, photo: Any, shown: ShownMap | None) -> dict[str, Any]:
    """The photo with black and white exchanged, to be used as the map as it is."""
    from PIL import ImageOps

    try:
        path = new_file("inverted.png")
        ImageOps.invert(open_photo(received(photo))).save(path, format="PNG", compress_level=1)
    except InvalidPicture as error:
        return {"map_note": problem_under(shown, error.text)}
    return {"photo": str(path), "as_map": True} | offers(None)


def missing_photo_note(recipe_map_sha256: str | None) -> str:
    """The sentence while the photo of a restored recipe is missing."""
    return html.says(NO_PHOTO_IN_PNG) if recipe_map_sha256 else ""


def _compared(shown: ShownMap, recipe_map_sha256: str | None) -> str:
    return translate(SAME_MAP if shown.sha256 == recipe_map_sha256 else ANOTHER_MAP) if recipe_map_sha256 else ""


@lru_cache(maxsize=256)
def _facts(path: str, modified: int) -> Facts:
    """A photo's facts; cached, so that moving a slider does not decode the file again."""
    photo = open_photo(path)
    try:
        read_recipe(path)
        carries_recipe = True
    except InvalidPicture:
        carries_recipe = False
    several = bool(photo.info.get(SEVERAL)) or SEVERAL in open_png_text(path)
    return Facts(photo.width, photo.height, looks_like_map(photo), carries_recipe, several)


def _crop_region(facts: Facts, control: ControlMap) -> tuple[float, float, float, float] | None:
    """What crop keeps of the photo, as shares of it; None where that is the whole."""
    if abs(facts.width / facts.height / (control.size.width / control.size.height) - 1) <= SAME_SHAPE:
        return None
    left, top, width, height = centre_crop(facts.width, facts.height, control.size)
    return left / facts.width, top / facts.height, width / facts.width, height / facts.height


def auto_thresholds(*, photo: Any, shown: ShownMap | None) -> dict[str, Any]:
    """Canny's thresholds from the median brightness of the photo, a third below and above it."""
    try:
        grey = open_photo(received(photo)).convert("L")
    except InvalidPicture as error:
        return {"map_note": problem_under(shown, error.text)}
    histogram = grey.histogram()
    half, seen, median = sum(histogram) / 2, 0, 0
    while seen + histogram[median] < half:
        seen += histogram[median]
        median += 1
    return {"low": round(median * 2 / 3), "high": max(1, round(median * 4 / 3))}
