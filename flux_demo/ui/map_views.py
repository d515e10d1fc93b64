"""The map's views: the map that is sent, beside the photo, in colour beside the grey, and to be painted on.

The first view's file is what is sent, whatever is in sight. What was painted is a new file, made when the editor is left or the run starts.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidPicture
from flux_demo.maps.fit import fit as fit_photo
from flux_demo.maps.photo import open_photo
from flux_demo.modes import Mode
from flux_demo.recipe import PAINTED
from flux_demo.request import ControlMap, Size
from flux_demo.texts import join_sentences
from flux_demo.ui import html
from flux_demo.ui.events import Form
from flux_demo.ui.files import ShownMap, keep_map, new_file, received, still_kept
from flux_demo.ui.translation import translate

MAP, OVER, COLOUR, PAINT = "map", "over", "colour", "paint"
TITLES = {MAP: "Map", OVER: "With photo", COLOUR: "Colour", PAINT: "Paint"}
ABOUT_PAINT = "White adds, black takes away; the bin removes all paint. Each photo, size and setting has its own paint."
SAID_OF_PAINT = "Painted by hand. Each photo, size and setting of the map has its own paint."
NOTHING_BELOW = "There is no photo here to put beside the map. Add the one that it was drawn from."
VIEW_COMPONENTS = ("map", "beside", "painter", "painting")
BRUSH = {"canny": ["#ffffff", "#000000"], "depth": ["#ffffff", "#c0c0c0", "#808080", "#404040", "#000000"]}


def build_views(form: Form, mode: Mode, state: dict) -> None:
    """Lay out what takes the place of the map's image, and the choice between them."""
    assert mode.control
    kind = mode.control.kind
    form["beside"] = gr.ImageSlider(
        visible=False,
        interactive=False,
        format="png",
        type="filepath",
        buttons=["fullscreen"],
        show_label=False,
        label=f"{mode.control.title} beside the photo",
        elem_id=f"beside-{mode.name}",
        elem_classes=["box", "slider"],
    )
    form["painter"] = gr.ImageEditor(
        visible=False,
        interactive=True,
        format="png",
        type="filepath",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=gr.LayerOptions(allow_additional_layers=False),
        brush=gr.Brush(default_size=8, colors=BRUSH.get(kind, ["#ffffff", "#000000"]), default_color="#ffffff", color_mode="fixed"),
        eraser=gr.Eraser(default_size=8),
        buttons=["fullscreen"],
        show_label=False,
        label=f"{mode.control.title} to paint on",
        elem_id=f"painter-{mode.name}",
        elem_classes=["painter"],
    )
    views = [MAP, OVER, *([COLOUR] if kind == "depth" else []), PAINT]
    form["painting"] = gr.State(None)
    form["view"] = gr.Radio(
        [(TITLES[view], view) for view in views],
        value=MAP,
        show_label=False,
        label="View of the map",
        container=False,
        elem_classes=["choices", "view"],
        **state["view"],
    )


def view_updates(view: Any, shown: ShownMap | None) -> dict[str, Any]:
    """What stands in the map's place. Without a map, or a photo to put beside it, that is the map's own panel.

    The editor is laid out when it is wanted first, and stays: the style sheet hides it, or the map's panel, by the view that is chosen.
    Gradio's frontend loses an editor that is hidden and shown again in a moment.
    """
    pair = _pair(view, shown) if shown else None
    painting = view == PAINT and shown is not None
    return {
        "map": shown.path if shown else None,
        "beside": gr.update(value=pair, visible=pair is not None),
        "painting": shown.sha256 if shown and painting else None,
    } | ({"painter": gr.update(visible=True, value=to_paint(shown))} if shown and painting else {})


def new_map_updates(view: Any, shown: ShownMap) -> dict[str, Any]:
    """A new map in the view that is chosen; in the first one nothing but the image changes, so that a slider's drag stays quick."""
    return {"map": shown.path} if view in (MAP, None) else view_updates(view, shown)


def choose_view(*, view: Any, shown: ShownMap | None, painter: Any, painting: str | None) -> dict[str, Any]:
    """What the page shows after the choice; what was painted is the map from here on.

    Of a map that stays, nothing is answered but where it is in sight: by the time of the answer, a slider may have drawn another one.
    """
    if shown is None:
        return view_updates(view, None)
    try:
        found = with_paint(shown, painter, painting)
        answer = view_updates(view, found)
        if _is_in_editor(found, painter):
            answer.pop("painter", None)
    except InvalidPicture as error:
        return view_updates(MAP, shown) | {"map_note": problem_under(shown, error.text), "view": MAP}
    if found is not shown:
        return answer | {"shown": found, "map_note": note_under(found)}
    del answer["map"]
    return answer


