"""What happens at a stroke: what was painted is kept, and an editor that lost the map gets it back.

Gradio's editor counts the map among what can be undone, and clears it away with the paint.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gradio as gr

from flux_demo.errors import InvalidPicture
from flux_demo.modes import Mode
from flux_demo.recipe import PAINTED
from flux_demo.ui.events import Form, bind
from flux_demo.ui.files import ShownMap
from flux_demo.ui.generate import Fields
from flux_demo.ui.history import Entry
from flux_demo.ui.image_heading import heading_update
from flux_demo.ui.map_views import VIEW_COMPONENTS, choose_view, note_under, to_paint, under_paint, with_paint
from flux_demo.ui.painted import keep_paint
from flux_demo.ui.preview import draw
from flux_demo.ui.services import Services
from flux_demo.ui.visitor_store import VisitorStore, is_key

STROKE_COMPONENTS = ("painter", "painting", "map", "shown", "map_note", "image_head")
# After the answer to the choice of a view: the editor gives its place to the map once that shows what was painted.
PAINT_IS_IN_MAP_JS = """async () => {
    await new Promise(requestAnimationFrame);
    for (const painter of document.querySelectorAll(".painter[data-ahead]")) {
        const pane = painter.closest(".pane");
        await pane.querySelector(".pixels img")?.decode().catch(() => {});
        if (!pane.querySelector(".view input[value=paint]:checked")) delete painter.dataset.ahead;
    }
}"""
# Before an event of the editor is sent: which page sends it, and when.
MOMENT_JS = "(_, ...others) => [`${performance.timeOrigin} ${performance.now()}`, ...others]"
_LOCKS = tuple(threading.Lock() for _ in range(64))
# Beside each lock, by visitor and mode: the page and moment of the newest event that was handled.
_NEWEST: tuple[dict[tuple[str, str], tuple[str, float]], ...] = tuple({} for _ in _LOCKS)
_EDITORS = 16  # remembered beside a lock: an event is overtaken at once or not at all


def bind_strokes(services: Services, mode: Mode, form: Form) -> None:
    """Follow the editor's strokes and the choice between the views."""
    form = form | {"moment": form["query"]}
    in_order: dict[str, Any] = {"js": MOMENT_JS, "trigger_mode": "always_last"}
    chosen = bind(
        [form["view"].input], view_handler(services, mode), form, [*VIEW_COMPONENTS, "view", "shown", "map_note", "image_head"], **in_order
    )
    chosen.then(None, None, None, js=PAINT_IS_IN_MAP_JS, api_visibility="private")
    bind([form["painter"].input], stroke_handler(services, mode), form, [*STROKE_COMPONENTS], queue=False, **in_order)


def stroke_handler(services: Services, mode: Mode) -> Callable[..., dict[str, Any]]:
    """The handler of every stroke, of undo and of clear."""
    visitors = services.visitors

    def handled(visitor: str, shown: ShownMap, painter: Any, painting: str, last: Entry | None, fields: Fields) -> dict[str, Any]:
        if painting != shown.sha256:  # another map was being drawn while the editor was opened
            _keep_late(visitors, visitor, mode, shown, painter)
            return _given_again(shown)
        answer: dict[str, Any] = {}
        with suppress(InvalidPicture, OSError):  # a full disk is no reason to disturb whoever paints
            if _is_cleared(painter):
                found = _without_paint(services, mode, shown)
                answer = _given_again(found)
                if found is not shown:
                    answer |= {"map": found.path, "shown": found, "map_note": note_under(found)}
            else:
                found = with_paint(shown, painter, painting)
                if found is shown and isinstance(painter, dict) and under_paint(shown, painter) is None:
                    _keep_late(visitors, visitor, mode, shown, painter)
                    answer = _given_again(shown)
            keep_paint(visitors, visitor, mode, found)
            answer |= heading_update(services, visitor, mode, last, fields, found)
        return answer

    def stroke(
        *,
        moment: Any = None,
        visitor: Any,
        shown: ShownMap | None,
        painter: Any,
        painting: str | None,
        last: Entry | None,
        saved_fields: Fields,
    ) -> dict[str, Any]:
        if not is_key(visitor) or shown is None or painting is None:
            return {}
        with _one_at_a_time(visitor, mode):
            return handled(visitor, shown, painter, painting, last, saved_fields) if _is_newest(visitor, mode, moment) else {}

    return stroke


def view_handler(services: Services, mode: Mode) -> Callable[..., dict[str, Any]]:
    """The handler of the choice between the views. It may come before the last stroke's own event, which is for another map then."""

    def chosen(
        *,
        moment: Any = None,
        visitor: Any,
        view: Any,
        shown: ShownMap | None,
        painter: Any,
        painting: str | None,
        last: Entry | None,
        saved_fields: Fields,
    ) -> dict[str, Any]:
        with _one_at_a_time(visitor, mode):
            answer = choose_view(view=view, shown=shown, painter=painter, painting=painting)
            if shown is not None and painting == shown.sha256 and _is_newest(visitor, mode, moment):
                keep_paint(services.visitors, visitor, mode, answer.get("shown", shown))
            return answer | heading_update(services, visitor, mode, last, saved_fields, answer.get("shown", shown))

    return chosen


def _one_at_a_time(visitor: Any, mode: Mode) -> threading.Lock:
    """Held while an event of one editor is handled."""
    return _LOCKS[_slot(visitor, mode)]


def _slot(visitor: Any, mode: Mode) -> int:
    return hash((str(visitor), mode.name)) % len(_LOCKS)


def _is_newest(visitor: Any, mode: Mode, moment: Any) -> bool:
    """Whether no event that the same page sent later was handled already: that one has the newer paint. To be called while the lock is held.

    Gradio handles events in threads, and those of the queue wait: they overtake each other.
    """
    page, _, at = str(moment).partition(" ")
    try:
        sent = float(at)
    except ValueError:  # from a program that does not say when
        return True
    handled, editor = _NEWEST[_slot(visitor, mode)], (str(visitor), mode.name)
    before = handled.pop(editor, (page, sent))
    handled[editor] = before if before[0] == page and before[1] > sent else (page, sent)
    if len(handled) > _EDITORS:
        handled.pop(next(iter(handled)))
    return handled[editor] == (page, sent)


def _keep_late(visitors: VisitorStore, visitor: str, mode: Mode, shown: ShownMap, painter: Any) -> None:
    """Keep a stroke that arrives when its map has been replaced already; it comes back with that map.

    The editor tells first what is under the paint, and then what it shows, which may be the new map by then.
    """
    without_paint = {each.sha256 for each in (shown, *shown.edited_before)}
    with suppress(InvalidPicture, OSError):
        for earlier in shown.edited_before:
            if (found := with_paint(earlier, painter, earlier.sha256)) is not earlier:
                if found.sha256 not in without_paint:
                    keep_paint(visitors, visitor, mode, found)
                return


def _is_cleared(painter: Any) -> bool:
    return isinstance(painter, dict) and not painter.get("background") and not painter.get("composite")


def _without_paint(services: Services, mode: Mode, shown: ShownMap) -> ShownMap:
    """The map before anybody painted on it, as far as its photo is still there."""
    if PAINTED in shown.options and shown.drawn_from.photo is not None:
        return draw(services.studio, mode, shown.drawn_from)
    return shown


def _given_again(shown: ShownMap) -> dict[str, Any]:
    return {"painter": gr.update(value=to_paint(shown)), "painting": shown.sha256}
