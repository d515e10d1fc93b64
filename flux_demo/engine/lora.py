"""A control LoRA, merged into its base while that is loaded: a model that follows a map, for 1.24 GB beside the text model.

As diffusers' ``load_lora_weights`` and ``fuse_lora`` do it: the input layer gets zero columns for the map's channels, every weight and bias gets
its product of factors times the scale and the layer's alpha / rank, and the norms of queries and keys are replaced. One layer differs: for a file in
black-forest-labs' layout, diffusers 0.42 swaps scale and shift of the last norm in both factors, where only the second has rows to swap.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from flux_demo.checkpoints import Checkpoint

Read = Callable[[str], Tensor]
"""A weight of the LoRA's file by its name."""


class ControlLora:
    def __init__(self, checkpoint: Checkpoint, scale: float, read: Read) -> None:
        self._names, self._scaling, self._scale, self._read = checkpoint.weights, checkpoint.scaling, scale, read
        down = checkpoint.weights["x_embedder.lora_A.weight"]
        self.in_channels = checkpoint.file.tensors[down.stored].shape[1]

    def merge(self, name: str, weight: Tensor, device: torch.device) -> Tensor:
        """The weight as it is with the LoRA, in its own dtype. The product is computed on the device, in float32 and rounded once."""
        if name in self._names:
            return self._read(name).to(weight.dtype)
        layer, _, suffix = name.rpartition(".")
        up, down, bias = (f"{layer}.lora_{factor}" for factor in ("B.weight", "A.weight", "B.bias"))
        if name == "x_embedder.weight":
            weight = F.pad(weight, (0, self.in_channels - weight.shape[1]))
        if suffix == "weight" and up in self._names:
            change = self._read(up).to(device, torch.float32) @ self._read(down).to(device, torch.float32)
        elif suffix == "bias" and bias in self._names:
            change = self._read(bias).to(device, torch.float32)
        else:
            return weight
        return (weight.to(device, torch.float32) + self._scale * self._scaling[layer] * change).to(weight.dtype)
