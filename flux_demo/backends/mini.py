"""The mini's weights: a few million parameters, trained by this project, in ``assets/mini``; float32 on any CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.backends import Refusal
from flux_demo.backends.own_engine import missing_libraries
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.presets import COMPILED
from flux_demo.errors import OutOfMemory
from flux_demo.failures import Failure
from flux_demo.model_files import MINI, MINI_TOKENS, ModelFiles, mini_files, missing_files, wrong_kind
from flux_demo.modes import DEFAULT_SIZES, Mode
from flux_demo.request import Size, SizeLimits

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.engine.model_cache import ModelCache


class Mini:
    name = "mini"
    on_cpu = True
    notice = None
    preset = None
    shows_previews = True
    title = "The built-in mini FLUX (CPU)"
    # FLUX's shapes at a quarter of the side, as the mini was trained on them.
    size_limits = SizeLimits(range(128, 513, 16), 512 * 512, tuple(Size(size.width // 4, size.height // 4) for size in DEFAULT_SIZES))

    def __init__(self, folder: Path = MINI) -> None:
        self._folder = folder

    def refusal(self, mode: Mode) -> Refusal | None:
        if absent := missing_libraries():
            return absent
        files = mini_files(mode, self._folder)
        gaps = missing_files(files)
        wrong = wrong_kind(files, follows_map=mode.control is not None) if not gaps else None
        if gaps or wrong:
            return Refusal(
                f"The mini's files in assets/mini are incomplete: {gaps[0] + ' is missing' if gaps else wrong}. "
                "Copy that folder again from where you got this program."
            )
        return None

    def unusable_presets(self, mode: Mode) -> Mapping[str, str]:
        return {COMPILED: "Compiling the mini takes longer than its images do. Choose the preset exact."}

    def files(self, mode: Mode, say: Callable[[str], None]) -> ModelFiles:
        return mini_files(mode, self._folder)

    def model_name(self, mode: Mode) -> str:
        return mini_files(mode, self._folder).model

    def plan_sentence(self, mode: Mode, cache: ModelCache | None) -> str:
        return CPU_PLAN.sentence

    def suits(self, cache: ModelCache, files: ModelFiles) -> bool:
        return True

    def model_cache(self, files: ModelFiles) -> ModelCache:
        import torch

        from flux_demo.engine.model_cache import ModelCache

        return ModelCache(CPU_PLAN, torch.device("cpu"), torch.float32, MINI_TOKENS)

    def loading_title(self, mode: Mode) -> str:
        return "the mini"

    def verdict(self, image: Image) -> None:
        """Nothing to filter: the mini generates simple scenes of solids."""

    def out_of_memory(self, cache: ModelCache | None, failure: Failure) -> OutOfMemory:
        return OutOfMemory(failure.message("Close other programs or choose a smaller size, and try again."))
