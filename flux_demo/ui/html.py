"""The page's sentences as HTML. Everything that a person or another program wrote is escaped here."""

import errno
import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from gradio.i18n import I18nData

from flux_demo import folders
from flux_demo.backends import PassedOver, Route
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import FluxDemoError
from flux_demo.modes import MODES, Mode
from flux_demo.recipe import PAINTED, Recipe
from flux_demo.request import Size
from flux_demo.texts import Number, Text, join_listed
from flux_demo.ui.translation import (
    FETCHED,
    LEFT,
    MINUTES,
    MINUTES_AND_SECONDS,
    MORE_UNKNOWN_WORDS,
    ONE_STEP,
    PARTIAL,
    SECONDS,
    SEED,
    STEP,
    STEP_OF_SEVERAL,
    STEPS,
    UNKNOWN_WORDS,
    translate,
)

RECENT = 20  # prompts to go back to
LICENSE_PAGE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
ON_THE_MINI = "Demo model: mini FLUX, simple shapes only. <span>Use the real FLUX.1</span>"  # one text: the frontend translates one
BUG = "An error in the program ended this run. Try again; if it happens again, look in the server's log."
NO_ROOM = (*folders.FULL, errno.EROFS)
FULL = "A disk cannot be written to ({why}). {advice}"
OTHER_FOLDERS = "Set GRADIO_TEMP_DIR and FLUX_DEMO_OUTPUTS to folders on another disk."

STILL_PREVIEWED = "You can still preview the map."
CANNOT_STOP = "A request cannot be cancelled once it has been sent."
LICENSED = "Images and model are under the {license}."
CHECKED = "Backends are checked when the program starts and after a download."
RESTART = "After any other change, restart the program: your settings and images are kept."
NEW_ENVIRONMENT = "After a change of an environment variable, restart the program: your settings and images are kept."
NOTHING_RUNS = "Nothing can be generated here yet. Any one of these would help:"
SAMPLES_ONLY = (
    "NVIDIA's hosted service follows only its own sample images, so your own photo cannot be used and is not sent. "
    "Choose one of the {count}; the service draws its map."
)

log = logging.getLogger("flux_demo.ui")


