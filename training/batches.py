"""The transformers' batches, without end: which latents, and the captions as tokens. Where a GPU would wait for them, processes prepare them."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from flux_demo.backends.machine import processors
from training import distributed, flow
from training.pool import Pool, Row

DROPPED = 0.1  # of the captions are empty; with a control, half of those rows lose the control too
WORKERS = 12  # processes beside a GPU, if there are so many cores


@dataclass(frozen=True)
class Share:
    """One size of image among those that a stage is trained on."""

    size: tuple[int, int]
    weight: float  # how often it is chosen, relative to the others
    batch: int
    length: int  # text tokens


@dataclass(frozen=True)
class Batch:
    source: int  # which of the pools
    rows: list[Row]
    tokens: flow.Tokens
    keeps_control: Tensor  # (B,), 0 or 1


class Batches(IterableDataset):
    """Endless batches, each of one share, drawn with a probability proportional to its weight, from the pool of its size. `drops` empties some captions and controls, so that the
    network also learns what to say without them. `name` and `done`, a stage and its step, are the seed.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        shares: Sequence[Share],
        tokenize: Callable[[list[str], int], flow.Tokens],
        drops: bool,
        name: str,
        done: int,
    ):
        self.pools, self.shares, self.tokenize, self.drops = pools, shares, tokenize, drops
        self.name, self.done = name, done

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        seed = f"{self.name} {worker.id if worker else 0} {self.done}"
        alike = random.Random(seed)  # for what every process of a distributed run must choose alike
        rng = random.Random(f"{seed} {distributed.rank()}")
        while True:
            source = alike.choices(range(len(self.pools)), [share.weight for share in self.shares])[0]
            yield self._batch(source, rng)

    def _batch(self, source: int, rng: random.Random) -> Batch:
        share = self.shares[source]
        rows = self.pools[source].choose(share.batch, rng)
        empty = [self.drops and rng.random() < DROPPED for _ in rows]
        keeps = torch.tensor([float(not drop or rng.random() < 0.5) for drop in empty])
        prompts = ["" if drop else row.prompt for drop, row in zip(empty, rows)]
        return Batch(source, rows, self.tokenize(prompts, share.length), keeps)


def endless(batches: Batches, device: str) -> Iterator[Batch]:
    """The batches, from worker processes if they are for a GPU. On Windows, which cannot fork, this process makes them."""
    if device == "cpu" or "fork" not in get_all_start_methods():
        return iter(batches)
    workers = min(WORKERS, processors())
    return iter(DataLoader(batches, batch_size=None, num_workers=workers, multiprocessing_context="fork", prefetch_factor=4))
