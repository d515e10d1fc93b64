"""Nothing is lost: a page that opens gets back what its visitor typed, made, and left running. And a link's query fills in the form."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from flux_demo.modes import MATCH, MODES, Mode
from flux_demo.reading import as_int
from flux_demo.ui import html
from flux_demo.ui.blocks import is_too_long
from flux_demo.ui.clicks import SINCE_JS, lost_click_message
from flux_demo.ui.cross_tab import bind_follow_after_close
from flux_demo.ui.events import Form, bind
from flux_demo.ui.fetch import SETTINGS
from flux_demo.ui.files import ShownMap
from flux_demo.ui.filling import LINKED, from_query, usable_values
from flux_demo.ui.generate import RUN_COMPONENTS, UNDER_WAY, is_outdated, watch
from flux_demo.ui.history import Entry, actions, history_updates, image_components
from flux_demo.ui.image_heading import heading_update, image_updates_in
from flux_demo.ui.kept_form import keep_form, kept_form, photo_as_path
from flux_demo.ui.partial import partial_before
from flux_demo.ui.run import MAX_RUNS
from flux_demo.ui.services import Services
from flux_demo.ui.strip import strip_before
from flux_demo.ui.tab import fields_of
from flux_demo.ui.visitor_store import is_key, new_key

CARRIED = ("prompt", "seed", "size")  # go along from tab to tab
LOAD_JS = f"async (visitor) => [visitor || await window.firstKey(), window.location.search, ({SINCE_JS})(), window.doneLately()]"
# The link has been read: a reload is to bring back what the person made of it, and not the link once more.
DONE_WHILE_OPENING_JS = """() => {
    const { tab, typed } = window.doneWhileOpening;
    window.doneWhileOpening.over = true;
    const address = new URL(location.href);
    for (const name of LINKED) address.searchParams.delete(name);
    if (address.href !== location.href) history.replaceState(history.state, "", address);
    document.getElementById(tab)?.click();
    return FIELDS.map((field) => typed[field] ?? { __type__: "update" });
}""".replace("LINKED", json.dumps(LINKED))

# ``tabsInSight`` are the present tab and the one before it, whoever chose them: Gradio tells of a person's choice only.
TAB_JS = """await new Promise(requestAnimationFrame);
    const tab = document.querySelector("#modes [role=tab][aria-selected=true]")?.id.replace(/^tab-|-button$/g, "") ?? "";
    window.tabsInSight ??= [FIRST, FIRST];
    if (tab !== window.tabsInSight[0]) window.tabsInSight = [tab, window.tabsInSight[0]];""".replace("FIRST", json.dumps(next(iter(MODES))))
# A tab that the page chose itself, for an image that was sent on or restored. While the page opens, the choice is not a person's.
TAB_IN_SIGHT_JS = f"""async (visitor) => {{
    {TAB_JS}
    return [window.doneWhileOpening.over ? visitor : "", tab];
}}"""
# Asked of the page, because Gradio gives the last of several events the data of the first.
CHOSEN_TAB_JS = f"""async (_tab, _before, ...others) => {{
    {TAB_JS}
    const before = window.tabsInSight[1];
    window.tabsInSight[1] = tab; // a second click on it carries nothing
    return [tab, before, ...others];
}}"""
# The tab that a person chose before the page knew its visitor, if they chose one.
TAB_WHILE_OPENING_JS = """(visitor, tab, ...fields) => {
    return [visitor, window.doneWhileOpening.tab?.replace(/^tab-|-button$/g, "") ?? "", ...fields];
}"""


def bind_opening(services: Services, forms: dict[str, Form], page_form: Form, blocks: gr.Blocks) -> Any:
    """Bind what keeps the forms, and what brings them back. Returns the event after which they are back."""
    flat = page_form | {f"{mode}__{name}": part for mode, form in forms.items() for name, part in form.items()}
    outputs = ["visitor", "carried", "history", "gallery", "recent", "tabs", "strip"]
    defaults = {mode: form["saved_fields"].value for mode, form in forms.items()}
    for name, mode in MODES.items():
        forms[name]["attached_run"] = flat[f"{name}__attached_run"] = gr.State(None)
        shown = [*image_components(), *fields_of(mode), "run", "stop", "run_state", "status", "attached_run", "saved_fields"]
        outputs += [f"{name}__{each}" for each in shown]
        _bind_form(services, mode, forms[name] | page_form)
    loaded = bind(
        [blocks.load],
        opening_handler(services, defaults),
        flat | {"clicked": page_form["query"], "lately": page_form["query"]},
        outputs,
        queue=False,
        js=LOAD_JS,
    )
    not_told = ("photo", "preset")  # a file waits until the page is open; a list tells the script only its words
    fields = [(mode, name) for mode in MODES for name in fields_of(MODES[mode]) if name not in not_told]
    script = DONE_WHILE_OPENING_JS.replace("FIELDS", json.dumps([f"{name}-{mode}" for mode, name in fields]))
    opened = loaded.then(None, None, [forms[mode][name] for mode, name in fields], js=script, api_visibility="private")
    _bind_opened(services, flat, opened)
    for name, mode in MODES.items():
        outputs_of_run = [*RUN_COMPONENTS, *actions()]
        followed = bind(
            loaded.then,
            _follow_on(services, mode),
            forms[name] | page_form,
            outputs_of_run,
            concurrency_id="run",
            concurrency_limit=MAX_RUNS,
        )
        bind_follow_after_close(services, mode, followed, forms[name] | page_form)
    _bind_carried(services, forms, page_form)
    return opened


def opening_handler(services: Services, defaults: dict[str, dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """What a page shows when it opens: what its visitor left, and what a link says. ``defaults`` are the forms' fields by mode.

    Whoever comes without a key, as from a browser that keeps none, gets one.
    """

    def open_page(*, visitor: Any, query: Any, clicked: Any, lately: Any) -> dict[str, Any]:
        now = time.time()  # what follows may take a while
        mode_of_link, linked = from_query(services.studio, query)
        key = visitor if is_key(visitor) else new_key()
        if mode_of_link:
            services.visitors.update_record(key, "", {"tab": mode_of_link})
        if key != visitor:
            return {"visitor": key} | linked
        history = services.history.entries(visitor)
        carried = services.visitors.record(visitor, "").get("carried", {})
        answer: dict[str, Any] = {"visitor": visitor, "carried": carried, **history_updates(history)}
        for name, mode in MODES.items():
            form = kept_form(services, visitor, mode)
            values = _taken(services, mode, form | _not_kept(services, visitor, name, lately, defaults[name], now))
            values["saved_fields"] = defaults[name] | {each: value for each, value in form.items() if each in values}
            entry = next((each for each in history if each.recipe.mode == name), None)
            partial = partial_before(services.history, visitor, name)
            if partial and (entry is None or entry.recipe.created <= partial.recipe.created):
                entry = partial
            if entry:
                values |= image_updates_in(services, visitor, name, entry, values["saved_fields"])
            if (run := services.runs.find(visitor, name)) and not run.done.is_set():
                values |= UNDER_WAY | {"attached_run": id(run), "status": html.says("Finding your run", "busy")}
            elif what := lost_click_message(services.visitors, visitor, name, clicked, now):
                values["status"] = html.says(what, "problem")
            answer |= {f"{name}__{each}": value for each, value in values.items()}
        if (tab := _chosen_tab(services, visitor, lately, now)) in MODES:
            answer["tabs"] = gr.Tabs(selected=tab)
        return answer | strip_before(services.visitors, visitor) | linked

    return open_page


def _taken(services: Services, mode: Mode, form: dict[str, Any]) -> dict[str, Any]:
    """The form without the values that the mode's route does not take; those fall back to their defaults, since the mode may now run elsewhere."""
    settings = {name: str(as_int(form[name])) for name in SETTINGS if name in form}
    taken, _ = usable_values(services.studio, mode, settings)
    return {name: value for name, value in form.items() if name not in settings or name in taken}


