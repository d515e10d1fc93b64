"""Progress in a notebook, where nobody else follows the run: a bar of tqdm's. Costs nothing outside one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flux_demo.progress import OnStep


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel. IPython is asked only where it is loaded already."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextmanager
def progress_bar(on_step: OnStep | None) -> Iterator[OnStep]:
    """``on_step`` itself; where it is left out, a bar in a notebook and nothing elsewhere."""
    if on_step is not None or not in_notebook():
        yield on_step or (lambda done, of, preview: None)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets tqdm warns, and draws its bar as text
        from tqdm.auto import tqdm

    with tqdm(unit="step", leave=False) as bar:

        def step(done: int, of: int, preview: Any) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield step
