"""What stands where in a scene, for each cell of 8x8 pixels: taught to the transformer's middle while it learns to draw.

The loss of flow matching hardly minds whether a few pixels belong to a cube or to a cylinder; this one is about nothing else
(Yu et al. 2024, arXiv 2410.06940, align with the features of a pretrained network; a renderer knows the answer itself).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import networks, scenes

CELL = 8  # pixels; a token is two by two cells
KINDS = 2 + len(scenes.SHAPES) * len(scenes.COLOURS)  # sky, floor, then every shape in every colour
UNKNOWN = 255  # in a drawing, which is no scene
READ_AFTER = 3  # of the single blocks


def label(chosen: list[scenes.Scene], width: int, height: int) -> np.ndarray:
    """(B, tokens, 4) uint8 kinds of pictures of this size, packed as latents are."""
    columns, rows = width // CELL, height // CELL
    met = scenes.met(chosen, columns, rows)
    kinds = torch.zeros_like(met)
    kinds[met == -1] = 1
    for row, scene in enumerate(chosen):
        for slot, thing in enumerate(scene.things):
            kinds[row][met[row] == slot] = 2 + scenes.SHAPES.index(thing.shape) * len(scenes.COLOURS) + scenes.COLOURS.index(thing.colour)
    packed = kinds.view(-1, rows // 2, 2, columns // 2, 2).permute(0, 1, 3, 2, 4).reshape(len(chosen), -1, 4)
    return packed.to(torch.uint8).numpy()


class Reading(nn.Module):
    """A linear reading of the kinds from a middle block's image tokens. Used in training only."""

    def __init__(self):
        super().__init__()
        self.kinds = nn.Linear(networks.TRANSFORMER["num_attention_heads"] * networks.TRANSFORMER["attention_head_dim"], 4 * KINDS)

    def listen(self, transformer: nn.Module) -> None:
        """Keep what the block says at each pass."""
        transformer.single_transformer_blocks[READ_AFTER - 1].register_forward_hook(self._hear)

    def _hear(self, block, inputs, outputs) -> None:
        self.heard = outputs[1]

    def loss(self, labels: Tensor) -> Tensor:
        """The mean cross-entropy of the last pass against `labels` (B, tokens, 4)."""
        said = self.kinds(self.heard).unflatten(-1, (4, KINDS))
        wanted = labels.long()
        return F.cross_entropy(said.flatten(0, 2), torch.where(wanted == UNKNOWN, -100, wanted).flatten())
