"""The page's texts in the visitor's language, as data: one file of `assets/languages` for each that Gradio's frontend knows, named so.

The code has the English text, which is the key of its translations. Those under "browser" go along with every page: `mark` lets the browser
look each of them up, and shows the key itself where its language has none. Those under "server" are what the program says in answer to an
event, and are translated here, see translation.py.
"""

import json
from functools import cache
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

from flux_demo.errors import FluxDemoError
from flux_demo.settings import ASSETS

FOLDER = ASSETS / "languages"
PARTS = ("browser", "server")  # of a file, by who looks the texts up
SHOWN = ("label", "info", "placeholder", "value")  # where texts stand; a value only on buttons, elsewhere it is the visitor's
STYLED = {  # what the style sheet shows in place of a panel that is empty or of a status that is old, and what a script asks or says
    "--no-map": "The map appears here",
    "--no-image": "The image appears here",
    "--no-images": "The images you generate appear here.",
    "--comparison": "Comparison",
    "--not-a-seed": "A whole number, 0 to 4294967295.",
    "--delete-image": "Delete this image? Its file will be deleted too.",
    "--delete-all": "Delete all your images? Their files will be deleted too.",
    "--clear-paint": "Remove all paint from this map? This cannot be undone.",
    "--unanswered": "The program is not responding. Wait, or start it again: your settings and finished images are kept, and this page comes back by itself.",
    "--one-image": "One image at a time: of {count} files, only {name} was taken.",
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
NAMES = (  # of Gradio's parts, which it does not look up at all, and the keys that page.js names; words.js exchanges them
    "Arrow up: earlier prompts",
    "Click to upload or drop files",
    "Ctrl+Enter",
    "Empty value",
    "Escape",
    "Exit fullscreen mode",
    "File upload",
    "Fullscreen",
    "More tabs",
    "Remove Image",
    "number input for {label}",
    "range slider for {label}",
)


def languages() -> dict[str, dict[str, str]]:
    """All texts of every language there is a file for. Raises FluxDemoError for a file that is not as ``PARTS`` has it."""
    return {language: words["browser"] | words["server"] for language, words in _files(FOLDER).items()}


def browser_texts() -> gr.I18n:
    """The texts that the browser looks up. Raises FluxDemoError as ``languages`` does."""
    return gr.I18n(**{language: _with_gradios(words["browser"]) for language, words in _files(FOLDER).items()})


def mark_translatable(page: gr.Blocks) -> None:
    """Let the browser look up each text of the page that any language translates."""
    known = {key for words in browser_texts().translations.values() for key in words}
    for block in page.blocks.values():
        for name in SHOWN:
            text = getattr(block, name, None)
            if isinstance(text, str) and text in known and (name != "value" or isinstance(block, gr.Button)):
                setattr(block, name, str(I18nData(text)))


def language_css() -> str:
    """The style sheet's own texts in every language."""
    rules = []
    for language, words in languages().items():
        texts = "; ".join(f"{name}: {json.dumps(words[text], ensure_ascii=False)}" for name, text in STYLED.items() if text in words)
        rules.append(f":lang({language}) {{ {texts} }}")
    return "\n".join(rules)


def _with_gradios(words: dict[str, str]) -> dict[str, str]:
    return words | {name: words[text] for name, text in OF_GRADIO.items() if text in words}


@cache
def _files(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FluxDemoError(f"assets/languages/{path.name} cannot be read: {error}. Fix it, or delete it.") from error
    parts = [words.get(part) for part in PARTS] if isinstance(words, dict) and len(words) == len(PARTS) else [None]
    if not all(isinstance(part, dict) and all(isinstance(word, str) for word in part.values()) for part in parts):
        raise FluxDemoError(
            f"assets/languages/{path.name} does not have the objects {' and '.join(PARTS)}, each of texts, English to translated. "
            "Fix it, or delete it."
        )
    return words
