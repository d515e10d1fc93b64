"""flux_demo: images from FLUX.1 [dev], and from FLUX.1 Canny and Depth [dev] that follow a photo's edges or depth.

The public names are loaded at their first use, so importing the package costs nothing.
"""

from __future__ import annotations

from flux_demo.version import VERSION

TYPE_CHECKING = False  # for type checkers it is true; typing itself would be most of what importing this package costs
if TYPE_CHECKING:
    from flux_demo.errors import Cancelled as Cancelled
    from flux_demo.errors import FluxDemoError as FluxDemoError
    from flux_demo.gallery import GeneratedImage as GeneratedImage
    from flux_demo.modes import MODES as MODES
    from flux_demo.recipe import Recipe as Recipe
    from flux_demo.recipe import read_recipe as read_recipe
    from flux_demo.request import ControlMap as ControlMap
    from flux_demo.request import GenerationRequest as GenerationRequest
    from flux_demo.request import Size as Size
    from flux_demo.settings import Settings as Settings
    from flux_demo.studio import Studio as Studio

__version__ = VERSION

_HOMES = {
    "Cancelled": "errors",
    "FluxDemoError": "errors",
    "MODES": "modes",
    "Recipe": "recipe",
    "read_recipe": "recipe",
    "ControlMap": "request",
    "GeneratedImage": "gallery",
    "GenerationRequest": "request",
    "Size": "request",
    "Settings": "settings",
    "Studio": "studio",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  all are strings


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
