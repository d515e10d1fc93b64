"""The page: a tab for each mode, this visitor's images below, and what each control does."""

from itertools import chain
from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.modes import MODES, Mode
from flux_demo.prompts import MAX_PROMPT
from flux_demo.studio import Studio
from flux_demo.ui import clicks, html
from flux_demo.ui.api import add_api
from flux_demo.ui.blocks import Page
from flux_demo.ui.compare import compare_handler
from flux_demo.ui.cross_tab import bind_cross_tab, bind_follow_after_close
from flux_demo.ui.events import Form, bind
from flux_demo.ui.generate import BEGIN_JS, RUN_COMPONENTS, STOP_JS, announced_seed, run_handler, stop_handler
from flux_demo.ui.history import Entry, History, actions
from flux_demo.ui.kept_form import keeping_form
from flux_demo.ui.languages import mark_translatable
from flux_demo.ui.link import bind_link
from flux_demo.ui.loading import bind_loading
from flux_demo.ui.map_views import VIEW_COMPONENTS
from flux_demo.ui.opening import bind_opening
from flux_demo.ui.partial import remember_unwatched
from flux_demo.ui.preview import auto_thresholds, invert_photo, live_map_handler, offers, photo_handler
from flux_demo.ui.prompt_meter import measure
from flux_demo.ui.run import MAX_RUNS, Run, Runs
from flux_demo.ui.services import Services
from flux_demo.ui.size_field import bind_size
from flux_demo.ui.strokes import bind_strokes
from flux_demo.ui.tab import build_tab
from flux_demo.ui.tab_state import find_route
from flux_demo.ui.translation import REUSES_SEED, TAKES_RANDOM_SEED, translate
from flux_demo.ui.turns import Turns
from flux_demo.ui.visitor_store import VisitorStore

TITLE = "FLUX.1 [dev]: Text, Canny, Depth"
QUEUED = 256  # events that may wait in Gradio's queue together; runs wait in ours
MAP_COMPONENTS = (*VIEW_COMPONENTS, "shown", "map_note", "recipe_map_sha256", "use_as_map", "use_inverted")
# Two sliders that must not cross: the one that moves pushes the other along, in the browser; a number that is typed does so when its field is
# left, since "0." is not yet "0.8". GAP is what must stay between them. A number out of range is refused as it was typed.
PUSH_JS = """(low, high) => {
    const as_it_is = { __type__: "update" };
    const valid = (value) => Number.isFinite(value) && LEAST <= value && value <= MOST;
    if (document.activeElement?.matches("#MOVED input[type=number]")) return [as_it_is, as_it_is];
    if (!valid(low) || !valid(high) || low + GAP <= high) return [as_it_is, as_it_is];
    const start = UP ? Math.min(low, MOST - GAP) : Math.max(high - GAP, LEAST);
    return [start, start + GAP].map((value) => Number(value.toFixed(4)));
}"""
# The prompt, and the prompt without the word that is being typed, which nobody knows yet.
JUDGED_JS = r"""(prompt) => {
    const field = document.activeElement;
    if (!field?.matches(".prompt textarea") || field.value !== prompt) return [prompt, prompt];
    const [before, after] = [prompt.slice(0, field.selectionStart), prompt.slice(field.selectionStart)];
    return [prompt, before.replace(/[\p{L}\p{N}'’-]+$/u, "") + after.replace(/^[\p{L}\p{N}'’-]+/u, "")];
}"""


