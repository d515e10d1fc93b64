"""Handlers name what they need; nothing is positional.

A handler is a function of keyword arguments named like components of a form, and returns the new values by the same names.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

Form = dict[str, Any]


def inputs_of(handler: Callable, form: Form, extra: tuple[str, ...] = ()) -> list[str]:
    """The names that a handler takes; those that the form has not are left at the handler's own defaults."""
    parameters = inspect.signature(handler).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [name for name in (*named, *extra) if name in form]


def bind(triggers: list | Callable, handler: Callable, form: Form, outputs: list[str], extra: tuple[str, ...] = (), **event: Any) -> Any:
    """Run ``handler`` on any of the triggers, or after another event (its ``then`` or ``failure``). Inputs arrive as the browser sent them (``preprocess=False``): a broken file or a
    number out of range shall meet our own words, not Gradio's.
    """
    names = inputs_of(handler, form, extra)
    targets = {name: form[name] for name in outputs if name in form}

    def ordered(answer: dict[str, Any]) -> Any:
        if not answer:
            return gr.skip()
        values = [answer.get(name, gr.skip()) for name in targets]
        return values[0] if len(values) == 1 else values

    def call(*values: Any) -> Any:
        return ordered(handler(**dict(zip(names, values, strict=True))))

    def stream(*values: Any) -> Iterator[Any]:
        answers = handler(**dict(zip(names, values, strict=True)))
        try:
            yield ordered(next(answers, {}))  # a generator that yields nothing would empty its outputs
            for answer in answers:
                yield ordered(answer)
        finally:
            answers.close()

    listen = triggers if callable(triggers) else partial(gr.on, triggers)
    return listen(
        stream if inspect.isgeneratorfunction(handler) else call,
        [form[name] for name in names],
        list(targets.values()),
        preprocess=False,
        api_visibility="private",
        **{"show_progress": "hidden", **event},
    )
