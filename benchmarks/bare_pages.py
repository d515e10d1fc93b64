"""Pages with as little as Gradio allows, to be measured beside ours."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import BlockContext
from gradio.components.api_component import Api
from gradio.layouts import Form


def bare_page() -> gr.Blocks:
    """A field and a button."""
    with gr.Blocks(analytics_enabled=False) as bare:
        prompt = gr.Textbox(label="Prompt", elem_classes="prompt")
        gr.Button("Run").click(str.upper, prompt, gr.Textbox(label="Result"))
    return bare


def bare_slider() -> gr.Blocks:
    """The least that Gradio needs from a slider to an image of a map's size."""
    import numpy as np

    def draw(value: float) -> Any:
        pixels = np.zeros((256, 256, 3), np.uint8)
        pixels[int(value) % 256] = 255
        return pixels

    with gr.Blocks(analytics_enabled=False) as bare:
        slider, image = (
            gr.Slider(0, 600, 50, step=1, elem_classes="drawing"),
            gr.Image(interactive=False, format="png", elem_id="map-canny"),
        )
        slider.change(draw, slider, image, show_progress="hidden", queue=False)
        gr.Textbox(label="Prompt", elem_classes="prompt")
        bare.load(draw, slider, image)
    return bare


def bare_click(folder: Path) -> gr.Blocks:
    """The least that Gradio needs from a click to an image that a generator made, through its queue."""
    from PIL import Image

    made = count(1)

    def generate() -> Iterator[tuple[str, str]]:
        path = folder / f"bare-{next(made)}.png"
        Image.new("RGB", (128, 128)).save(path)
        yield str(path), "<span class=say>Done in 0 s.</span>"

    with gr.Blocks(analytics_enabled=False) as bare:
        run = gr.Button("Run", elem_classes="run")
        image, status = gr.Image(interactive=False, format="png", elem_id="picture-text"), gr.HTML(elem_id="status-text")
        run.click(generate, None, [image, status], show_progress="hidden")
    return bare


def bare_copy(page: gr.Blocks) -> gr.Blocks:
    """A page with the components of another in the same layout, and nothing that is the other's own."""
    unseen = (gr.State, gr.BrowserState, gr.Timer, Api)

    def copy(block: Any) -> None:
        for child in block.children:
            if isinstance(child, Form):  # which Gradio adds
                copy(child)
            elif isinstance(child, BlockContext):
                named = {"id": child.id} if isinstance(child, gr.Tab) else {}
                with type(child)(**({"label": child.label} if hasattr(child, "label") else {}), visible=child.visible, **named):
                    copy(child)
            elif not isinstance(child, unseen):
                chosen = {"choices": child.choices} if isinstance(child, gr.Radio | gr.Dropdown) else {}
                type(child)(visible=child.visible, elem_classes=child.elem_classes, **chosen)

    with gr.Blocks(analytics_enabled=False) as bare:
        copy(page)
    return bare