def build(studio: Studio) -> gr.Blocks:
    """The page and its API; nothing heavy is loaded. Where strangers reach it, what they made is gone after a day."""
    with Page(studio.settings, title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f"<h1>{TITLE}</h1>", elem_id="title")
        if studio.settings.visitors_pay:
            gr.LoginButton(size="sm", elem_id="sign-in")
        page_form: Form = {
            "history": gr.State([]),
            "carried": gr.State({}),  # by tab and field, what came along from another tab
            "visitor": gr.BrowserState("", storage_key="flux_demo_visitor", secret="flux_demo"),  # the secret is sent to every browser
            "query": gr.Textbox(visible=False, label="Query"),
        }
        forms: dict[str, Form] = {}
        with gr.Tabs(elem_id="modes") as page_form["tabs"]:
            for mode in MODES.values():
                with gr.Tab(mode.title, id=mode.name, elem_id=f"tab-{mode.name}"):
                    forms[mode.name] = build_tab(studio, mode)
                    page.typed += [forms[mode.name][name] for name in ("prompt", "seed", "size")]
                    page.kept_files += chain.from_iterable(forms[mode.name].get("example_paths", {}).values())
        page_form["strip"] = gr.Image(
            visible=False,
            interactive=False,
            format="png",
            label="Comparison",
            show_label=False,
            buttons=["download", "fullscreen"],
            elem_id="strip",
            alt_text="The same prompt and seed in every mode, side by side",
        )
        page_form["close_strip"] = gr.Button("Close comparison", size="sm", elem_id="close-strip", elem_classes="link")
        _images(page_form)
        backends = {backend.name: backend.title for backend in studio.backends}
        visitors = VisitorStore(studio.gallery.folder, bool(studio.settings.public))
        page.on_clear += [visitors.forget_old, visitors.forget_unlisted]

        def run_ended(visitor: str, run: Run) -> None:
            clicks.record_end(visitors, visitor, run.tab, run.unwatched)
            remember_unwatched(studio, visitors, visitor, run)

        services = Services(studio, visitors, History(studio.gallery, visitors, backends), Runs(studio, run_ended), Turns())
        for mode in MODES.values():
            _bind_tab(services, mode, forms[mode.name] | page_form)
        bind_cross_tab(services, forms, page_form, bind_opening(services, forms, page_form, page))
        bind_loading(studio, forms)
        add_api(studio, visitors)
        page.disable_progress_tracking()
        mark_translatable(page)
    return page.queue(max_size=QUEUED, default_concurrency_limit=4, api_open=False)


def _images(page_form: Form) -> None:
    page_form["offered"] = gr.State(None)
    with gr.Column(elem_id="restore-note"):
        page_form["restore_note"] = gr.HTML(html.says(""), elem_classes="status")
        with gr.Row(elem_classes="offers"):
            page_form["offer_settings"] = gr.Button("Use its settings in Text", size="sm", visible=False)
            for mode in MODES.values():
                if mode.control:
                    page_form[f"offer_{mode.name}"] = gr.Button(f"Use as photo in {mode.title}", size="sm", visible=False)
            page_form["close_note"] = gr.Button("Close", size="sm", elem_classes="close-note")
    with gr.Column(elem_classes="pictures"):
        with gr.Row(elem_classes="pictures-head"):
            with gr.Column(min_width=0, elem_classes="yours"):
                gr.HTML(html.heading("Your images"))
                gr.HTML(html.explanation("Only you see them. Load the PNG of one, or drop it on the page, to get its settings back."))
            page_form["dropped"] = gr.UploadButton(
                "Load settings from PNG", file_types=["image"], type="filepath", size="sm", elem_id="restore", elem_classes="open"
            )
            page_form["zip"] = gr.Button("Download all", size="sm", elem_id="download-all", elem_classes="open")
            page_form["archive"] = gr.File(visible="hidden", elem_id="archive", label="Archive")
            page_form["delete_all"] = gr.Button("Delete all", size="sm", elem_id="delete-all", elem_classes="open")
        page_form["gallery"] = gr.Gallery(
            [],
            allow_preview=False,
            interactive=False,
            show_label=False,
            label="Your images",
            buttons=[],
            object_fit="cover",
            elem_id="history",
            elem_classes="thumbs",
        )
        page_form["recent"] = gr.HTML("", elem_id="recent", visible=True)
        page_form["look_again"] = gr.Button("Look again", visible="hidden", elem_id="look-again")
        page_form["check_again"] = gr.Button("Check backends", visible="hidden", elem_id="check-again")


