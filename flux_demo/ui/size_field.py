"""The size field: buttons for the offered shapes, a swap button, and a field that any size can be typed into."""

from typing import Any

import gradio as gr

from flux_demo.backends import Route
from flux_demo.errors import FluxDemoError
from flux_demo.modes import MAP_LIMITS, MATCH, Mode
from flux_demo.request import Size
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.events import bind
from flux_demo.ui.tab_state import find_route, offered_sizes

# FLUX's shapes under the names that people use; 1216 x 832 is 1.46 and called 3:2, as cameras do.
RATIOS = {
    (1024, 1024): "1:1",
    (1344, 768): "7:4",
    (768, 1344): "4:7",
    (1216, 832): "3:2",
    (832, 1216): "2:3",
    (1152, 896): "9:7",
    (896, 1152): "7:9",
}

SWAP_JS = r"""(size) => {
    const sides = /^\s*(\d+)\s*(?:px)?\s*[x×*,\s]\s*(\d+)\s*(?:px)?\s*$/i.exec(size ?? "");
    return sides ? `${sides[2]}x${sides[1]}` : size;
}"""


def build_size(form: dict[str, Any], state: dict, mode: Mode) -> None:
    """Lay out the field; ``ratios`` are a button for each offered size."""
    form["size"] = gr.Dropdown(
        label="Size",
        info="width × height; type any multiple of 16",
        allow_custom_value=True,
        elem_id=f"size-{mode.name}",
        elem_classes=["size", "typed"],
        **state["size"],
    )
    form["ratios"] = []
    with gr.Row(elem_classes="ratios"):
        for _, value in state["size"]["choices"]:
            size = None if value == MATCH else Size.parse(value)
            button = gr.Button(_ratio(size) if size else "Match photo", size="sm", elem_classes=["ratio", _shape_class(size)])
            form["ratios"].append(button)
        first = None if state["size"]["value"] == MATCH else Size.parse(state["size"]["value"])
        form["swap"] = gr.Button("Swap sides", size="sm", elem_classes="swap", interactive=first is not None)
    form["size_note"] = gr.HTML(_note(first), elem_classes="note")


def bind_size(studio: Studio, mode: Mode, form: dict[str, Any]) -> None:
    """Bind the buttons, and what marks an illegal size at the field. Only a size has sides to swap."""
    numbers = {button._id: index for index, button in enumerate(form["ratios"])}

    def choose(event: gr.EventData) -> str:
        """The size of the button's number among those that the route offers at the click."""
        return offered_sizes(find_route(studio, mode), mode)[numbers[event.target._id]][1]

    clicks = [button.click for button in form["ratios"]]
    gr.on(clicks, choose, None, form["size"], queue=False, show_progress="hidden", api_visibility="private")
    gr.on([form["swap"].click], None, form["size"], form["size"], js=SWAP_JS, api_visibility="private")

    def check(*, size: Any) -> dict[str, Any]:
        try:
            chosen = checked_size(studio, mode, size)
        except FluxDemoError as error:
            return {"size_note": html.says(error.text, "problem"), "swap": gr.update(interactive=False)}
        return {"size_note": _note(chosen), "swap": gr.update(interactive=chosen is not None)}

    bind([form["size"].change], check, form, ["size_note", "swap"], queue=False, trigger_mode="always_last")


def checked_size(studio: Studio, mode: Mode, size: Any) -> Size | None:
    """The size if it can be generated where the mode runs; None for "match". Raises InvalidRequest."""
    text = "" if size is None else str(size).strip()
    if text in ("", MATCH):
        return None
    route = find_route(studio, mode)
    return (route.dials.size_limits if isinstance(route, Route) else MAP_LIMITS).parse(text)


def _note(size: Size | None) -> str:
    return html.megapixels(size) if size else html.says("")


def _ratio(size: Size) -> str:
    """The common name of a shape; the mini's sizes are FLUX's at a quarter of the side."""
    for scale in (1, 4):
        if name := RATIOS.get((size.width * scale, size.height * scale)):
            return name
    return html.size_text(size)


def _shape_class(size: Size | None) -> str:
    """The class that draws a small frame of that shape."""
    if size is None:
        return "shape-match"
    ratio = size.width / size.height
    return "shape-square" if 0.97 < ratio < 1.03 else "shape-wide" if ratio > 1 else "shape-tall"
