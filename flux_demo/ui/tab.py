"""The layout of one mode's tab. What its components do is bound in other files."""

from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.maps.fit import FITS as _FITS
from flux_demo.modes import MODES, Mode, Option
from flux_demo.studio import Studio
from flux_demo.ui import examples
from flux_demo.ui.files import publish
from flux_demo.ui.tab_state import FITS, find_route, tab_state

Form = dict[str, Any]

assert {name for _, name in FITS} == set(_FITS)


def build_tab(studio: Studio, mode: Mode) -> Form:
    """Lay out a mode's tab and return its components by name; a handler's parameters of the same names are its inputs."""
    form: Form = {"shown": gr.State(None), "last": gr.State(None), "wanted": gr.State(None)}
    form["run_state"] = gr.Textbox("idle", visible=False, label="Run state")
    state = tab_state(studio, mode)
    with gr.Row(elem_classes=["work", "with-map" if mode.control else "without-map"]):
        with gr.Column(elem_classes="asking"):
            if mode.control:
                _photo_and_map(form, state, mode)
            _prompt(form, studio, mode)
            _running(form, state)
            _settings(form, state, mode)
        with gr.Column(elem_classes="answer"):
            _picture(form, state, mode)
    return form


def _photo_and_map(form: Form, state: dict, mode: Mode) -> None:
    assert mode.control
    with gr.Row(elem_classes="pair"):
        with gr.Column(elem_classes="pane", min_width=0):
            gr.HTML("<h2>Photo</h2>")
            with gr.Column(elem_classes="own", min_width=0, **state["own"]) as form["own"]:
                form["photo"] = gr.Image(
                    type="filepath",
                    image_mode=None,
                    format="png",
                    sources=["upload"],
                    buttons=[],
                    show_label=False,
                    label="Photo",
                    elem_id=f"photo-{mode.name}",
                    elem_classes=["box"],
                    placeholder="Drop or paste a photo\nor click to choose one",
                    alt_text="The photo you gave",
                )
                _example_photos(form, mode)
                form["as_map"] = gr.Checkbox(
                    label="This already is a map", info="It is followed as it is, not drawn again.", elem_classes="switch", container=False
                )
            form["sample_note"] = gr.HTML(**state["sample_note"])
            form["sample"] = gr.Radio(label="Sample picture", elem_classes="samples", **state["sample"])
        with gr.Column(elem_classes="pane", min_width=0):
            gr.HTML(f"<h2>{mode.control.title}</h2>")
            form["map"] = gr.Image(
                interactive=False,
                format="png",
                show_label=False,
                label=f"{mode.control.title} map",
                buttons=["download", "fullscreen"],
                elem_id=f"map-{mode.name}",
                elem_classes=["box", "pixels"],
                alt_text=f"The map that will be followed. {mode.control.sees}.",
            )
            form["map_note"] = gr.HTML(**state["map_note"], elem_classes="note")
            with gr.Column(elem_classes="drawing", min_width=0, **state["own"]) as form["drawing"]:
                for option in mode.control.options:
                    form[option.name] = _option(option)


def _option(option: Option) -> gr.components.Component:
    if option.is_switch:
        return gr.Checkbox(value=bool(option.default), label=option.label, elem_classes="switch", container=False)
    return gr.Slider(
        option.minimum,
        option.maximum,
        option.default,
        step=option.step,
        label=option.label,
        info=option.help,
        buttons=[],
        elem_classes="dial",
    )


def _example_photos(form: Form, mode: Mode) -> None:
    form["example_paths"] = paths = [publish(path) for path in examples.photos()]
    if paths:
        form["example_photos"] = gr.Gallery(
            paths,
            columns=len(paths),
            allow_preview=False,
            interactive=False,
            show_label=False,
            label="Example photos",
            buttons=[],
            object_fit="cover",
            elem_id=f"examples-{mode.name}",
            elem_classes="thumbs",
        )


def _prompt(form: Form, studio: Studio, mode: Mode) -> None:
    form["prompt"] = gr.Textbox(
        label="Prompt",
        lines=3 if mode.control else 5,
        max_lines=8,
        placeholder="Describe the picture, in English",
        elem_id=f"prompt-{mode.name}",
        elem_classes="prompt",
    )
    form["hint"] = gr.HTML('<p class="say"></p>', elem_classes="note")
    route = find_route(studio, mode)
    with gr.Row(elem_classes="chips"):
        form["chips"] = [
            gr.Button(prompt, size="sm", elem_classes="chip")
            for prompt in examples.prompts(route.backend.name if isinstance(route, Route) else None, mode)
        ]


def _running(form: Form, state: dict) -> None:
    with gr.Column(elem_classes="running"):
        form["where"] = gr.HTML(**state["where"])
        form["refusal"] = gr.HTML(**state["refusal"])
        with gr.Row(elem_classes="buttons"):
            form["run"] = gr.Button("Make the picture", variant="primary", elem_classes="run", **state["run"])
            form["stop"] = gr.Button("Stop", interactive=False, elem_classes="stop", **state["stop"])
            form["fetch"] = gr.Button(size="sm", elem_classes="fetch", **state["fetch"])


def _settings(form: Form, state: dict, mode: Mode) -> None:
    with gr.Accordion("Settings", open=False, elem_classes="settings"):
        with gr.Row(elem_classes="fields"):
            form["size"] = gr.Dropdown(
                label="Size", info="width × height; any multiple of 16 can be typed", allow_custom_value=True, **state["size"]
            )
            form["seed"] = gr.Textbox(
                label="Seed", info="the same seed gives the same picture", placeholder="a new one each time", max_lines=1
            )
        form["steps"] = gr.Slider(label="Steps", step=1, buttons=[], elem_classes="dial", **state["steps"])
        form["guidance"] = gr.Slider(
            label="How closely to follow the prompt", info="guidance", step=0.1, buttons=[], elem_classes="dial", **state["guidance"]
        )
        if mode.control:
            form["fit"] = gr.Radio(list(FITS), value="crop", label="If photo and picture differ in shape", elem_classes="samples")
        form["preset"] = gr.Dropdown(label="Speed or faithfulness", info="preset", **state["preset"])


def _picture(form: Form, state: dict, mode: Mode) -> None:
    gr.HTML("<h2>Picture</h2>")
    form["picture"] = gr.Image(
        interactive=False,
        format="png",
        show_label=False,
        label="Picture",
        buttons=["download", "fullscreen"],
        elem_id=f"picture-{mode.name}",
        elem_classes=["box", "large"],
        alt_text="The picture",
    )
    form["status"] = gr.HTML('<p class="say"></p>', elem_classes="status", elem_id=f"status-{mode.name}")
    form["caption"] = gr.HTML("", elem_classes="note", elem_id=f"caption-{mode.name}")
    with gr.Row(elem_classes="actions"):
        form["reuse"] = gr.Button("Keep seed", size="sm", interactive=False)
        form["renew"] = gr.Button("New seed", size="sm", interactive=False)
        form["again"] = gr.Button("Restore settings", size="sm", interactive=False)
        for other in MODES.values():
            if other.control:
                form[f"send_{other.name}"] = gr.Button(f"Use in {other.title}", size="sm", interactive=False, **state[f"send_{other.name}"])