def _not_kept(services: Services, visitor: str, mode: str, lately: Any, defaults: dict[str, Any], now: float) -> dict[str, Any]:
    """What was entered in this window after the form was last kept: the program did not answer then.

    Anybody may send anything in its place, so a photo is none of it: Gradio would serve the file of any path.
    """
    since = now - services.visitors.saved_at(visitor, mode)
    values = {name: _done_within(since, lately, f"{name}-{mode}") for name in defaults if name != "photo"}
    return {name: value for name, value in values.items() if value is not None and _kind(value) == _kind(defaults[name])}


def _kind(value: Any) -> str:
    return "switch" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "text"


def _chosen_tab(services: Services, visitor: str, lately: Any, now: float) -> Any:
    since = now - services.visitors.saved_at(visitor, "")
    return _done_within(since, lately, "tab") or services.visitors.record(visitor, "").get("tab")


def _done_within(seconds: float, lately: Any, name: str) -> str | float | None:
    """A value of ``window.doneLately``, if it was entered within that time."""
    match lately.get(name) if isinstance(lately, dict) else None:
        case [str() | int() | float() as value, int() | float() as ago] if 0 <= ago < seconds:
            return value
    return None


def _bind_form(services: Services, mode: Mode, form: Form) -> None:
    """Keep what changes in the form, take back an error that was shown, and say when the image is of earlier settings."""
    names = fields_of(mode)

    def changed(
        *, visitor: Any, run_state: Any, last: Entry | None, shown: ShownMap | None, saved_fields: dict[str, Any], **fields: Any
    ) -> dict[str, Any]:
        fields = photo_as_path(fields)
        # A change that was made before a run and is told of after it has been kept by the click.
        new = keep_form(services, visitor, mode, fields, saved_fields)
        answer = {"status": html.says(""), "run_state": "idle"} if new and is_outdated(run_state, fields["seed"]) else {}
        return answer | heading_update(services, visitor, mode, last, fields, shown)

    triggers = [form[name].change for name in names]
    bind(triggers, changed, form, ["status", "run_state", "image_head"], names, queue=False, trigger_mode="always_last")


