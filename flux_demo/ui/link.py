"""The link that fills in the form: copied here, read in filling.py. Nothing of it is kept on the server."""

import json
from typing import Any

import gradio as gr

from flux_demo.modes import Mode
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.events import Form
from flux_demo.ui.filling import LINKED, linked_defaults
from flux_demo.ui.guard import MAX_ADDRESS

# Without https, as in a home network, a browser has no clipboard for pages, but the older way of copying.
COPY_JS = """async (...values) => {
    const link = new URL(location.pathname, location.origin);
    link.searchParams.set("mode", MODE);
    NAMES.forEach((name, index) => {
        const value = values[index];
        if (value !== "" && value != null && value !== DEFAULTS[name]) link.searchParams.set(name, value);
    });
    if (link.pathname.length + link.search.length > MOST) return TOO_LONG;
    try {
        await navigator.clipboard.writeText(link.href);
        return SAID;
    } catch {
        const field = document.body.appendChild(document.createElement("textarea"));
        field.value = link.href;
        field.select();
        const copied = document.execCommand("copy");
        field.remove();
        return copied ? SAID : REFUSED;
    }
}"""
SENTENCES = {
    "SAID": html.script_says("Link copied. It holds the prompt and the settings."),
    "REFUSED": html.script_says("The browser does not let this page copy. Allow it to use the clipboard, and try again.", "problem"),
    "TOO_LONG": html.script_says("This prompt is too long for a link. Copy it as text.", "problem"),
}


def bind_link(studio: Studio, mode: Mode, form: Form) -> None:
    """Bind the button that copies the link: the prompt and the settings, and of the map's those that are not the defaults."""
    names = [name for name in LINKED if name in form]
    script, defaults = COPY_JS, linked_defaults(studio, mode)
    values = SENTENCES | {"MODE": mode.name, "NAMES": names, "DEFAULTS": defaults, "MOST": MAX_ADDRESS}
    for name, value in values.items():
        script = script.replace(name, json.dumps(value))
    components: list[Any] = [form[name] for name in names]
    gr.on([form["link"].click], None, components, form["status"], js=script, api_visibility="private")
