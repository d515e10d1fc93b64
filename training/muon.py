"""The optimisers: Muon for the matrices inside a network, AdamW for the rest. In short training Muon needs far fewer steps.

Muon updates a matrix by its momentum after making all singular values about equal (Jordan et al. 2024, github.com/KellerJordan/Muon).
"""

import torch
from torch import Tensor, nn

from training import distributed

# Five Newton-Schulz steps with these coefficients, which are Jordan's, bring the singular values near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


def optimisers(network: nn.Module, muon: float, adam: float, outer: tuple[str, ...]) -> dict[str, torch.optim.Optimizer]:
    """Both optimisers, with `muon` and `adam` as their peak learning rates. Parameters whose names start with one of `outer`,
    the first and last layers, go to Adam."""
    inner, rest = [], []
    for name, value in network.named_parameters():
        if value.requires_grad:
            (inner if value.ndim >= 2 and not name.startswith(outer) else rest).append(value)
    return {
        "muon": Muon([{"params": inner, "peak": muon, "lr": muon}]),
        "adam": torch.optim.AdamW([{"params": rest, "peak": adam}], betas=(0.9, 0.97), weight_decay=0.0),
    }


class Muon(torch.optim.Optimizer):
    """Treats a convolution as a matrix: output channels by everything else."""

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
                updates = distributed.split_rows(orthogonalised, torch.stack([matrix for _, matrix in pairs]))
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (value, _), update in zip(pairs, updates):
                    value.mul_(1 - group["lr"] * group["decay"]).add_(update.view(value.shape), alpha=-size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """(K, rows, columns) -> the same singular vectors with all singular values near 1."""
    a, b, c = QUINTIC
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