def sentence(error: BaseException) -> str:
    """The sentence for any exception, in the caller's language. One that is not ours is a bug: its place is logged, never its text, which
    may hold a path or a key.
    """
    if isinstance(error, FluxDemoError):
        return translate(error.text)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return translate(FULL, why=folders.reason(error), advice=folders.advice(error, OTHER_FOLDERS))
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    log.error("%s at %s", type(error).__name__, " > ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in frames))
    return translate(BUG)


def says(text: str, kind: str = "quiet") -> str:
    """One line of the status, in the caller's language; ``kind`` is quiet, busy or problem."""
    return f'<p class="say {kind}">{escape(translate(text))}</p>' if text else '<p class="say"></p>'


def script_says(text: str, kind: str = "quiet") -> str:
    """``says`` for a script of the page, whose language the browser looks up when the script runs."""
    return f'<p class="say {kind}">{I18nData(text)}</p>'


def map_note(
    texts: Mapping[str, str], sha256: str, painted_on: str, painted: bool, keeps: Sequence[float] | None = None, kind: str = "quiet"
) -> str:
    """The line under the map, by view; "any" is for those that have none of their own. The style sheet shows that of the chosen view.

    The browser counts strokes anew for another ``painted_on``, the hash of the map that the editor has under them, and asks before a
    ``painted`` map is cleared. It frames on the photo what crop keeps: left, top, width and height as shares.
    """
    marks = (" data-painted" if painted else "") + (f' data-keeps="{" ".join(f"{share:.5f}" for share in keeps)}"' if keeps else "")
    lines = "".join(f'<p class="say {kind}" data-view="{view}">{escape(text)}</p>' for view, text in texts.items())
    return f'<div data-map="{sha256}" data-painted-on="{painted_on}"{marks}>{lines}</div>'


def step_of(done: int, of: int, seconds_left: float | None = None, number: int = 1, images: int = 1) -> str:
    """A step count with its bar and the time that is left, for all images. The browser reads the numbers for the title of its tab."""
    line = translate(STEP_OF_SEVERAL if images > 1 else STEP, done=done, of=of, number=number, images=images)
    if seconds_left is not None and done < of:
        line = translate(LEFT, step=line, time=_duration(seconds_left * (1 + (images - number) * of / (of - done))))
    return f'<p class="say busy step">{escape(line)}</p>{_bar("Steps", done, of)}'


def byte_of(done: int, total: int) -> str:
    """A byte count with its bar."""
    line = translate(FETCHED, done=Number(f"{done / 1e9:.2f}"), total=Number(f"{total / 1e9:.2f}"))
    return f'<p class="say busy">{escape(line)}</p>{_bar("Download", round(100 * done / max(total, 1)), 100)}'


def _bar(label: str, done: int, of: int) -> str:
    return (
        f'<div class="bar" role="progressbar" aria-label="{escape(translate(label))}" aria-valuemin="0" aria-valuemax="{of}" aria-valuenow="{done}">'
        f'<div style="width:{100 * done / max(of, 1):.1f}%"></div></div>'
    )


def route_line(route: Route | None, mode: Mode, may_check: bool, reason: str = "", loading: str | None = None) -> str:
    """One line saying where the mode runs and what is being loaded there, with the reasons folded below it."""
    if route is None:
        return f'<p class="where">{escape(translate(STILL_PREVIEWED)) if mode.control else ""}</p>'
    now = f' <em role="status">· {escape(translate(loading))}</em>' if loading else ""
    reasons = _reasons(route.passed_over, may_check) if route.passed_over else f"<p>{escape(translate(reason))}</p>"
    if route.backend.name == "mini":
        return f'<details class="where"><summary>{I18nData(ON_THE_MINI)}{now}</summary>{reasons}</details>'
    if plan := route.backend.plan(mode):
        reasons += f"<p>{escape(translate(plan))}</p>"
    terms = f'<p class="where">{escape(translate(route.backend.notice))}</p>' if route.backend.notice else ""
    if not route.dials.can_stop:
        terms += f'<p class="where">{escape(translate(CANNOT_STOP))}</p>'
    if not route.runs_mini(mode):
        page = LICENSE_PAGE.replace("FLUX.1-dev", mode.repo.rpartition("/")[2])
        link = f'<a href="{page}" target="_blank" rel="noopener noreferrer">FLUX.1 [dev] Non-Commercial License</a>'
        terms += f'<p class="where">{escape(translate(LICENSED)).replace("{license}", link)}</p>'
    return f'<details class="where"><summary>{I18nData(runs_on(route.backend.title))}{now}</summary>{reasons}</details>{terms}'


def runs_on(title: str) -> str:
    """The text that says where a mode runs: markup, because the frontend translates one text."""
    return f"Runs on {escape(_lower_first(title), quote=False)}. <span>Why?</span>"


def refusal(passed: Sequence[PassedOver], may_check: bool) -> str:
    """Why a mode cannot run, in place of the run button."""
    if len(passed) == 1:
        return f'<p class="refusal">{_marked(translate(passed[0].refusal.reason))} {_when_checked(may_check)}</p>'
    return f'<div class="refusal"><p>{escape(translate(NOTHING_RUNS))}</p>{_reasons(passed, may_check)}</div>'


def presets(names: Sequence[str]) -> list[tuple[str, str]]:
    """Choices of a dropdown: each preset with what it changes."""
    return [(str(I18nData(f"{PRESETS[name].title}: {PRESETS[name].changes}")) if name in PRESETS else name, name) for name in names]


def sample_note(count: int) -> str:
    """Why only the service's own sample images can be chosen."""
    return f'<p class="explains">{escape(translate(SAMPLES_ONLY, count=count))}</p>'


def heading(text: str) -> str:
    """The heading of a part of the page, in the visitor's language. Gradio's frontend translates one text in a component."""
    return f"<h2>{I18nData(text)}</h2>"


def explanation(text: str) -> str:
    """What a part of the page is about, below its heading, in the visitor's language."""
    return f'<p class="explains">{I18nData(text)}</p>'


def image_head(note: str = "", during_a_run: bool = False) -> str:
    """The heading over the image, with a note when it was generated with other settings; ``during_a_run``: when it is not the run's image."""
    small = f" <small{' class=during' if during_a_run else ''}>{escape(translate(note))}</small>" if note else ""
    return f"<h2>{I18nData('Image')}{small}</h2>"


def caption(recipe: Recipe, title: str) -> str:
    """The line under an image."""
    size = Size(recipe.width, recipe.height)
    facts = (
        translate(PARTIAL, done=recipe.stopped_at, of=recipe.steps or "?") if recipe.stopped_at is not None else "",
        translate(SEED, seed=recipe.seed) if recipe.seed is not None else "",
        translate(SECONDS, seconds=Number(f"{recipe.seconds:.1f}")) if recipe.stopped_at is None else "",
        size_text(size),
        translate(ONE_STEP if recipe.steps == 1 else STEPS, steps=recipe.steps)
        if recipe.steps is not None and recipe.stopped_at is None
        else "",
        translate(title),
        translate(recipe.safety or ""),
    )
    return f'<p class="caption">{" · ".join(escape(fact) for fact in facts if fact)}</p>'


def details(recipe: Recipe) -> str:
    """The whole recipe, folded."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _recipe_rows(recipe))
    return f'<details class="recipe"><summary>{I18nData("Details")}</summary><dl>{rows}</dl></details>'


def recent_prompts(history: Sequence[Any]) -> str:
    """The last prompts, for the browser to offer at the up arrow."""
    prompts = list(dict.fromkeys(entry.recipe.prompt for entry in history))[:RECENT]
    return "".join(f"<i>{escape(prompt)}</i>" for prompt in prompts)


def size_text(size: Size) -> str:
    return f"{size.width} × {size.height}"


def megapixels(size: Size) -> str:
    """How large a size is, in the visitor's language also before a server knows it."""
    return f'<p class="say quiet">{size.pixels / 1e6:.2f} {I18nData("megapixels")}</p>'


def shape(size: Size) -> str:
    """A size with the word for its shape."""
    ratio = size.width / size.height
    words = ", square" if 0.97 < ratio < 1.03 else ", landscape" if ratio > 1 else ", portrait"
    return f"{size_text(size)}{I18nData(words)}"


def unknown_words(prompt: str) -> str:
    """The sentence about words that the mini does not know; empty when it knows them all."""
    from flux_demo.mini_vocabulary import unknown_words as unknown
    from flux_demo.mini_vocabulary import what_it_knows

    if not (words := unknown(prompt)):
        return ""
    named = join_listed(Text("“{word}”", word=word[:30]) for word in words[:3])
    line = translate(MORE_UNKNOWN_WORDS if len(words) > 3 else UNKNOWN_WORDS, words=named)
    return (
        f'<details class="say hint"><summary>{escape(line)} <span>{escape(translate("What it knows"))}</span></summary>'
        f"<p>{escape(translate(what_it_knows()))}</p></details>"
    )


def _recipe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    preset = PRESETS.get(recipe.preset or "")
    rows = [
        (translate("Prompt"), recipe.prompt),
        (translate("Model"), recipe.model),
        (translate("Guidance"), "" if recipe.guidance is None else translate(Number(f"{recipe.guidance:g}"))),
        (translate("Preset"), translate(preset.title) if preset else recipe.preset or ""),
        (translate("Plan"), translate(recipe.plan or "")),
        (translate("Safety"), translate(recipe.safety or "")),
        (translate("Created"), recipe.created.replace("T", " ").replace("+00:00", " UTC")),
    ]
    if recipe.control:
        options = [_option_text(recipe.mode, name, value) for name, value in recipe.control.options.items()]
        facts = [*options, translate((recipe.control.fit or "").capitalize()), recipe.control.estimator]
        rows.append((translate("Map"), translate(join_listed(facts)) or translate("given as it is")))
    return [(name, value) for name, value in rows if value]


def _option_text(mode: str, name: str, value: Any) -> str:
    """What a map was drawn with, by the field's label; of a switch that is off, nothing."""
    control = MODES[mode].control if mode in MODES else None
    labels = {option.name: option.label for option in control.options} if control else {}
    label = translate("painted by hand" if name == PAINTED else labels.get(name, name))
    if isinstance(value, bool):
        return label if value else ""
    return f"{label} {value}"


def _reasons(passed: Sequence[PassedOver], may_check: bool) -> str:
    return f"<dl>{''.join(map(_reason, passed))}</dl><p>{_when_checked(may_check)}</p>"


def _when_checked(may_check: bool) -> str:
    """When backends are checked, with a button that checks them now, for all but strangers."""
    button = f'<button type="button" class="check-again">{escape(translate("Check again"))}</button>' if may_check else ""
    return escape(f"{translate(CHECKED)} {translate(NEW_ENVIRONMENT if may_check else RESTART)}") + button


def _reason(passed: PassedOver) -> str:
    return f"<dt>{escape(translate(passed.title))}</dt><dd>{_marked(translate(passed.refusal.reason))}</dd>"


def _marked(text: str) -> str:
    """A sentence with its commands set as code and its addresses as links."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"https://[\w./%-]*\w", lambda link: f'<a href="{link[0]}" target="_blank" rel="noopener noreferrer">{link[0]}</a>', html)


def _duration(seconds: float) -> str:
    """Time that is left, rounded as people say it."""
    whole = max(1, round(seconds))
    if whole < 60:
        return translate(SECONDS, seconds=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return translate(MINUTES_AND_SECONDS, minutes=minutes, seconds=f"{rest:02d}")
    return translate(MINUTES, minutes=round(whole / 60))


def _lower_first(title: str) -> str:
    """A title in the middle of a sentence; names such as NVIDIA keep their capitals."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title
