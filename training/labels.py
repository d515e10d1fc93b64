"""What stands in each cell of 8x8 pixels of a scene: taught to the middle of the transformer while it learns to generate.

The flow-matching loss hardly cares whether a few pixels belong to a cube or a cylinder; this loss is about nothing else.
(Yu et al. 2024, arXiv 2410.06940, align with the features of a pretrained network. Here the renderer knows the answer.)
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import networks, scenes
from training.raycast import FLOOR, SKY

CELL = 8  # pixels; a token is two by two cells
KINDS = 2 + len(scenes.SHAPES) * len(scenes.COLOURS)  # sky, floor, then every shape in every colour
UNKNOWN = 255  # in a drawing, which is not a scene
AFTER_BLOCK = 3  # of the single blocks, counted from 1


def label(chosen: list[scenes.Scene], width: int, height: int, device: str = "cpu") -> np.ndarray:
    """(B, tokens, 4) uint8: the kind in each cell of images of this size, packed as latents are."""
    columns, rows = width // CELL, height // CELL
    surfaces = scenes.surfaces(chosen, columns, rows, device)
    most = max(len(scene.objects) for scene in chosen)
    by_surface = torch.zeros(len(chosen), FLOOR - SKY + 1 + most, dtype=torch.uint8)  # SKY is first, then FLOOR, then the objects
    by_surface[:, FLOOR - SKY] = 1
    for row, scene in enumerate(chosen):
        for index, each in enumerate(scene.objects):
            by_surface[row, index - SKY] = kind(each.shape, each.colour)
    kinds = by_surface.to(device).gather(1, surfaces.flatten(1) - SKY)
    packed = kinds.view(-1, rows // 2, 2, columns // 2, 2).permute(0, 1, 3, 2, 4).reshape(len(chosen), -1, 4)
    return packed.cpu().numpy()


def kind(shape: str, colour: str) -> int:
    return 2 + scenes.SHAPES.index(shape) * len(scenes.COLOURS) + scenes.COLOURS.index(colour)


class LinearProbe(nn.Module):
    """Reads the kinds from a middle block's image tokens. Used in training only."""

    def __init__(self):
        super().__init__()
        self.kinds = nn.Linear(networks.TRANSFORMER["num_attention_heads"] * networks.TRANSFORMER["attention_head_dim"], 4 * KINDS)

    def attach(self, transformer: nn.Module) -> None:
        """Keep the block's output at each forward pass from now on."""
        transformer.single_transformer_blocks[AFTER_BLOCK - 1].register_forward_hook(self._keep)

    def _keep(self, block, inputs, outputs) -> None:
        self.features = outputs[1]

    def loss(self, labels: Tensor) -> Tensor:
        """The mean cross-entropy of the last forward pass against `labels` (B, tokens, 4)."""
        logits = self.kinds(self.features).unflatten(-1, (4, KINDS))
        targets = labels.long()
        return F.cross_entropy(logits.flatten(0, 2), torch.where(targets == UNKNOWN, -100, targets).flatten())
