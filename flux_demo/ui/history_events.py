"""What is done with the images that there are: one is shown again, deleted, kept or sent to another tab, and all are downloaded or deleted.

Components of all tabs are named mode__component here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo.modes import MODES, Mode
from flux_demo.ui import html
from flux_demo.ui.events import Form, bind, in_tab
from flux_demo.ui.files import publish, still_kept
from flux_demo.ui.generate import BUSY, IDLE
from flux_demo.ui.history import Entry, history_updates, image_components, image_updates, no_image_updates, preview_of
from flux_demo.ui.image_heading import image_updates_in, meanwhile_updates
from flux_demo.ui.languages import STYLED
from flux_demo.ui.partial import forget
from flux_demo.ui.services import Services
from flux_demo.ui.strip import delete_strip, strip_before, strip_updates, strip_without
from flux_demo.ui.thumbs import at_address, bind_choice
from flux_demo.ui.visitor_store import is_key

ONE_GONE, ALL_GONE = (
    "This image is no longer kept.",
    "There are no images any more. They were deleted in another window, or after a day.",
)

# The link of the hidden file is there a moment after its value.
DOWNLOAD_JS = "() => setTimeout(() => document.querySelector('#archive a')?.click(), 300)"
# Puts an answer or "" in place of the first input. It asks in the visitor's language, which the style sheet holds, see languages.STYLED.
SURE_JS = """(sure, ...others) => {
    const question = getComputedStyle(document.documentElement).getPropertyValue("NAME");
    const answer = ANSWER ?? "";
    return [confirm(question ? JSON.parse(question) : ENGLISH) ? answer : "", ...others];
}"""
# The address of the image in sight: while the question is on the screen, a run may put its image there.
IN_SIGHT_JS = "document.querySelector('#picture-MODE img')?.src"


def _states() -> tuple[str, ...]:
    """The image that each tab shows, and whether the tab tells of a run."""
    return tuple(f"{mode}__{name}" for mode in MODES for name in ("last", "run_state"))


def _may_be_gone() -> tuple[str, ...]:
    """The components that change when images turn out to be deleted."""
    return (*(f"{mode}__{name}" for mode in MODES for name in (*image_components(), "status")), "history", "gallery", "recent", "strip")


def bind_history(services: Services, flat: Form) -> None:
    """Bind the visitor's images, and the buttons under the one in sight."""
    _bind_images(services, flat)
    _bind_looking_again(services, flat)
    _bind_delete_all(services, flat)
    _bind_close_strip(services, flat)
    for mode in MODES:
        _bind_preview(services, mode, flat)
        _bind_kept(services, mode, flat)
        for other in MODES.values():
            if other.control:
                _bind_send(services, mode, other, flat)


def _bind_images(services: Services, flat: Form) -> None:
    def show(*, chosen: Any, history: list[Entry], visitor: Any, **states: Any) -> dict[str, Any]:
        at = at_address((entry.thumb or entry.path for entry in history), chosen)
        if at is None:
            return {}
        entry = history[at]
        if not still_kept(entry.path):
            return _gone(services, visitor, states, ONE_GONE)
        mode = entry.recipe.mode
        answer = in_tab(mode, image_updates_in(services, visitor, mode, entry, states[f"{mode}__saved_fields"]))
        run = services.runs.find(visitor, mode)
        if run and not run.done.is_set() and states[f"{mode}__run_state"] in BUSY:  # it is this window that tells of it
            run.look_back()
            answer |= in_tab(mode, meanwhile_updates())
        else:
            answer[f"{mode}__status"] = html.says("")  # which was about another image
        return answer | {"tabs": gr.Tabs(selected=mode)}

    saved = tuple(f"{mode}__saved_fields" for mode in MODES)
    shown = ["tabs", "restore_note", *_may_be_gone()]
    bind_choice(flat["gallery"], show, flat, shown, (*_states(), *saved))

    def archive(*, visitor: Any, **states: Any) -> dict[str, Any]:
        if not is_key(visitor):
            return {}
        if not services.history.entries(visitor):
            return {"archive": None} | _gone(services, visitor, states, ALL_GONE)
        return {"archive": services.history.archive(visitor)}

    download = bind([flat["zip"].click], archive, flat, ["archive", "restore_note", *_may_be_gone()], _states())
    download.then(None, None, None, js=DOWNLOAD_JS, api_visibility="private")


