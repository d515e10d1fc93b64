"""The page's sentences as HTML. Everything that a person or another program wrote is escaped here."""

import logging
import re
import traceback
from collections.abc import Sequence
from html import escape
from pathlib import Path

from flux_demo.backends import PassedOver, Route
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import FluxDemoError
from flux_demo.modes import Mode
from flux_demo.recipe import Recipe
from flux_demo.request import Size

LICENSE_PAGE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
BUG = "Something went wrong inside the program, and this run has ended. Try again; if it happens again, the server's log names the place."

log = logging.getLogger("flux_demo.ui")


def sentence(error: BaseException) -> str:
    """The sentence for any exception. One that is not ours is a bug: its place is logged, never its text, which may hold a path
    or a key.
    """
    if isinstance(error, FluxDemoError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    log.error("%s at %s", type(error).__name__, " > ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in frames))
    return BUG


def says(text: str, kind: str = "quiet") -> str:
    """One line of the status; ``kind`` is quiet, busy or problem."""
    return f'<p class="say {kind}">{escape(text)}</p>' if text else '<p class="say"></p>'


def step_of(done: int, of: int) -> str:
    """A step count with its bar."""
    share = 100 * done / max(of, 1)
    return (
        f'<p class="say busy">Step {done} of {of}</p><div class="bar" role="progressbar" aria-label="Steps" aria-valuemin="0" '
        f'aria-valuemax="{of}" aria-valuenow="{done}"><div style="width:{share:.1f}%"></div></div>'
    )


def byte_of(done: int, total: int) -> str:
    """A byte count with its bar."""
    share = 100 * done / max(total, 1)
    return (
        f'<p class="say busy">{done / 1e9:.2f} of {total / 1e9:.2f} GB fetched</p><div class="bar" role="progressbar" aria-label="Bytes" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}"><div style="width:{share:.1f}%"></div></div>'
    )


def where(route: Route | None, mode: Mode, reason: str = "", loading: str | None = None) -> str:
    """One line saying where the mode runs and what is being loaded there, with the reasons folded below it."""
    if route is None:
        return '<p class="where">You can still preview the map.</p>' if mode.control else ""
    terms = f'<p class="where">{escape(route.backend.notice)}</p>' if route.backend.notice else ""
    if not route.dials.can_stop:
        terms += '<p class="where">A request cannot be cancelled once it was sent.</p>'
    if route.backend.name != "mini":
        page = LICENSE_PAGE.replace("FLUX.1-dev", mode.repo.rpartition("/")[2])
        terms += (
            '<p class="where">Images and model are under the '
            f'<a href="{page}" target="_blank" rel="noopener noreferrer">FLUX.1 [dev] Non-Commercial License</a>.</p>'
        )
    reasons = f"<p>{escape(reason)}</p>" if not route.passed_over else f"<dl>{''.join(map(_reason, route.passed_over))}</dl>"
    line = f"Runs on {escape(_lower_first(route.backend.title))}"
    now = f' <em role="status">· {escape(loading)}</em>' if loading else ""
    return f'<details class="where"><summary>{line} <span>Why?</span>{now}</summary>{reasons}</details>{terms}'


def refusal(passed: Sequence[PassedOver]) -> str:
    """Why a mode cannot run, in place of the run button."""
    if len(passed) == 1:
        return f'<p class="refusal">{_marked(passed[0].refusal.reason)}</p>'
    return f'<div class="refusal"><p>Nothing can be generated here yet. Any one of these would help:</p><dl>{"".join(map(_reason, passed))}</dl></div>'


def presets(names: Sequence[str]) -> list[tuple[str, str]]:
    """Choices of a dropdown: each preset with what it changes."""
    return [(f"{PRESETS[name].title}: {PRESETS[name].changes}" if name in PRESETS else name, name) for name in names]


def sample_note(count: int) -> str:
    """Why only the service's own sample images can be chosen."""
    return (
        '<p class="explains">NVIDIA\'s hosted service follows only its own sample pictures, so a photo of yours cannot go there and none '
        f"is sent. Choose one of the {count}; the service draws its map.</p>"
    )


def caption(recipe: Recipe, title: str) -> str:
    """The line under a picture, and its whole recipe folded."""
    size = Size(recipe.width, recipe.height)
    seed = [f"Seed {recipe.seed}"] if recipe.seed is not None else []
    steps = [f"{recipe.steps} steps"] if recipe.steps is not None else []
    safety = [recipe.safety] if recipe.safety else []
    facts = (*seed, f"{recipe.seconds:.1f} s", spoken(size), *steps, title, *safety)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _recipe_rows(recipe))
    return (
        f'<p class="caption">{" · ".join(map(escape, facts))}</p><details class="recipe"><summary>Recipe</summary><dl>{rows}</dl></details>'
    )


def spoken(size: Size) -> str:
    return f"{size.width} × {size.height}"


def shape(size: Size) -> str:
    """A size with the word for its shape."""
    ratio = size.width / size.height
    words = (
        "square" if 0.97 < ratio < 1.03 else "wide" if ratio > 1.6 else "tall" if ratio < 0.63 else "landscape" if ratio > 1 else "portrait"
    )
    return f"{spoken(size)}, {words}"


def unknown_words(prompt: str) -> str:
    """The sentence about words that the mini does not know; empty when it knows them all."""
    from flux_demo.mini_vocabulary import unknown_words as unknown
    from flux_demo.mini_vocabulary import what_it_knows

    if not (words := unknown(prompt)):
        return '<p class="say"></p>'
    named = ", ".join(f"“{word[:30]}”" for word in words[:3]) + (" and more" if len(words) > 3 else "")
    return (
        f'<details class="say hint"><summary>The mini does not know {escape(named)}. <span>What it knows</span></summary>'
        f"<p>{escape(what_it_knows())}</p></details>"
    )


def _recipe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    rows = [
        ("Prompt", recipe.prompt),
        ("Model", recipe.model),
        ("Guidance", "" if recipe.guidance is None else f"{recipe.guidance:g}"),
        ("Preset", recipe.preset or ""),
        ("Plan", recipe.plan or ""),
        ("Safety", recipe.safety or ""),
        ("Made", recipe.created),
    ]
    if recipe.control:
        options = ", ".join(f"{name} {value}" for name, value in recipe.control.options.items())
        rows.append(("Map", ", ".join(filter(None, (options, recipe.control.fit, recipe.control.estimator))) or "given as it is"))
    return [(name, value) for name, value in rows if value]


def _reason(passed: PassedOver) -> str:
    return f"<dt>{escape(passed.title)}</dt><dd>{_marked(passed.refusal.reason)}</dd>"


def _marked(text: str) -> str:
    """A sentence with its commands set as code and its addresses as links."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"https://[\w./%-]*\w", lambda link: f'<a href="{link[0]}" target="_blank" rel="noopener noreferrer">{link[0]}</a>', html)


def _lower_first(title: str) -> str:
    """A title in the middle of a sentence; names such as NVIDIA keep their capitals."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title
