"""The page and its API. Only this package imports Gradio, but for the tunnel that ``app.py`` closes."""

from flux_demo.ui.lean_gradio import gradio  # before any other import of it

# isort: split

import functools
from pathlib import Path
from typing import Any

from flux_demo.errors import FluxDemoError
from flux_demo.settings import ASSETS
from flux_demo.ui import mcp
from flux_demo.ui.page import build
from flux_demo.ui.temporary import remove as remove_temporary

__all__ = ["build", "launch_options", "remove_temporary"]

UPLOAD_LIMIT = "33mb"  # above the loader's own limit, whose sentence is the better one
SESSIONS = 1024  # sessions whose states are kept, each of them 0.2 MiB and more once the page was used
THREADS = 80  # more than the runs that wait in the queue, so that reading and live maps never wait for a thread

FRONTEND = Path(gradio.__file__).parent / "templates" / "frontend" / "index.html"


def launch_options() -> dict[str, Any]:
    """What ``page.launch`` needs besides an address. Raises FluxDemoError when a file of the page is missing."""
    _shipped(FRONTEND)
    from flux_demo.ui.blocks import lifespan
    from flux_demo.ui.languages import browser_texts, language_css
    from flux_demo.ui.theme import theme

    first_script = "\n".join(_shipped(ASSETS / name).read_text(encoding="utf-8") for name in ("opening.js", "words.js"))
    return {
        "theme": theme(),
        "css": language_css(),
        "css_paths": [_shipped(ASSETS / "style.css")],
        "js": _shipped(ASSETS / "page.js").read_text(encoding="utf-8"),
        "i18n": browser_texts(),
        "footer_links": [],
        "run_history": False,  # else every input and picture is kept in the visitor's browser
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": mcp.available(),
        "enable_monitoring": False,
        "show_error": False,
        "max_file_size": UPLOAD_LIMIT,
        "max_threads": THREADS,
        "state_session_capacity": SESSIONS,
        "app_kwargs": {"lifespan": functools.partial(lifespan, first_script)},
    }


def _shipped(path: Path) -> Path:
    """The path again if the file can be read. Raises FluxDemoError naming it."""
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        where = "/".join(path.parts[-2:])
        raise FluxDemoError(f"The page's file {where} is missing or cannot be read. Put it back, or install the program again.") from error