def _bind_looking_again(services: Services, flat: Form) -> None:
    """A window that was left and is in front again has the images that were made and deleted in others meanwhile."""

    def look_again(*, visitor: Any, history: list[Entry], **states: Any) -> dict[str, Any]:
        kept = services.history.entries(visitor) if is_key(visitor) else []
        # Where a run is told of, its image comes into sight in any case.
        lasts = {f"{mode}__last": states[f"{mode}__last"] for mode in MODES if states[f"{mode}__run_state"] not in BUSY}
        if _tabs_without(services, visitor, lasts):
            return _gone(services, visitor, lasts, ONE_GONE)
        same = [entry.name for entry in kept] == [entry.name for entry in history]
        return ({} if same else history_updates(kept)) | _strip_gone(services, visitor)

    bind([flat["look_again"].click], look_again, flat, ["restore_note", *_may_be_gone()], _states(), queue=False)


def _bind_delete_all(services: Services, flat: Form) -> None:
    def delete_all(*, sure: Any, visitor: Any, **states: Any) -> dict[str, Any]:
        if not sure or not is_key(visitor):
            return {}
        services.history.remove(visitor, services.visitors.names(visitor))
        gone: dict[str, Any] = {}
        for mode in MODES:
            forget(services.visitors, visitor, mode)
            _previews_again(services, visitor, mode, states[f"{mode}__run_state"])
            gone |= in_tab(mode, no_image_updates() | {"status": html.says("All your images were deleted.")})
        return gone | history_updates([]) | delete_strip(services.visitors, visitor)

    form = flat | {"sure": flat["query"]}
    bind(
        [flat["delete_all"].click],
        delete_all,
        form,
        [*_may_be_gone()],
        _states(),
        js=_sure("--delete-all", '"yes"'),
        trigger_mode="multiple",
    )


def _bind_close_strip(services: Services, flat: Form) -> None:
    def close(*, visitor: Any, **states: Any) -> dict[str, Any]:
        if not is_key(visitor):
            return {}
        idle = [mode for mode in MODES if states[f"{mode}__run_state"] == IDLE["run_state"]]  # one of them says where the strip is
        return delete_strip(services.visitors, visitor) | {f"{mode}__status": html.says("") for mode in idle}

    bind([flat["close_strip"].click], close, flat, ["strip", *(f"{mode}__status" for mode in MODES)], _states(), queue=False)


def _sure(name: str, answer: str) -> str:
    """The script that asks before an image is deleted; ``answer`` is what it gives for yes."""
    return SURE_JS.replace("NAME", name).replace("ENGLISH", json.dumps(STYLED[name])).replace("ANSWER", answer)


