"""The models that are in memory. Modes share encoders and VAE; switching the mode swaps the transformer only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from flux_demo.engine.allocators import free_memory
from flux_demo.engine.compiled import RepeatedBlocks
from flux_demo.engine.current_device import on
from flux_demo.engine.load import load_encoders, load_scheduler, load_transformer, load_vae
from flux_demo.engine.memory import Plan
from flux_demo.engine.modulation import PrecomputedModulation
from flux_demo.engine.pinning import Pinning
from flux_demo.engine.pipeline import Pipeline, SharedModels
from flux_demo.engine.placement import device_of, place_t5, place_transformer
from flux_demo.model_files import ModelFiles
from flux_demo.texts import Text


class ModelCache:
    """Loads what a mode needs and frees what the plan has no room for. One caller at a time."""

    def __init__(
        self, plan: Plan, device: torch.device, dtype: torch.dtype, max_sequence_length: int, pinning: Pinning | None = None
    ) -> None:
        self._plan, self._pinning = plan, pinning or Pinning()
        if not plan.pin_blocks:
            self._pinning.works = False
        self._device, self._dtype, self._max_sequence_length = device, dtype, max_sequence_length
        self._shared: tuple[Path, SharedModels] | None = None
        self._pipelines: OrderedDict[ModelFiles, Pipeline] = OrderedDict()  # the least recently used first

    @property
    def plan(self) -> Plan:
        """The plan, as it could be carried out so far."""
        return self._plan if self._pinning.works else self._plan.without_pinning

    def has(self, files: ModelFiles) -> bool:
        return files in self._pipelines

    @property
    def is_full(self) -> bool:
        return len(self._pipelines) >= self.plan.modes

    def keeps_all(self, files: ModelFiles) -> bool:
        """Whether loading these evicts nothing."""
        return files in self._pipelines or (not self.is_full and (self._shared is None or self._shared[0] == files.shared))

    def load(self, files: ModelFiles, say: Callable[[str], None] = lambda sentence: None) -> Pipeline:
        """The mode's pipeline, read from its files if it is not here. ``say`` is told how far it is. Raises GenerationFailed in words."""
        if files not in self._pipelines:
            with on(self._device):
                shared = self._load_shared(files, say)
                while self.is_full:
                    self._pipelines.popitem(last=False)
                    free_memory()
                self._pipelines[files] = self._load_pipeline(files, shared, say)
        self._pipelines.move_to_end(files)
        return self._pipelines[files]

    def _load_shared(self, files: ModelFiles, say: Callable[[str], None]) -> SharedModels:
        if self._shared is None or self._shared[0] != files.shared:
            say(Text("Loading {model}: text encoders and VAE", model=files.model))
            if self._shared is not None:  # a collection of garbage takes 0.2 s
                self._shared = None
                self._pipelines.clear()
                free_memory()
            vae = load_vae(files.shared, self._dtype, self._device)
            encoders = load_encoders(files.shared, self._max_sequence_length, self._dtype, self._device)
            place_t5(encoders.t5, self.plan, self._device, self._pinning)
            self._shared = files.shared, SharedModels(encoders, vae, self._device, streamed=self.plan.stream_t5)
        return self._shared[1]

    def _load_pipeline(self, files: ModelFiles, shared: SharedModels, say: Callable[[str], None]) -> Pipeline:
        def on_bytes(done: int, total: int) -> None:
            unit, size = ("GB", 1e9) if total >= 1e9 else ("MB", 1e6)
            loaded, whole = f"{done / size:.1f}", f"{total / size:.1f}"
            say(Text("Loading {model}: {done} of {total} {unit}", model=files.model, done=loaded, total=whole, unit=unit))

        device = device_of(self.plan, self._device)
        mapped = self._device.type != "cpu"
        transformer = load_transformer(
            files.transformer, self._dtype, device, on_bytes, mapped=mapped, lora=files.lora, components=files.shared
        )
        modulation = PrecomputedModulation(transformer)
        # Before anything is streamed: group offload wraps what may be compiled.
        quantised = any(hasattr(weight, "quant_type") for weight in transformer.parameters())
        blocks = None if quantised else RepeatedBlocks(transformer, self._device)
        place_transformer(transformer, modulation, self.plan, self._device, self._pinning)
        return Pipeline(shared, transformer, modulation, load_scheduler(files.scheduler), blocks, streamed=self.plan.stream_body)
