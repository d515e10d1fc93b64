"""Gradio, imported without the `.pyi` files that it checks for editors, one for each of its components, at each import.

That is 40 % of the time that its import takes: it parses every component's source and prints it again. Gradio leaves out a class
whose source it cannot find, so its classes have none while it is imported. Nothing at run time reads those files.
"""

import inspect
from typing import Any


def _unless_it_is_gradios(wanted: Any) -> str:
    """`inspect.getfile`, but for Gradio's classes."""
    if isinstance(wanted, type) and wanted.__module__.partition(".")[0] == "gradio":
        raise OSError("not looked for")
    return _getfile(wanted)


_getfile = inspect.getfile
inspect.getfile = _unless_it_is_gradios  # type: ignore[assignment]
try:
    import gradio  # noqa: F401
finally:
    inspect.getfile = _getfile