def with_paint(shown: ShownMap, painter: Any, painting: str | None) -> ShownMap:
    """The map as the editor shows it; the same object where nothing was painted on it. Raises InvalidPicture.

    ``painting`` is the hash of the map that the editor showed last: an older one's strokes are not for this map.
    """
    composite = painter.get("composite") if isinstance(painter, dict) else None
    under = under_paint(shown, painter) if composite and painting == shown.sha256 else None
    if under is None:
        return shown
    painted = ControlMap(shown.kind, open_photo(received(composite)), {**shown.options, PAINTED: True}, shown.fit, shown.estimator)
    if painted.sha256 == shown.sha256:
        return shown
    if painted.sha256 == under.sha256:  # all of it is undone
        return under
    return replace(
        keep_map(painted, shown.drawn_from, translate(SAID_OF_PAINT)),
        keeps=shown.keeps,
        painted_on=replace(under, painted_on=None, edited_before=()),
    )


def under_paint(shown: ShownMap, painter: dict[str, Any]) -> ShownMap | None:
    """What the editor has under its strokes: this map, or the one that it was painted on.

    None for anything else: its undo goes back beyond the map, to another one or to an empty canvas. Raises InvalidPicture for a file that is gone.
    """
    if not (background := painter.get("background")):
        return None
    pixels = open_photo(received(background)).tobytes()
    return next((each for each in (shown, shown.painted_on) if each and open_photo(each.path).tobytes() == pixels), None)


def _is_in_editor(shown: ShownMap, painter: Any) -> bool:
    """Whether the editor shows this map as it stands, or has painted it: then it keeps its undo, and strokes that were faster than the answer.

    Raises InvalidPicture for a file that is gone.
    """
    under = under_paint(shown, painter) if isinstance(painter, dict) else None
    if under is None or under is shown.painted_on:
        return under is not None
    return open_photo(received(painter.get("composite") or painter["background"])).tobytes() == open_photo(shown.path).tobytes()


def to_paint(shown: ShownMap) -> dict[str, Any]:
    """A map as the editor's value, with nothing painted on it: of a layer, Gradio's editor shows nothing."""
    return {"background": shown.path, "layers": [], "composite": None}


def note_under(shown: ShownMap, more: str = "") -> str:
    """The line under a map in each view."""
    texts = {"any": translate(join_sentences(shown.note, more)), PAINT: translate(ABOUT_PAINT)}
    if shown.drawn_from.photo is None:
        texts[OVER] = translate(NOTHING_BELOW)
    return _note(shown, texts)


def problem_under(shown: ShownMap | None, text: str) -> str:
    """What went wrong, below the map that stays."""
    if shown is None:
        return html.says(text, "problem")
    return _note(shown, {"any": translate(text)}, "problem")


def _note(shown: ShownMap, texts: Mapping[str, str], kind: str = "quiet") -> str:
    return html.map_note(texts, shown.sha256, (shown.painted_on or shown).sha256, PAINTED in shown.options, shown.keeps, kind)


def _pair(view: Any, shown: ShownMap) -> tuple[str, str] | None:
    """The two files of the slider: the photo and the map, or the map in colour and in the grey that is sent."""
    if view == COLOUR:
        return _coloured_map_file(shown.path), shown.path
    photo = still_kept(shown.drawn_from.photo)
    if view != OVER or photo is None:
        return None
    width, height = _size_of(shown.path)
    how = shown.fit or shown.drawn_from.fit or "crop"
    return _fitted_photo_file(photo, Path(photo).stat().st_mtime_ns, width, height, how), shown.path


def _coloured_map_file(path: str) -> str:
    return _cached_file(_write_coloured, path)


def _fitted_photo_file(*photo_and_size: Any) -> str:
    return _cached_file(_write_fitted, *photo_and_size)


def _cached_file(write: Any, *arguments: Any) -> str:
    """A cached file's path; written again when the temporary folder was cleared."""
    path = write(*arguments)
    if still_kept(path) is None:
        write.cache_clear()
        path = write(*arguments)
    return path


def _size_of(path: str) -> tuple[int, int]:
    """Width and height of a map's file; no pixel is decoded."""
    from PIL import Image

    with Image.open(path) as opened:
        return opened.size


@lru_cache(maxsize=32)
def _write_coloured(path: str) -> str:
    """A depth map in colours, because the eye tells more colours apart than greys: red is near, blue is far."""
    import cv2
    import numpy as np
    from PIL import Image

    grey = np.asarray(open_photo(path).convert("L"))
    colours = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return _write(Image.fromarray(colours), "depth-colours.png")


@lru_cache(maxsize=32)
def _write_fitted(photo: str, modified: int, width: int, height: int, how: str) -> str:
    """The photo as the map saw it; cached, so that moving a slider does not fit it again."""
    from PIL import Image

    fitted = fit_photo(open_photo(photo), Size(width, height), how)
    return _write(Image.fromarray(fitted.blank_outside(fitted.pixels)), "fitted-photo.png")


def _write(image: Any, name: str) -> str:
    path = new_file(name)
    image.save(path, format="PNG", compress_level=1)
    return str(path)
