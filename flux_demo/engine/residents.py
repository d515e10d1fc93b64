"""The models that are in memory. Modes share encoders and VAE; switching the mode swaps the transformer only."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable

import torch

from flux_demo.engine.load import load_encoders, load_scheduler, load_transformer, load_vae
from flux_demo.engine.memory import Plan
from flux_demo.engine.modulation import Modulation
from flux_demo.engine.parts import Parts
from flux_demo.engine.picture import Flux, Shared


class Residents:
    """Loads what a mode needs and lets go of what the plan has no room for. One caller at a time."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype, text_tokens: int) -> None:
        self.plan = plan
        self._device, self._dtype, self._text_tokens = device, dtype, text_tokens
        self._shared: tuple[Parts, Shared] | None = None
        self._modes: OrderedDict[Parts, Flux] = OrderedDict()  # the longest unused first

    def has(self, parts: Parts) -> bool:
        return parts in self._modes

    def load(self, parts: Parts, say: Callable[[str], None]) -> Flux:
        """The mode's FLUX, read from its files if it is not here. ``say`` is told how far it is. Raises GenerationFailed in words."""
        if parts not in self._modes:
            say(f"Loading {parts.model}: text encoders")
            shared = self._load_shared(parts)
            while len(self._modes) >= self.plan.modes:
                self._modes.popitem(last=False)
                free_memory()
            self._modes[parts] = self._load_mode(parts, shared, say)
        self._modes.move_to_end(parts)
        return self._modes[parts]

    def _load_shared(self, parts: Parts) -> Shared:
        if self._shared is None or self._shared[0].shared != parts.shared:
            self._shared = None
            self._modes.clear()
            free_memory()
            encoders = load_encoders(parts.shared, self._text_tokens, self._dtype, self._device, self._device)
            self._shared = parts, Shared(encoders, load_vae(parts.shared, self._dtype, self._device), self._device)
        return self._shared[1]

    def _load_mode(self, parts: Parts, shared: Shared, say: Callable[[str], None]) -> Flux:
        def on_bytes(done: int, total: int) -> None:
            say(f"Loading {parts.model}: {done / 1e9:.1f} of {total / 1e9:.1f} GB")

        transformer = load_transformer(parts.transformer, self._dtype, lambda name: self._device, on_bytes)
        return Flux(shared, transformer, Modulation(transformer), load_scheduler(parts.scheduler))


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
