"""The layout of one mode's tab: photo -> map -> image in a row, the prompt above, one row with Generate, Stop and the status below.

What the components do is bound in other files.
"""

from typing import Any

import gradio as gr

from flux_demo.maps.fit import FITS
from flux_demo.modes import MODES, Mode, Option
from flux_demo.studio import Studio
from flux_demo.ui import examples, html
from flux_demo.ui.events import Form
from flux_demo.ui.files import publish
from flux_demo.ui.history import PANEL
from flux_demo.ui.map_views import build_views
from flux_demo.ui.run import MAX_IMAGES
from flux_demo.ui.size_field import build_size
from flux_demo.ui.tab_state import EXAMPLE_PHOTOS, EXAMPLE_PROMPTS, tab_state

MAP_FIELDS = ("fit", "as_map", "photo", "sample")
FIELDS = ("prompt", "seed", "steps", "guidance", "size", "preset", "count", *MAP_FIELDS)


def build_tab(studio: Studio, mode: Mode) -> Form:
    """Lay out a mode's tab and return its components by name; a handler's parameters of the same names are its inputs."""
    form: Form = {"shown": gr.State(None), "last": gr.State(None), "recipe_map_sha256": gr.State(None), "refused": gr.State(False)}
    form["run_state"] = gr.Textbox("idle", visible=False, label="Run state")
    state = tab_state(studio, mode)
    form["where"] = gr.HTML(**state["where"], elem_classes="where-line")
    with gr.Row(elem_classes=["work", "with-map" if mode.control else "without-map"]):
        with gr.Column(elem_classes="asking"):
            _prompt(form, state, mode)
            if mode.control:
                _photo_and_map(form, state, mode)
            _settings(form, state, mode)
        with gr.Column(elem_classes="answer"):
            _image(form, state, mode)
    _run_row(form, state, mode)
    form["saved_fields"] = gr.State({name: form[name].value for name in fields_of(mode)})
    return form


def fields_of(mode: Mode) -> tuple[str, ...]:
    """The fields of a mode's form that are kept. A tab's state ``saved_fields`` has the values that they had when they were kept last."""
    options = tuple(option.name for option in mode.control.options) if mode.control else ()
    return tuple(name for name in FIELDS if mode.control or name not in MAP_FIELDS) + options


def _photo_and_map(form: Form, state: dict, mode: Mode) -> None:
    assert mode.control
    with gr.Row(elem_classes="pair"):
        with gr.Column(elem_classes="pane", min_width=0):
            gr.HTML(html.heading("Photo"))
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
                    placeholder="Choose a photo,\nor drop or paste one",
                    alt_text="The photo you gave",
                )
                form["photo_note"] = gr.HTML(html.says(""), elem_classes="photo-note")
                _example_photos(form, state, mode)
                form["as_map"] = gr.Checkbox(
                    label="My image is already a map",
                    info="Follow it as it is.",
                    elem_id=f"as_map-{mode.name}",
                    elem_classes=["switch", "as-map", "typed"],
                    container=False,
                )
            form["sample_note"] = gr.HTML(**state["sample_note"])
            form["sample"] = gr.Radio(
                label="Sample image", elem_id=f"sample-{mode.name}", elem_classes=["choices", "typed"], **state["sample"]
            )
        with gr.Column(elem_classes="pane", min_width=0):
            gr.HTML(html.heading(mode.control.title))
            form["map"] = gr.Image(
                interactive=False,
                format="png",
                show_label=False,
                label=mode.control.title,
                buttons=["download", "fullscreen"],
                elem_id=f"map-{mode.name}",
                elem_classes=["box", "pixels"],
                alt_text=f"The map that FLUX follows. {mode.control.sees}",
            )
            build_views(form, mode, state)
            form["map_note"] = gr.HTML(**state["map_note"], elem_classes="note")
            with gr.Row(elem_classes="offers"):
                form["use_as_map"] = gr.Button("Use as map", size="sm", visible=False, elem_classes="use-as-map")
                form["use_inverted"] = gr.Button("Use as map, inverted", size="sm", visible=False, elem_classes="use-as-map")
            with gr.Column(elem_classes="drawing", min_width=0, **state["own"]) as form["drawing"]:
                form["fit"] = gr.Radio(
                    [(name.capitalize(), name) for name in FITS],
                    value=FITS[0],
                    label="Fit",
                    elem_id=f"fit-{mode.name}",
                    elem_classes=["choices", "typed"],
                )
                for option in mode.control.options:
                    form[option.name] = _option(option, mode)
                if mode.control.kind == "canny":
                    form["auto"] = gr.Button("Auto thresholds", size="sm", elem_classes="auto")


def _option(option: Option, mode: Mode) -> gr.components.Component:
    name = f"{option.name}-{mode.name}"
    if option.is_switch:
        return gr.Checkbox(value=bool(option.default), label=option.label, elem_id=name, elem_classes=["switch", "typed"], container=False)
    return gr.Slider(
        option.minimum,
        option.maximum,
        option.default,
        step=option.step,
        label=option.label,
        info=option.help,
        buttons=[],
        elem_id=name,
        elem_classes=["dial", "typed"],
    )


