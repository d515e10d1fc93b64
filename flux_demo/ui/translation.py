"""What the program says of a run, a map or an image, and what is wrong, in the language of whoever it is said to."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from flux_demo.backends.queue import Client
from flux_demo.texts import Number, Text
from flux_demo.ui.languages import languages
from flux_demo.ui.visitors import Caller, Listeners, current_caller

# Each is the key of its translations, which have the same values in braces.
STEP, STEP_OF_SEVERAL = "Step {done} of {of}", "Image {number} of {images}: step {done} of {of}"
LEFT = "{step}, about {time} left"
DONE, DONE_SEVERAL = "Done in {seconds} s.", "Done in {seconds} s. All {count} images are in “Your images” below."
STOPPED_AT = "Stopped at step {done} of {of}. The partial image is kept only if you say so."
STOPPED_AT_OF_SEVERAL = "Stopped at step {done} of {of} of image {number} of {images}. The partial image is kept only if you say so."
SEED, ONE_STEP, STEPS, PARTIAL = "Seed {seed}", "1 step", "{steps} steps", "Partial, step {done} of {of}"
TOKENS, IGNORED = "{tokens} of {reads} tokens", "{reads} of {reads} tokens: the last {ignored} are ignored, from “{cut}”"
ONE_IGNORED = "{reads} of {reads} tokens: the last one is ignored, “{cut}”"
COMPARED = "seed {seed}, steps {steps}, {size}"
SECONDS, MINUTES_AND_SECONDS, MINUTES = "{seconds} s", "{minutes} min {seconds} s", "{minutes} min"
A_NUMBER = "1.5%"  # whose translations show how a language writes numbers
FETCHED = "{done} of {total} GB fetched"
UNKNOWN_WORDS, MORE_UNKNOWN_WORDS = "The mini doesn't know {words}.", "The mini doesn't know {words} and more."
IMAGE_OF, PREVIEW = "Image generated from the prompt: {prompt}", "A preview of the image"  # alternative texts
REUSES_SEED, TAKES_RANDOM_SEED = "The next image reuses seed {seed}.", "The next image takes a random seed."


def translate(text: str, **values: Any) -> str:
    """A text in the caller's language, English where there is no translation, with its values filled in."""
    return _in(_words(language()), Text(text, **values) if values else text)


def _in(words: dict[str, str], text: str) -> str:
    if isinstance(text, Number):
        example = words.get(A_NUMBER, A_NUMBER)
        return text.replace(".", example[1]).replace("%", example[3:])
    pattern, values = (text.pattern, text.values) if isinstance(text, Text) else (text, {})
    found = words.get(pattern, pattern)
    said = {name: _in(words, each) if isinstance(each, Text | Number) else each for name, each in values.items()}
    return found.format(**said) if values else found


@contextmanager
def in_language(language: str) -> Iterator[None]:
    """Translate into that language within the block, where there is no caller."""
    token = current_caller.set(Caller(Client(""), (), Listeners(), language))
    try:
        yield
    finally:
        current_caller.reset(token)


def language() -> str:
    """The caller's language; empty for English."""
    caller = current_caller.get()
    return caller.language if caller else ""


def language_of(accepts: str | None) -> str:
    """The language of an Accept-Language header as Gradio's frontend chooses it: the first that is named, or what it is a variety of."""
    first = (accepts or "").split(",")[0].split(";")[0].strip()
    return next((tag for tag in (first, first.split("-")[0]) if _words(tag)), "")


def page_languages() -> tuple[str, ...]:
    """Every language that the page is said in, English first."""
    return ("", *_translations())


def _words(language: str) -> dict[str, str]:
    return _translations().get(language, {})


@cache
def _translations() -> dict[str, dict[str, str]]:
    return languages()
