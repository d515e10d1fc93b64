"""Event handlers by name instead of by position.

A handler is a function whose keyword arguments are named like components of a form; it returns their new values by the same names.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr

Form = dict[str, Any]


def in_tab(mode: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A tab's components, or their values, under names that no other tab has: mode__component."""
    return {f"{mode}__{name}": value for name, value in values.items()}


def inputs_of(handler: Callable, form: Form, extra: tuple[str, ...] = ()) -> list[str]:
    """The form's names that a handler takes. Names that the form does not have keep the handler's defaults."""
    parameters = inspect.signature(handler).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [name for name in (*named, *extra) if name in form]


def bind(triggers: list | Callable, handler: Callable, form: Form, outputs: list[str], extra: tuple[str, ...] = (), **event: Any) -> Any:
    """Run ``handler`` on any of the triggers, or after another event (its ``then`` or ``failure``).

    Inputs arrive as the browser sent them (``preprocess=False``), so that a broken file or a number out of range gets our sentence and not
    Gradio's. An output that the form does not have, or that the handler was not bound to, raises KeyError.
    """
    names = inputs_of(handler, form, extra)
    targets = {name: form[name] for name in outputs}

    def ordered(answer: dict[str, Any]) -> Any:
        if unknown := answer.keys() - targets.keys():
            raise KeyError(f"{handler.__qualname__} returns {', '.join(sorted(unknown))}, which are not among its outputs")
        if not answer:
            return gr.skip() if targets else None
        values = [answer.get(name, gr.skip()) for name in targets]
        return values[0] if len(values) == 1 else values

    def call(*values: Any) -> Any:
        return ordered(handler(**dict(zip(names, values, strict=True))))

    def stream(*values: Any) -> Iterator[Any]:
        answers = handler(**dict(zip(names, values, strict=True)))
        try:
            yield ordered(next(answers, {}))  # a generator that yields nothing would clear its outputs
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
