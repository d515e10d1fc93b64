"""The mini's weights: a few million parameters, trained by this project, in ``assets/mini``; float32 on any CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.engine.memory import CPU_PLAN
from flux_demo.errors import OutOfMemory
from flux_demo.model_files import MINI, ModelFiles, lacking, mini_files, wrong_kind
from flux_demo.modes import find_mode
from flux_demo.request import Size

if TYPE_CHECKING:
    from flux_demo.engine.model_cache import ModelCache

LIBRARIES = ("torch", "diffusers", "transformers")


class Mini:
    name = "mini"
    title = "The built-in mini FLUX (CPU)"
    sides = range(128, 513, 16)
    max_pixels = 512 * 512
    sizes = tuple(Size(*sides) for sides in ((256, 256), (336, 192), (192, 336), (304, 208), (208, 304), (288, 224), (224, 288)))

    def __init__(self, folder: Path = MINI) -> None:
        self._folder = folder

    def refusal(self, mode: str) -> str | None:
        if absent := missing_libraries():
            return absent
        parts = mini_files(mode, self._folder)
        gaps = lacking(parts)
        wrong = wrong_kind(parts, follows_map=find_mode(mode).control is not None) if not gaps else None
        if gaps or wrong:
            return (
                f"The mini's files in assets/mini are not whole: {gaps[0] + ' is missing' if gaps else wrong}. "
                "Copy that folder again from where you got this program."
            )
        return None

    def parts(self, mode: str, say: Callable[[str], None]) -> ModelFiles:
        return mini_files(mode, self._folder)

    def planned(self) -> str:
        return CPU_PLAN.sentence

    def model_cache(self) -> ModelCache:
        import torch

        from flux_demo.engine.model_cache import ModelCache

        return ModelCache(CPU_PLAN, torch.device("cpu"), torch.float32, text_tokens=64)

    def ran_out(self, model_cache: ModelCache | None) -> OutOfMemory:
        return OutOfMemory("The main memory ran out. Close other programs or choose a smaller size, and try again.")


def missing_libraries() -> str | None:
    """A refusal naming the libraries that cannot be imported; None if all are here."""
    absent = [library for library in LIBRARIES if find_spec(library) is None]
    if not absent:
        return None
    return f"The Python package {absent[0]} is missing. Install what the program needs with `pip install -r requirements.txt`."