def _bind_preview(services: Services, mode: str, flat: Form) -> None:
    """The button that goes from an earlier image back to the run that goes on meanwhile."""

    def back(*, visitor: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {f"{mode}__preview": gr.update(visible=False)}
        if (run := services.runs.find(visitor, mode)) and not run.done.is_set():
            run.show_previews()
            answer[f"{mode}__image_head"] = html.image_head()
            if step := run.latest_preview:
                answer[f"{mode}__picture"] = preview_of(step)
        return answer

    bind([flat[f"{mode}__preview"].click], back, flat, [f"{mode}__{name}" for name in ("preview", "image_head", "picture")], queue=False)


def _bind_kept(services: Services, mode: str, flat: Form) -> None:
    """The buttons that delete the image in sight, or keep a partial one."""
    own = {"entry": "last", "run_state": "run_state", "saved_fields": "saved_fields"}
    form = {name: flat[f"{mode}__{each}"] for name, each in own.items()} | {"sure": flat["query"]} | flat
    outputs = [*_may_be_gone()]

    def delete(
        *, sure: Any, visitor: Any, entry: Entry | None, run_state: Any, saved_fields: dict[str, Any], **states: Any
    ) -> dict[str, Any]:
        if not sure or not is_key(visitor):
            return {}
        before = services.history.entries(visitor)
        known = [each for each in (entry, *before) if each and each.name]
        if (at := at_address([each.path for each in known], sure)) is None:
            return {}
        name = known[at].name
        assert name
        services.history.remove(visitor, [name])
        strip = strip_without(services.visitors, visitor, name)
        others = [each for each in MODES if strip and each != mode and states[f"{each}__run_state"] not in BUSY]
        strip |= {f"{each}__status": html.says("") for each in others}  # one of them says where the strip is
        if entry is None or entry.name != name:  # another one came in its place meanwhile
            return history_updates(services.history.entries(visitor)) | strip
        _previews_again(services, visitor, mode, run_state)
        beside = _beside(before, name, mode) if run_state not in BUSY else None
        if beside:
            instead = image_updates_in(services, visitor, mode, beside, saved_fields)
            instead["status"] = html.says("The image was deleted. The next one is in its place.")
        else:
            instead = no_image_updates() | {"status": html.says("The image was deleted.")}
        return in_tab(mode, instead) | history_updates(services.history.entries(visitor)) | strip

    def keep(*, visitor: Any, entry: Entry | None) -> dict[str, Any]:
        if entry is None or not is_key(visitor):
            return {}
        history = services.history.entries(visitor)
        if any(each.recipe == entry.recipe for each in history):  # in another window
            return {f"{mode}__status": html.says("The partial image was already kept.")} | history_updates(history)
        try:
            services.history.keep(visitor, entry)
        except Exception as error:
            return {f"{mode}__status": html.says(html.sentence(error), "problem")}
        forget(services.visitors, visitor, mode)
        history = services.history.entries(visitor)
        return in_tab(mode, image_updates(history[0]) | {"status": html.says("The partial image is kept.")}) | history_updates(history)

    # Whoever said no and clicks again is asked again, also while the first answer is under way.
    sure = _sure("--delete-image", IN_SIGHT_JS.replace("MODE", mode))
    bind([flat[f"{mode}__delete"].click], delete, form, outputs, _states(), queue=False, js=sure, trigger_mode="multiple")
    bind([flat[f"{mode}__keep"].click], keep, form, outputs, queue=False)


def _beside(history: list[Entry], name: str, mode: str) -> Entry | None:
    """The mode's image that comes after this one, or before it where it is the last."""
    same = [each for each in history if each.recipe.mode == mode]
    at = next((at for at, each in enumerate(same) if each.name == name), 0)
    others = [each for each in same if each.name != name]
    return others[min(at, len(others) - 1)] if others else None


def _previews_again(services: Services, visitor: Any, mode: str, run_state: Any) -> None:
    """Show previews again in a tab that tells of a run, if an earlier image, now gone, was looked at meanwhile."""
    if run_state in BUSY and (run := services.runs.find(visitor, mode)):
        run.show_previews()


def _tabs_without(services: Services, visitor: Any, states: Mapping[str, Any]) -> list[str]:
    """The tabs whose image in sight is no longer kept; one without a name never was: a partial one, or one restored from a file."""
    names = services.visitors.names(visitor) if is_key(visitor) else []
    lasts: dict[str, Entry | None] = {mode: states.get(f"{mode}__last") for mode in MODES}
    return [mode for mode, last in lasts.items() if last and last.name and last.name not in names]


def _gone(services: Services, visitor: Any, states: Mapping[str, Any], said: str) -> dict[str, Any]:
    """What the page shows when images were deleted in another window, or after a day: none of them is in sight any more."""
    kept = services.history.entries(visitor) if is_key(visitor) else []
    cleared: dict[str, Any] = {}
    for mode in _tabs_without(services, visitor, states):
        _previews_again(services, visitor, mode, states.get(f"{mode}__run_state"))
        cleared |= in_tab(mode, no_image_updates() | {"status": html.says("")})
    return cleared | history_updates(kept) | _strip_gone(services, visitor) | {"restore_note": html.says(said, "problem")}


def _strip_gone(services: Services, visitor: Any) -> dict[str, Any]:
    """Hides the strip if another window deleted it with one of its images."""
    return strip_updates(None) if is_key(visitor) and not strip_before(services.visitors, visitor) else {}


def _bind_send(services: Services, mode: str, other: Mode, flat: Form) -> None:
    photo, as_map, recipe_map_sha256, prompt, status = (
        f"{other.name}__{name}" for name in ("photo", "as_map", "recipe_map_sha256", "prompt", "status")
    )
    form = {"entry": flat[f"{mode}__last"], "typed": flat[prompt]} | flat

    def send(*, entry: Entry | None, typed: Any, carried: dict[str, Any], visitor: Any, **states: Any) -> dict[str, Any]:
        if entry is None:
            return {}
        if not still_kept(entry.path):
            return _gone(services, visitor, states, ONE_GONE)
        try:
            its_copy = publish(Path(entry.path))  # which stays when the image is deleted
        except OSError as error:
            return {"restore_note": html.says(html.sentence(error), "problem")}
        taken = {photo: its_copy, as_map: False, recipe_map_sha256: None, status: html.says(""), "tabs": gr.Tabs(selected=other.name)}
        if typed and typed != carried.get(f"{other.name} prompt"):
            return taken
        return taken | {prompt: entry.recipe.prompt, "carried": carried | {f"{other.name} prompt": entry.recipe.prompt}}

    outputs = [photo, as_map, recipe_map_sha256, prompt, status, "tabs", "restore_note", "carried", *_may_be_gone()]
    bind([flat[f"{mode}__send_{other.name}"].click], send, form, outputs, _states(), queue=False)