def _example_photos(form: Form, state: dict, mode: Mode) -> None:
    """A gallery for each kind of model; the one that fits the route is visible."""
    form["example_paths"] = {}
    for name, for_mini in EXAMPLE_PHOTOS.items():
        photos = [(publish(path), what) for path, what in examples.photos(for_mini)]
        form["example_paths"][name] = [path for path, _ in photos]
        form[name] = gr.Gallery(
            photos,
            columns=max(1, len(photos)),
            allow_preview=False,
            interactive=False,
            show_label=False,
            label="Example photos",
            buttons=[],
            object_fit="cover",
            elem_id=f"examples-{mode.name}",
            elem_classes="thumbs",
            **state[name],
        )


def _prompt(form: Form, state: dict, mode: Mode) -> None:
    form["prompt"] = gr.Textbox(
        label="Prompt",
        lines=2 if mode.control else 4,
        max_lines=8,
        placeholder="Describe the image, in English",
        elem_id=f"prompt-{mode.name}",
        elem_classes=["prompt", "typed"],
    )
    form["hint"] = gr.HTML(html.says(""), elem_classes="hint-line")
    with gr.Row(elem_classes="chips"):
        form |= {name: gr.Button(size="sm", elem_classes="chip", **state[name]) for name in EXAMPLE_PROMPTS}


def _settings(form: Form, state: dict, mode: Mode) -> None:
    with gr.Accordion("Settings", open=True, elem_classes="settings"):
        build_size(form, state, mode)
        with gr.Row(elem_classes="fields"):
            form["seed"] = gr.Textbox(
                label="Seed",
                info="the same seed gives the same image",
                placeholder="random",
                max_lines=1,
                elem_id=f"seed-{mode.name}",
                elem_classes=["seed", "typed"],
            )
            form["count"] = gr.Radio(
                list(range(1, MAX_IMAGES + 1)),
                value=1,
                label="Images",
                info="with consecutive seeds",
                elem_id=f"count-{mode.name}",
                elem_classes=["choices", "typed"],
            )
        with gr.Row(elem_classes="fields"):
            dial: dict[str, Any] = {"buttons": [], "elem_classes": ["dial", "typed"]}
            form["steps"] = gr.Slider(label="Steps", step=1, elem_id=f"steps-{mode.name}", **dial, **state["steps"])
            form["guidance"] = gr.Slider(
                label="Guidance",
                info="strength of the prompt",
                step=0.1,
                elem_id=f"guidance-{mode.name}",
                **dial,
                **state["guidance"],
            )
        form["preset"] = gr.Dropdown(label="Preset", info="speed or faithfulness", **state["preset"])
        with gr.Row(elem_classes="offers"):
            form["link"] = gr.Button("Copy link to these settings", size="sm", elem_classes="link")
            if mode.control:
                titles = ", ".join(each.title for each in MODES.values())
                form["compare"] = gr.Button(f"Compare {titles}", size="sm", elem_classes=["link", "compare"], **state["compare"])


def _image(form: Form, state: dict, mode: Mode) -> None:
    form["image_head"] = gr.HTML(html.image_head())
    form["picture"] = gr.Image(
        interactive=False,
        format="png",
        show_label=False,
        label="Image",
        buttons=["download", "fullscreen"],
        elem_id=f"picture-{mode.name}",
        elem_classes=PANEL,
        alt_text="The image",
    )
    form["caption"] = gr.HTML("", elem_classes="caption-line", elem_id=f"caption-{mode.name}")
    with gr.Row(elem_classes="actions"):
        form["preview"] = gr.Button("Back to the preview", size="sm", visible=False, elem_classes="preview")
        form["keep"] = gr.Button("Keep partial image", size="sm", visible=False)
        form["reuse_seed"] = gr.Button("Reuse seed", size="sm", interactive=False)
        form["random_seed"] = gr.Button("Random seed", size="sm", interactive=False)
        form["reuse_settings"] = gr.Button("Reuse all settings", size="sm", interactive=False)
        form["delete"] = gr.Button("Delete image", size="sm", interactive=False)
        for other in MODES.values():
            if other.control:
                form[f"send_{other.name}"] = gr.Button(f"Use in {other.title}", size="sm", interactive=False, **state[f"send_{other.name}"])
    form["details"] = gr.HTML("", elem_classes="details-line")


def _run_row(form: Form, state: dict, mode: Mode) -> None:
    with gr.Row(elem_classes="run-row"):
        form["run"] = gr.Button("Generate", variant="primary", elem_classes="run", **state["run"])
        form["stop"] = gr.Button("Stop", interactive=False, elem_classes="stop", **state["stop"])
        form["status"] = gr.HTML(html.says(""), elem_classes="status", elem_id=f"status-{mode.name}")
        form["refusal"] = gr.HTML(**state["refusal"], elem_classes="refusal-line")
        form["fetch"] = gr.Button(size="sm", elem_classes="fetch", **state["fetch"])