def _bind_tab(services: Services, mode: Mode, form: Form) -> None:
    """What happens within one tab."""
    studio = services.studio
    options = tuple(option.name for option in mode.control.options) if mode.control else ()
    if mode.control:
        _bind_map(services, mode, form, options)
    running = [form["run"].click, form["compare"].click] if mode.control else [form["run"].click]
    gr.on(
        running,
        None,
        None,
        [form[name] for name in ("status", "run", "stop", "run_state")],
        js=BEGIN_JS.replace("MODE", mode.name),
        api_visibility="private",
    )
    shown = [*RUN_COMPONENTS, *actions(), *(MAP_COMPONENTS if mode.control else ())]
    # A click between a run's last answer and the end of its stream counts too; Gradio would skip it.
    limits = {"concurrency_id": "run", "concurrency_limit": MAX_RUNS, "trigger_mode": "multiple"}
    runs = [bind([form["run"].click], keeping_form(services, mode, run_handler(services, mode)), form, shown, options, **limits)]
    if mode.control:
        runs.append(
            bind([form["compare"].click], keeping_form(services, mode, compare_handler(services, mode)), form, shown, options, **limits)
        )
    gr.on(
        [form["stop"].click],
        None,
        None,
        [form[name] for name in ("status", "stop", "run_state")],
        js=STOP_JS,
        cancels=runs,
        api_visibility="private",
    )
    bind([form["stop"].click], stop_handler(services, mode), form, ["run_state"], queue=False)
    for run in runs:
        bind_follow_after_close(services, mode, run, form)
    hint, judged = _hint_handler(studio, mode), form | {"judged": form["query"]}
    typed = [form["prompt"].change, form["prompt"].blur]
    bind(typed, hint, judged, ["hint"], queue=False, trigger_mode="always_last", js=JUDGED_JS)
    bind(running, hint, judged, ["hint"], queue=False, js="(prompt) => [prompt, prompt]")
    bind_size(studio, mode, form)
    bind([form["reuse_seed"].click], _reuse_seed, form, ["seed", "status", "run_state"], queue=False)
    bind([form["random_seed"].click], _random_seed, form, ["seed", "status", "run_state"], queue=False)
    bind_link(studio, mode, form)


def _bind_map(services: Services, mode: Mode, form: Form, options: tuple[str, ...]) -> None:
    assert mode.control
    limits = {"trigger_mode": "always_last", "concurrency_id": "map", "concurrency_limit": 2}
    bind(
        [form["photo"].change], photo_handler(services, mode), form, [*MAP_COMPONENTS, "photo", "photo_note", "refused"], options, **limits
    )
    others = [form[name].change for name in ("as_map", "size", "fit", *options)]
    bind(others, live_map_handler(services, mode), form, [*MAP_COMPONENTS], options, trigger_mode="always_last", queue=False)
    offered = ["use_as_map", "use_inverted"]
    bind([form["use_as_map"].click], lambda: {"as_map": True} | offers(None), form, ["as_map", *offered], queue=False)
    bind([form["use_inverted"].click], invert_photo, form, ["photo", "as_map", "map_note", *offered])
    bind_strokes(services, mode, form)
    lower, upper = mode.control.bounds
    both = [form[lower.name], form[upper.name]]
    for moved, up in zip(both, ("true", "false"), strict=True):
        script = (
            PUSH_JS.replace("GAP", str(mode.control.min_gap))
            .replace("UP", up)
            .replace("MOST", str(upper.maximum))
            .replace("LEAST", str(lower.minimum))
            .replace("MOVED", moved.elem_id)
        )
        gr.on([moved.input, moved.release], None, both, both, js=script, api_visibility="private", trigger_mode="always_last")
    if "auto" in form:
        bind([form["auto"].click], auto_thresholds, form, ["low", "high", "map_note"], queue=False)


def _hint_handler(studio: Studio, mode: Mode) -> Any:
    """How long the prompt is for the model, and where the mini runs the mode, the words that it does not know, of what is judged."""

    def hint(*, prompt: Any, judged: Any) -> dict[str, Any]:
        if not isinstance(prompt, str) or not isinstance(judged, str):
            return {"hint": html.says("")}
        route = find_route(studio, mode)
        mini = isinstance(route, Route) and route.runs_mini(mode)
        return {"hint": html.says(measure(studio, mode, prompt[:MAX_PROMPT])) + (html.unknown_words(judged[:MAX_PROMPT]) if mini else "")}

    return hint


def _reuse_seed(*, last: Entry | None, run_state: Any) -> dict[str, Any]:
    seed = str(last.recipe.seed) if last and last.recipe.seed is not None else ""
    return announced_seed(run_state, seed, translate(REUSES_SEED, seed=seed) if seed else "")


def _random_seed(*, run_state: Any) -> dict[str, Any]:
    return announced_seed(run_state, "", TAKES_RANDOM_SEED)
