"""PRESETS: ways of running FLUX, as data; the first is the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from flux_demo import settings
from flux_demo.environment import named_compiler


@dataclass(frozen=True)
class Preset:
    name: str  # in settings and recipes: never changes
    title: str
    changes: str  # what it changes in the image
    needs: str  # beyond what the backend itself needs


EXACT, COMPILED = settings.PRESETS
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(EXACT, "Exact", "Nothing: the image of the stock diffusers pipelines, bit for bit.", "Nothing."),
        Preset(
            COMPILED,
            "Compiled",
            "Rounding, about 0.5% of the latents. Its speed has not been measured on a GPU yet.",
            "A C++ compiler, and on a GPU triton; a model that is not quantised. The first image of each size is made without it.",
        ),
    )
}
COMPILERS = {"Windows": "cl", "Darwin": "clang++"}  # that torch.compile calls where CXX does not name another; elsewhere g++


def why_not_compiled(*, on_cpu: bool, quantised: str | None) -> str | None:
    """Why the preset ``compiled`` cannot be used, with the remedy; None if it can. ``quantised``: the name of a quantised model."""
    import platform  # these three would take a tenth of --help
    import shutil
    from importlib.util import find_spec

    remedy = "Choose the preset exact"
    if quantised:
        return f"The preset compiled cannot run {quantised}, because torch.compile cannot unpack its quantised layers. {remedy}."
    if not on_cpu and find_spec("triton") is None:
        return f"The preset compiled needs the Python package triton on a GPU, and that is missing. {remedy}, or install it."
    compiler = named_compiler() or COMPILERS.get(platform.system(), "g++")
    if shutil.which(compiler) is None:
        return (
            f"The preset compiled needs a C++ compiler, and {os.path.basename(compiler)} is not on this machine. {remedy}, or install it."
        )
    return None
