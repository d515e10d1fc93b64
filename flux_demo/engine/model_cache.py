"""The models that are in memory. Modes share encoders and VAE; switching the mode swaps the transformer only."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from flux_demo.engine.load import load_encoders, load_scheduler, load_transformer, load_vae
from flux_demo.engine.memory import Plan
from flux_demo.engine.modulation import Modulation
from flux_demo.engine.pipeline import Pipeline, Shared
from flux_demo.engine.placement import place_of, settle_t5, settle_transformer
from flux_demo.model_files import ModelFiles


class ModelCache:
    """Loads what a mode needs and lets go of what the plan has no room for. One caller at a time."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype, text_tokens: int) -> None:
        self.plan = plan
        self._device, self._dtype, self._text_tokens = device, dtype, text_tokens
        self._shared: tuple[Path, Shared] | None = None
        self._modes: OrderedDict[ModelFiles, Pipeline] = OrderedDict()  # the longest unused first

    def has(self, parts: ModelFiles) -> bool:
        return parts in self._modes

    def load(self, parts: ModelFiles, say: Callable[[str], None] = lambda sentence: None) -> Pipeline:
        """The mode's FLUX, read from its files if it is not here. ``say`` is told how far it is. Raises GenerationFailed in words."""
        if parts not in self._modes:
            shared = self._load_shared(parts, say)
            while len(self._modes) >= self.plan.modes:
                self._modes.popitem(last=False)
                free_memory()
            self._modes[parts] = self._load_mode(parts, shared, say)
        self._modes.move_to_end(parts)
        return self._modes[parts]

    def _load_shared(self, parts: ModelFiles, say: Callable[[str], None]) -> Shared:
        if self._shared is None or self._shared[0] != parts.shared:
            say(f"Loading {parts.model}: text encoders and VAE")
            self._shared = None
            self._modes.clear()
            free_memory()
            vae = load_vae(parts.shared, self._dtype, self._device)
            encoders = load_encoders(parts.shared, self._text_tokens, self._dtype, self._device)
            settle_t5(encoders.t5, self.plan, self._device)
            self._shared = parts.shared, Shared(encoders, vae, self._device)
        return self._shared[1]

    def _load_mode(self, parts: ModelFiles, shared: Shared, say: Callable[[str], None]) -> Pipeline:
        def on_bytes(done: int, total: int) -> None:
            say(f"Loading {parts.model}: {_amount(done, total)}")

        transformer = load_transformer(
            parts.transformer, self._dtype, place_of(self.plan, self._device), on_bytes, mapped=self._device.type != "cpu"
        )
        modulation = Modulation(transformer)
        settle_transformer(transformer, modulation, self.plan, self._device)
        return Pipeline(shared, transformer, modulation, load_scheduler(parts.scheduler))


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _amount(done: int, total: int) -> str:
    unit, size = ("GB", 1e9) if total >= 1e9 else ("MB", 1e6)
    return f"{done / size:.1f} of {total / size:.1f} {unit}"
