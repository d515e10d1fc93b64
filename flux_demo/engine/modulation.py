"""Everything that does not depend on the latents is computed once per image, not once per step and block.

Each block of FLUX scales and shifts its input by rows that depend on the timestep, the guidance and the pooled prompt embedding, and on
nothing else. The layers that compute these rows are 27 % of the transformer's weights. Here they are taken out of it: their rows are
computed before the loop, the layers need not be on the device while it runs, and in place of each one there is a ``PrecomputedOutput``
that returns the current step's row. The same is done with the prompt's projection and the rotary embedding of the position ids.

One timestep at a time: all steps in one product would differ in the last bits of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PrecomputedOutput(nn.Module):
    """Stands in for a layer and returns an output that was computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.value: Any = None

    def forward(self, *_: Any) -> Any:
        return self.value


@dataclass(frozen=True)
class Rows:
    """The modulation at each step of a schedule."""

    key: tuple[Any, ...]  # what they were computed from
    conditioning: Sequence[Tensor]  # a step's embedding of timestep, guidance and pooled prompt: (1, width)
    layers: Sequence[Sequence[Tensor]]  # [layer][step]: (1, 2, 3 or 6 widths)


class PrecomputedModulation:
    """The layers taken out of a transformer, and the outputs left in their places. From here on the transformer runs only through this."""

    def __init__(self, transformer: Any) -> None:
        self._time = transformer.time_text_embed
        self._text = transformer.context_embedder
        self._rotation = transformer.pos_embed
        self._guided = transformer.config.guidance_embeds
        norms = modulated_norms(transformer)
        self.layers: list[nn.Module] = [norm.linear for norm in norms]  # their weights stay where they are put
        self._outputs = [PrecomputedOutput() for _ in norms]
        for norm, output in zip(norms, self._outputs, strict=True):
            norm.linear, norm.silu = output, nn.Identity()  # the layer's input no longer matters
        transformer.time_text_embed = self._time_output = PrecomputedOutput()
        transformer.context_embedder = self._text_output = PrecomputedOutput()
        transformer.pos_embed = self._rotation_output = PrecomputedOutput()
        self._rows: Rows | None = None

    @property
    def small_layers(self) -> tuple[nn.Module, ...]:
        """Those that run once per image and are small: they stay on the device."""
        return self._time, self._text

    def prepare(
        self, embeds: Tensor, pooled_embeds: Tensor, guidance: float, timesteps: Tensor, position_ids: Tensor, key: tuple[Any, ...]
    ) -> None:
        """Compute everything for one image. ``key`` names the prompt, guidance and schedule: the same key keeps its rows."""
        self._text_output.value = self._text(embeds)
        self._rotation_output.value = self._rotation(position_ids)
        if self._rows is None or self._rows.key != key:
            self._rows = None  # the old rows are freed before the new ones are computed
            self._rows = self._make_rows(pooled_embeds, guidance, timesteps, key)

    def set_step(self, step: int) -> None:
        """Let every ``PrecomputedOutput`` return that step's row."""
        assert self._rows is not None
        self._time_output.value = self._rows.conditioning[step]
        for output, rows in zip(self._outputs, self._rows.layers, strict=True):
            output.value = rows[step]

    def forget(self) -> None:
        """Free what was computed, rows included."""
        self._rows = None
        for output in (self._text_output, self._rotation_output, self._time_output, *self._outputs):
            output.value = None

    def _make_rows(self, pooled_embeds: Tensor, guidance: float, timesteps: Tensor, key: tuple[Any, ...]) -> Rows:
        scaled_guidance = torch.full([1], guidance, device=pooled_embeds.device, dtype=torch.float32).to(pooled_embeds.dtype) * 1000
        conditioning = []
        for timestep in timesteps:
            # Divided by the pipeline and multiplied again by the model, in the model's dtype: bfloat16 rounds each time.
            time = (timestep.expand(1).to(pooled_embeds.dtype) / 1000).to(pooled_embeds.dtype) * 1000
            conditioning.append(self._time(time, scaled_guidance, pooled_embeds) if self._guided else self._time(time, pooled_embeds))
        inputs = [F.silu(each) for each in conditioning]
        return Rows(key, conditioning, [_rows_of(layer, inputs) for layer in self.layers])


def modulated_norms(transformer: Any) -> list[nn.Module]:
    """Every norm of the transformer that is scaled and shifted, in the order in which they act."""
    norms = [norm for block in transformer.transformer_blocks for norm in (block.norm1, block.norm1_context)]
    norms += [block.norm for block in transformer.single_transformer_blocks]
    return [*norms, transformer.norm_out]


def _rows_of(layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The layer's output for each step, by calling it: quantised weights and adapters are its own business. A layer that is elsewhere is copied
    to the inputs' device for as long as that takes, and what it was copied from stays.
    """
    device = inputs[0].device
    stored = {weight: weight.data for weight in layer.parameters() if weight.device != device}
    for weight, data in stored.items():
        weight.data = data.to(device, non_blocking=True)
    try:
        return [layer(row) for row in inputs]
    finally:
        for weight, data in stored.items():
            weight.data = data
