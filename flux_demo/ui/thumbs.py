"""A choice among thumbnails, read from the page itself: Gradio gives the last of several clicks the data of the first."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo.ui.events import Form, bind

# assets/page.js notes the address of the image that is clicked, since another one may come in its place meanwhile.
CHOSEN_JS = """(_, ...others) => [document.querySelector("#ID").dataset.chosen ?? "", ...others]"""


def bind_choice(gallery: gr.Gallery, handler: Callable, form: Form, outputs: list[str], extra: tuple[str, ...] = ()) -> None:
    """Run ``handler`` with ``chosen``, the address of the thumbnail that was clicked. It may be anything, see ``at_address``."""
    script = CHOSEN_JS.replace("ID", str(gallery.elem_id))
    bind([gallery.select], handler, form | {"chosen": form["query"]}, outputs, extra, js=script, trigger_mode="always_last")


def at_address(paths: Iterable[str], address: Any) -> int | None:
    """Which of these served files has the address: the folder of each has a name that nobody can guess."""
    given = address if isinstance(address, str) else ""
    return next((at for at, path in enumerate(paths) if Path(path).parent.name in given), None)
