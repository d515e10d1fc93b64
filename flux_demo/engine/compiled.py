"""The preset ``compiled``: the transformer's repeated blocks, each as it is and as torch.compile makes it.

diffusers' ``compile_repeated_blocks`` cannot be switched off again, nor streamed: group offload must wrap what is compiled, and not be compiled
itself. So each block's forward is compiled before anything is hooked on it. All blocks of a kind have the same code and shapes, so compiling
one of each, in a thread beside the runs, serves all: no image waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from flux_demo import background
from flux_demo.engine.current_device import on
from flux_demo.environment import keep_compiled_code
from flux_demo.hub import cache_folder

BACKEND = "inductor"  # torch's own compiler
CACHE = "flux_demo_compiled"  # folder beside the Hub's cache


class RepeatedBlocks:
    """A transformer's repeated blocks, of which every forward can be run compiled."""

    def __init__(self, transformer: Any, device: torch.device) -> None:
        self.compiled = False  # which forward runs
        self.recording = False  # whether to note what the blocks are called with
        self.failure: str | None = None  # why compiling failed: the name of an error
        self._device = device
        self._seen: dict[Any, tuple[_Forward, Any]] = {}  # a call of each kind, by what a compiler looks at
        self._ready: set[int] = set()
        self._preparing: Future[None] | None = None
        self._staying: dict[type, _Forward] = {}  # of each kind, a block whose weights stay on the device
        for block in transformer.modules():
            if type(block).__name__ in transformer._repeated_blocks:
                block.forward = forward = _Forward(block, self)
                if all(weight.device == device for weight in block.parameters()):
                    self._staying.setdefault(type(block), forward)

    @contextmanager
    def running(self, *, compiled: bool, pixels: int) -> Iterator[bool]:
        """Run the blocks compiled, if that is wanted and they are ready for an image of so many pixels; yields whether they are. If they are not, the
        run teaches them what they will be called with, and they are compiled after it.
        """
        self.compiled = ready = compiled and pixels in self._ready
        self.recording = compiled and not ready
        self._seen.clear()
        try:
            yield ready
        finally:
            self.compiled = self.recording = False
        if compiled and not ready and self.failure is None and (self._preparing is None or self._preparing.done()):
            calls = list(self._seen.values())
            self._preparing = background.start(lambda: self._prepare(calls, pixels), "compiling")

    def wait(self) -> None:
        """Wait until what is being compiled is ready, or has failed."""
        if self._preparing is not None:
            self._preparing.result()

    def record_call(self, forward: _Forward, call: Any) -> None:
        """Note how a block was called. One that stays stands for all of its kind: compiling a streamed one would need its memory a second time."""
        described, kind = tree_map(_described, call), type(forward.block)
        self._seen.setdefault((kind, str(described)), (self._staying.get(kind, forward), described))

    @torch.no_grad()
    def _prepare(self, calls: Sequence[tuple[_Forward, Any]], pixels: int) -> None:
        keep_compiled_code(cache_folder().parent / CACHE)
        try:
            with on(self._device):
                for forward, described in calls:
                    args, kwargs = tree_map(lambda given: given.zeros(self._device) if isinstance(given, _Tensor) else given, described)
                    _compiled(_twin(forward.block, self._device).forward)(*args, **kwargs)
        except Exception as error:  # whatever a compiler raises: runs go on uncompiled, and say so
            self.failure = type(error).__name__
        else:
            self._ready.add(pixels)


class _Forward:
    """A block's forward: the one it has, or the compiled one."""

    def __init__(self, block: nn.Module, blocks: RepeatedBlocks) -> None:
        self.block, self._blocks, self._eager = block, blocks, block.forward
        self._compiled: Callable | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._blocks.compiled:
            if self._compiled is None:
                self._compiled = _compiled(self._eager)
            return self._compiled(*args, **kwargs)
        if self._blocks.recording:
            self._blocks.record_call(self, (args, kwargs))
        return self._eager(*args, **kwargs)


@dataclass(frozen=True)
class _Tensor:
    """What a compiler looks at of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def zeros(self, device: torch.device) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device).zero_()


def _described(given: Any) -> Any:
    return _Tensor(tuple(given.shape), given.stride(), given.dtype) if isinstance(given, Tensor) else given


def _compiled(forward: Callable) -> Callable:
    return torch.compile(forward, fullgraph=True, backend=BACKEND)


def _twin(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its weights on the device, without its hooks: another thread may be moving the weights of a streamed one. What is
    elsewhere is replaced by memory of its size: a compiler does not look at values.
    """
    twin = module.__class__.__new__(module.__class__)
    own = {name: value for name, value in module.__dict__.items() if name not in ("forward", "_diffusers_hook")}
    twin.__dict__.update(own)
    for store in ("_parameters", "_buffers"):
        twin.__dict__[store] = {name: _beside(weight, device) for name, weight in own[store].items()}
    twin.__dict__["_modules"] = {name: part if part is None else _twin(part, device) for name, part in own["_modules"].items()}
    return twin


def _beside(weight: Any, device: torch.device) -> Any:
    if weight is None or weight.device == device:
        return weight
    there = torch.empty_like(weight, device=device)
    return nn.Parameter(there, weight.requires_grad) if isinstance(weight, nn.Parameter) else there
