"""The optimiser: Muon for the matrices inside a network, AdamW for the rest. In short training Muon needs far fewer steps.

Muon moves a matrix by its momentum with all singular values made about equal (Jordan et al. 2024, github.com/KellerJordan/Muon).
"""

import torch
from torch import Tensor, nn

from training import distributed

# Five steps of this quintic bring singular values near 1; coefficients are Jordan's.
QUINTIC = (3.4445, -4.7750, 2.0315)


def optimisers(network: nn.Module, muon: float, adam: float, edges: tuple[str, ...]) -> dict[str, torch.optim.Optimizer]:
    """Both optimisers with their peak rates. `edges` are beginnings of names of first and last layers, which Adam takes."""
    inner, rest = [], []
    for name, value in network.named_parameters():
        if value.requires_grad:
            (inner if value.ndim >= 2 and not name.startswith(edges) else rest).append(value)
    return {
        "muon": Muon([{"params": inner, "peak": muon, "lr": muon}]),
        "adam": torch.optim.AdamW([{"params": rest, "peak": adam}], betas=(0.9, 0.97), weight_decay=0.0),
    }


class Muon(torch.optim.Optimizer):
    """Convolutions are taken as matrices, output channels by everything else."""

    def __init__(self, groups, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(groups, {"momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for value in group["params"]:
                if value.grad is None:
                    continue
                state = self.state[value]
                if not state:
                    state["mean"] = torch.zeros_like(value.grad)
                state["mean"].lerp_(value.grad, 1 - group["momentum"])
                ahead = value.grad.lerp(state["mean"], group["momentum"])
                matrix = ahead.reshape(len(ahead), -1)
                by_shape.setdefault(matrix.shape, []).append((value, matrix))
            for (rows, columns), pairs in by_shape.items():
                moves = distributed.by_parts(even, torch.stack([matrix for _, matrix in pairs]))
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (value, _), move in zip(pairs, moves):
                    value.mul_(1 - group["lr"] * group["decay"]).add_(move.view(value.shape), alpha=-size)


def even(matrices: Tensor) -> Tensor:
    """(K, R, C) -> the same directions with all singular values near 1."""
    a, b, c = QUINTIC
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
