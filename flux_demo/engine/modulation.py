"""All that does not look at the picture is worked out once per picture, not once per step and block.

Each block of FLUX scales and shifts what it sees by rows that depend on the time step, the guidance and CLIP's vector, and on nothing
else. The layers that make these rows are 27 % of the transformer's weights. Here they are taken out of it: their rows are
made before the loop, the layers need not be on the device while it runs, and where each one stood there is a ``PrecomputedOutput`` that answers with
the current step's row. The same is done with the text's projection and the places' rotations.

One time step at a time: all steps in one product would differ in the last bits of float32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PrecomputedOutput(nn.Module):
    """Stands where a layer was, and answers with what that layer is known to say."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = None

    def forward(self, *_: Any) -> Any:
        return self.answer


@dataclass(frozen=True)
class Rows:
    """What the modulation says at each step of a schedule."""

    key: tuple[Any, ...]  # what they were made from
    times: Sequence[Tensor]  # a step's embedding of time, guidance and pooled text: (1, width)
    layers: Sequence[Sequence[Tensor]]  # [layer][step]: (1, 2, 3 or 6 widths)


class Modulation:
    """The layers taken out of a transformer, and the answers left in their places. From here on the transformer runs only through this."""

    def __init__(self, transformer: Any) -> None:
        self._time = transformer.time_text_embed
        self._text = transformer.context_embedder
        self._rotation = transformer.pos_embed
        self._guided = transformer.config.guidance_embeds
        norms = modulated_norms(transformer)
        self.layers: list[nn.Linear] = [norm.linear for norm in norms]  # their weights stay where they are put
        self._known = [PrecomputedOutput() for _ in norms]
        for norm, known in zip(norms, self._known, strict=True):
            norm.linear, norm.silu = known, nn.Identity()  # what the layer saw no longer matters
        transformer.time_text_embed = self._known_time = PrecomputedOutput()
        transformer.context_embedder = self._known_text = PrecomputedOutput()
        transformer.pos_embed = self._known_rotation = PrecomputedOutput()
        self._rows: Rows | None = None

    @property
    def small_layers(self) -> tuple[nn.Module, ...]:
        """Those that run once per picture and are small: they live on the device."""
        return self._time, self._text

    def prepare(self, tokens: Tensor, pooled: Tensor, guidance: float, timesteps: Tensor, places: Tensor, key: tuple[Any, ...]) -> None:
        """Work out everything for one picture. ``key`` names the prompt, guidance and schedule: the same key keeps its rows."""
        self._known_text.answer = self._text(tokens)
        self._known_rotation.answer = self._rotation(places)
        if self._rows is None or self._rows.key != key:
            self._rows = None  # the old rows go before the new ones come
            self._rows = self._make_rows(pooled, guidance, timesteps, key)

    def show(self, step: int) -> None:
        """Let every ``PrecomputedOutput`` answer for that step."""
        assert self._rows is not None
        self._known_time.answer = self._rows.times[step]
        for known, rows in zip(self._known, self._rows.layers, strict=True):
            known.answer = rows[step]

    def forget(self) -> None:
        """Free what was worked out, rows included."""
        self._rows = None
        for known in (self._known_text, self._known_rotation, self._known_time, *self._known):
            known.answer = None

    def _make_rows(self, pooled: Tensor, guidance: float, timesteps: Tensor, key: tuple[Any, ...]) -> Rows:
        strength = torch.full([1], guidance, device=pooled.device, dtype=torch.float32).to(pooled.dtype) * 1000
        times = []
        for timestep in timesteps:
            # Divided and multiplied again in the model's dtype, as pipeline and model do between them: bfloat16 rounds at each.
            time = (timestep.expand(1).to(pooled.dtype) / 1000).to(pooled.dtype) * 1000
            times.append(self._time(time, strength, pooled) if self._guided else self._time(time, pooled))
        seen = [F.silu(time) for time in times]
        return Rows(key, times, [_rows_of(layer, seen) for layer in self.layers])


def modulated_norms(transformer: Any) -> list[nn.Module]:
    """Every norm of the transformer that is scaled and shifted, in the order in which they act."""
    norms = [norm for block in transformer.transformer_blocks for norm in (block.norm1, block.norm1_context)]
    norms += [block.norm for block in transformer.single_transformer_blocks]
    return [*norms, transformer.norm_out]


def is_modulation(name: str) -> bool:
    """Whether a weight of that name belongs to the layers that are taken out."""
    return re.search(r"(^|\.)(norm1|norm1_context|norm|norm_out)\.linear\.(weight|bias)$", name) is not None


def _rows_of(layer: nn.Linear, seen: Sequence[Tensor]) -> list[Tensor]:
    """The layer's answer for each step. Its weights visit the device of what it sees, one layer at a time, and leave again."""
    device = seen[0].device
    weight = layer.weight.to(device, non_blocking=True)
    bias = None if layer.bias is None else layer.bias.to(device, non_blocking=True)
    return [F.linear(row, weight, bias) for row in seen]