def _bind_opened(services: Services, flat: Form, opened: Any) -> None:
    """Keep what was typed and chosen before the page knew its visitor, but for a photo, which is kept with the next change."""
    names = {mode: [name for name in fields_of(MODES[mode]) if name != "photo"] for mode in MODES}

    def keep(*, visitor: Any, tab: Any, **fields: Any) -> dict[str, Any]:
        if is_key(visitor) and tab in MODES:
            services.visitors.update_record(visitor, "", {"tab": tab})
        for mode in MODES:
            typed = {name: fields[f"{mode}__{name}"] for name in names[mode]}
            keep_form(services, visitor, MODES[mode], typed, fields[f"{mode}__saved_fields"])
        return {}

    every = tuple(f"{mode}__{name}" for mode in MODES for name in (*names[mode], "saved_fields"))
    bind(opened.then, keep, flat | {"tab": flat["query"]}, [], every, queue=False, js=TAB_WHILE_OPENING_JS)


def _follow_on(services: Services, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """Follow a run that an earlier page of this visitor started."""

    def follow(*, visitor: Any, attached_run: Any, last: Entry | None, saved_fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if attached_run is not None and is_key(visitor) and (run := services.runs.find(visitor, mode.name)):
            yield from watch(services, visitor, run, last, saved_fields)

    return follow


def _bind_carried(services: Services, forms: dict[str, Form], page_form: Form) -> None:
    """When a tab is chosen, prompt, seed and size of the tab before come along, unless the person typed others there."""
    modes = list(forms)
    defaults = {mode: form["saved_fields"].value for mode, form in forms.items()}
    carried = page_form["carried"]
    components = [forms[mode][name] for mode in modes for name in CARRIED]

    def chosen(tab: Any, before: Any, visitor: Any, came: dict, *values: Any) -> list[Any]:
        new, old = (name if name in MODES else modes[0] for name in (tab, before))
        table = {mode: dict(zip(CARRIED, values[index * 3 : index * 3 + 3], strict=True)) for index, mode in enumerate(modes)}
        came = dict(came)
        answer: dict[tuple[str, str], Any] = {}
        for name in CARRIED if new != old else ():
            mine, theirs = table[new][name] or "", table[old][name] or ""
            means_something = name == "seed"  # an empty seed is a choice too: a random one
            is_default = name == "size" and theirs == defaults[old][name]
            if theirs in (mine, MATCH) or not (theirs or means_something) or is_default or is_too_long(theirs):
                continue
            if mine == came.get(f"{new} {name}", defaults[new][name] or "") or not (mine or means_something):
                answer[new, name] = came[f"{new} {name}"] = theirs
        if is_key(visitor):
            services.visitors.update_record(visitor, "", {"tab": new, "carried": came})
        return [came, *(answer.get((mode, name), gr.skip()) for mode in modes for name in CARRIED)]

    page_form["tabs"].select(
        chosen,
        [page_form["query"], page_form["query"], page_form["visitor"], carried, *components],
        [carried, *components],
        preprocess=False,
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        js=CHOSEN_TAB_JS,
        api_visibility="private",
    )

    def in_sight(*, visitor: Any, tab: Any) -> dict[str, Any]:
        if is_key(visitor) and tab in MODES:
            services.visitors.update_record(visitor, "", {"tab": tab})
        return {}

    bind([page_form["tabs"].change], in_sight, page_form | {"tab": page_form["query"]}, [], queue=False, js=TAB_IN_SIGHT_JS)
