"""The page's texts in the visitor's language, as data: one file of `assets/languages` for each that Gradio's frontend knows, named so.

The code has the English text, which is the key of its translations; `mark` lets the browser look each of them up, and shows the
key itself where its language has none. What the program says in answer to an event is translated here, see said.py.
"""

import json
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

from flux_demo.errors import FluxDemoError
from flux_demo.settings import ASSETS

FOLDER = ASSETS / "languages"
SHOWN = ("label", "info", "placeholder", "value")  # where texts stand; a value only on buttons, elsewhere it is the visitor's
STYLED = {  # what the style sheet shows in place of a panel that is empty, and what a script asks
    "--no-map": "The map appears here",
    "--no-image": "The image appears here",
    "--no-images": "The images you generate appear here.",
    "--comparison": "Comparison",
    "--not-a-seed": "A whole number, 0 to 4294967295.",
    "--delete-image": "Delete this image? The file is deleted too.",
    "--delete-all": "Delete all your images? The files are deleted too.",
}
OF_GRADIO = {  # texts of Gradio's image editor that its own languages lack, by the names that it looks them up under
    "image_editor.brush": "Brush",
    "image_editor.brush_size": "Brush Size",
    "image_editor.clear_canvas": "Clear canvas",
    "image_editor.color": "Color",
    "image_editor.erase": "Erase",
    "image_editor.eraser_size": "Eraser Size",
    "image_editor.pan": "Pan",
    "image_editor.redo": "Redo",
    "image_editor.zoom_in": "Zoom in",
    "image_editor.zoom_out": "Zoom out",
}
NAMES = (  # of Gradio's parts, which it does not look up at all; words.js exchanges them
    "Click to upload or drop files",
    "Empty value",
    "Exit fullscreen mode",
    "File upload",
    "Fullscreen",
    "More tabs",
    "Remove Image",
    "number input for {label}",
    "range slider for {label}",
)


def languages() -> gr.I18n:
    """Every language there is a file for. Raises FluxDemoError for a file that is not an object of texts."""
    return gr.I18n(**{path.stem: _with_gradios(_read(path)) for path in sorted(FOLDER.glob("*.json"))})


def mark(page: gr.Blocks) -> None:
    """Let the browser look up each text of the page that any language translates."""
    known = {key for words in languages().translations.values() for key in words}
    for block in page.blocks.values():
        for name in SHOWN:
            text = getattr(block, name, None)
            if isinstance(text, str) and text in known and (name != "value" or isinstance(block, gr.Button)):
                setattr(block, name, str(I18nData(text)))


def style(translated: gr.I18n) -> str:
    """The style sheet's own texts in every language."""
    rules = []
    for language, words in translated.translations.items():
        texts = "; ".join(f"{name}: {json.dumps(words[text], ensure_ascii=False)}" for name, text in STYLED.items() if text in words)
        rules.append(f":lang({language}) {{ {texts} }}")
    return "\n".join(rules)


def _with_gradios(words: dict[str, str]) -> dict[str, str]:
    return words | {name: words[text] for name, text in OF_GRADIO.items() if text in words}


def _read(path: Path) -> dict[str, str]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FluxDemoError(f"assets/languages/{path.name} cannot be read: {error}. Fix it, or delete it.") from error
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise FluxDemoError(f"assets/languages/{path.name} is not an object of texts, English to translated. Fix it, or delete it.")
    return words
