"""The page: a tab for each mode, this visitor's images below, and what each control does."""

import json
from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.modes import MODES, Mode
from flux_demo.request import MAX_PROMPT
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.api import add_api
from flux_demo.ui.blocks import Page
from flux_demo.ui.cross_tab import bind_across, bind_end
from flux_demo.ui.events import Form, bind
from flux_demo.ui.generate import BEGIN_JS, STOP_JS, run_handler
from flux_demo.ui.history import Entry, actions
from flux_demo.ui.loading import bind_loading
from flux_demo.ui.preview import live_map
from flux_demo.ui.run import MAX_RUNS
from flux_demo.ui.tab import build_tab
from flux_demo.ui.tab_state import find_route

TITLE = "FLUX.1 from words, edges and depth"
QUEUED = 256  # events that may wait in Gradio's queue together; runs wait in ours
SHOWN_BY_A_RUN = ("status", "picture", "caption", "run", "stop", "run_state", "history", "gallery", "last")
SHOWN_OF_A_MAP = ("map", "shown", "map_note")


def build(studio: Studio) -> gr.Blocks:
    """The page and its API; nothing heavy is loaded."""
    with Page(studio.settings, title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f"<h1>{TITLE}</h1>", elem_id="title")
        everywhere: Form = {"history": gr.State([])}
        forms: dict[str, Form] = {}
        with gr.Tabs(elem_id="modes") as everywhere["tabs"]:
            for mode in MODES.values():
                with gr.Tab(mode.title, id=mode.name, elem_id=f"tab-{mode.name}"):
                    forms[mode.name] = build_tab(studio, mode)
                    page.kept_files += forms[mode.name].get("example_paths", [])
        _pictures(everywhere)
        for mode in MODES.values():
            _bind_tab(studio, mode, forms[mode.name] | everywhere)
        bind_across(studio, forms, everywhere, page)
        bind_loading(studio, forms)
        add_api(studio)
    return page.queue(max_size=QUEUED, default_concurrency_limit=4, api_open=False)


def _pictures(everywhere: Form) -> None:
    with gr.Column(elem_classes="pictures"):
        with gr.Row(elem_classes="pictures-head"):
            gr.HTML("<h2>Your pictures</h2><p class='explains'>Only you see them. Drop one on the page to get its settings back.</p>")
            everywhere["dropped"] = gr.UploadButton(
                "Open a picture", file_types=["image"], type="filepath", size="sm", elem_id="restore", elem_classes="open"
            )
        everywhere["restore_note"] = gr.HTML(html.says(""), elem_classes="status", elem_id="restore-note")
        everywhere["gallery"] = gr.Gallery(
            [],
            allow_preview=False,
            interactive=False,
            show_label=False,
            label="Your pictures",
            buttons=[],
            object_fit="cover",
            elem_id="history",
            elem_classes="thumbs",
        )


def _bind_tab(studio: Studio, mode: Mode, form: Form) -> None:
    """What happens within one tab."""
    options = tuple(option.name for option in mode.control.options) if mode.control else ()
    if mode.control:
        sources = [form[name].change for name in ("photo", "as_map", "size", "fit", *options)]
        bind(
            sources,
            live_map(studio, mode),
            form,
            list(SHOWN_OF_A_MAP),
            options,
            trigger_mode="always_last",
            concurrency_id="map",
            concurrency_limit=2,
        )
    gr.on(
        [form["run"].click],
        None,
        None,
        [form[name] for name in ("status", "run", "stop", "run_state")],
        js=BEGIN_JS,
        api_visibility="private",
    )
    run = bind(
        [form["run"].click],
        run_handler(studio, mode),
        form,
        [*SHOWN_BY_A_RUN, *actions(), *(SHOWN_OF_A_MAP if mode.control else ())],
        options,
        concurrency_id="run",
        concurrency_limit=MAX_RUNS,
    )
    gr.on(
        [form["stop"].click],
        None,
        None,
        [form[name] for name in ("status", "stop", "run_state")],
        js=STOP_JS,
        cancels=[run],
        api_visibility="private",
    )
    bind_end(run, form)
    bind([form["prompt"].change], _hint(studio, mode), form, ["hint"], queue=False, trigger_mode="always_last")
    bind([form["reuse"].click], _keep_seed, form, ["seed", "status"], queue=False)
    bind([form["renew"].click], _new_seed, form, ["seed", "status"], queue=False)
    for chip in form["chips"]:
        gr.on([chip.click], None, None, form["prompt"], js=f"() => {json.dumps(chip.value)}", api_visibility="private")


def _hint(studio: Studio, mode: Mode) -> Any:
    """Names the words that the mini does not know, where the mini runs the mode."""

    def hint(*, prompt: Any) -> dict[str, Any]:
        route = find_route(studio, mode)
        mini = isinstance(route, Route) and route.backend.name == "mini"
        return {"hint": html.unknown_words(prompt[:MAX_PROMPT]) if mini and isinstance(prompt, str) else html.says("")}

    return hint


def _keep_seed(*, last: Entry | None) -> dict[str, Any]:
    seed = str(last.recipe.seed) if last and last.recipe.seed is not None else ""
    return {"seed": seed, "status": html.says(f"The next image reuses seed {seed}." if seed else "")}


def _new_seed() -> dict[str, Any]:
    return {"seed": "", "status": html.says("The next image takes a random seed.")}
