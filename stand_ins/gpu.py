"""A GPU that computes nothing: it knows only the shape of each of its tensors, and counts their bytes.

With it, code for a GPU runs on any machine, even at FLUX's full size, and everything that does not depend on values can be checked: a tensor
on the wrong device for an operation raises an error, as do more bytes than the card has; and each operation for which the host waits for
the device is recorded. It is not the thread's current device by itself, as the second GPU of a machine is not: streams and events that are made
elsewhere raise an error. It holds no values, so it says nothing about images, and nothing about time.

What a stream of its own has freed is kept for that stream, as torch's allocator does, until ``empty_cache``; pinned memory is kept in powers of two.
A real card also needs room for the CUDA context, the kernels' workspaces, and fragmentation.

    with Gpu(capacity) as gpu: model.to(gpu.device) ...
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock, local
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import swap_tensors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flux_demo.engine import weights

ROUND = 512  # bytes; what torch's allocator rounds to
COPIES = ("aten::_to_copy", "aten::copy_")
SET_DATA = torch.Tensor.data.__set__
VALUE_READS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal")  # the host reads a value


def pin(tensor: torch.Tensor) -> torch.Tensor:
    """Pinned memory is like any other here; a test may replace this by a machine that has none."""
    return tensor


def round_up(size: int) -> int:
    """Bytes of pinned memory that torch reserves for `size`."""
    return 1 << (size - 1).bit_length()


class Gpu:
    """Stands in for a GPU within its ``with`` block; ``device`` is torch's own "meta". Raises torch.OutOfMemoryError beyond ``capacity`` bytes."""

    device = torch.device("meta")

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.live = self.peak = 0  # bytes
        self.pinned = self.pinned_cache = 0  # bytes of main memory: used, and kept for the next who asks
        self.cached: Counter[object] = Counter()  # bytes that each stream has freed; the default stream's serve everyone here
        self.waits: list[str] = []  # operations for which the host waited
        self._sizes: dict[int, tuple[int, object]] = {}  # of a storage: its bytes and its stream
        self._pinned: dict[int, int] = {}
        self._stream: object = None
        self._current = local()  # whether a thread has made it its current device
        self._lock = RLock()  # files are read in several threads, and a storage may be freed at any moment
        self._inside = ExitStack()

    def __enter__(self) -> Gpu:
        backend = SimpleNamespace(
            Stream=self._new_stream,
            stream=self._on,
            current_stream=self._new_stream,
            device=self._as_current,
            empty_cache=self.cached.clear,
        )
        self._inside.enter_context(patch.object(torch, "meta", backend, create=True))  # where torch.get_device_module looks
        torch.get_device_module.cache_clear()  # it remembers the stand-in before
        self._inside.callback(torch.get_device_module.cache_clear)
        self._inside.enter_context(patch.object(torch.cuda, "Event", self._new_stream))
        self._inside.enter_context(patch.object(torch.accelerator, "empty_host_cache", self._empty_host_cache, create=True))
        self._inside.enter_context(patch.object(torch.Tensor, "record_stream", lambda tensor, stream: None))
        self._inside.enter_context(patch.object(weights, "_to_device", self._read_to))
        self._inside.enter_context(_Operations(self))
        self._inside.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._inside.close()

    def begin(self) -> None:
        """Reset the peak and the recorded waits."""
        self.peak = self.held
        self.waits.clear()

    def hold(self, tensor: torch.Tensor) -> None:
        """Count a tensor on the device until its storage is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        with self._lock:
            if key in self._sizes:
                return
            size = -(-storage.nbytes() // ROUND) * ROUND
            self._sizes[key] = size, self._stream
            weakref.finalize(storage, self._forget, key)
            self.cached[self._stream] -= min(size, self.cached[self._stream])
            self.live += size
            if self.capacity is not None and self.held > self.capacity:
                self.cached.clear()  # what torch tries first
            self.peak = max(self.peak, self.held)
        if self.capacity is not None and self.live > self.capacity:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {self.live} bytes of {self.capacity}")

    @property
    def held(self) -> int:
        """Bytes of the card that nobody else can have."""
        return self.live + self.cached.total()

    def _forget(self, key: int) -> None:
        with self._lock:
            size, stream = self._sizes.pop(key)
            self.live -= size
            if stream is not None:
                self.cached[stream] += size

    @contextmanager
    def _as_current(self, device: torch.device) -> Iterator[None]:
        before, self._current.yes = self._is_current, True
        try:
            yield
        finally:
            self._current.yes = before

    @property
    def _is_current(self) -> bool:
        return getattr(self._current, "yes", False)

    def _new_stream(self) -> _Stream:
        if not self._is_current:
            raise RuntimeError("this GPU is not the current device, so its streams and events are another one's")
        return _Stream()

    @contextmanager
    def _on(self, stream: object) -> Iterator[None]:
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def hold_pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a tensor in pinned memory until its storage is freed, and after that as kept."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._pinned:
            self._pinned[key] = size = round_up(tensor.nbytes)
            weakref.finalize(storage, self._forget_pinned, key)
            self.pinned_cache -= min(size, self.pinned_cache)
            self.pinned += size
        return tensor

    def _forget_pinned(self, key: int) -> None:
        size = self._pinned.pop(key)
        self.pinned -= size
        self.pinned_cache += size

    def _empty_host_cache(self) -> None:
        self.pinned_cache = 0

    def _read_to(self, weight: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Files are read in threads, where the two modes below are not active."""
        moved = weight.to(device)
        if _on_gpu(moved):
            self.hold(moved)
        return moved


class _Operations(TorchDispatchMode):
    """Sees every operation on every tensor, after autograd."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._zeros: dict[torch.dtype, torch.Tensor] = {}  # what stands in main memory for tensors from the GPU

    def __torch_dispatch__(self, operation: Any, types: Any, given: tuple = (), named: dict | None = None) -> Any:
        named, name = named or {}, operation._schema.name
        if torch.is_inference_mode_enabled():  # which passes composite operations on undivided
            with self:
                result = operation.decompose(*given, **named)
            if result is not NotImplemented:
                return result
        if name in COPIES:
            return self._copy(operation, name, given, named)
        devices = {leaf.device.type for leaf in tree_leaves((given, named)) if isinstance(leaf, torch.Tensor) and leaf.dim()}
        if len(devices) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was given tensors on {sorted(devices)}")
        if name in VALUE_READS and _on_gpu(given[0]):
            self._gpu.waits.append(name)
            raise RuntimeError(f"{name} reads a value, and this GPU has none")
        return self._counted(operation(*given, **named))

    def _copy(self, operation: Any, name: str, given: tuple, named: dict) -> Any:
        target, source = (given[0], given[1]) if name == "aten::copy_" else (None, given[0])
        if target is not None and self._is_zero(source):
            return target  # writing zeros to memory of FLUX's size would take that much
        destination = target.device if target is not None else named.get("device") or source.device
        waits = not (given[2] if len(given) > 2 else named.get("non_blocking"))
        if waits and _on_gpu(source) != (destination.type == "meta"):
            self._gpu.waits.append(f"{name} of {tuple(source.shape)} to {destination.type}")
        if _on_gpu(source) and destination.type != "meta":
            # A single zero, expanded: main memory may be too small for what is on the GPU.
            return target if target is not None else self._zero(named.get("dtype") or source.dtype).expand(source.shape)
        return self._counted(operation(*given, **named))

    def _zero(self, dtype: torch.dtype) -> torch.Tensor:
        if dtype not in self._zeros:
            self._zeros[dtype] = torch.zeros((), dtype=dtype)
        return self._zeros[dtype]

    def _is_zero(self, value: torch.Tensor) -> bool:
        return any(value.untyped_storage()._cdata == zero.untyped_storage()._cdata for zero in self._zeros.values())

    def _counted(self, result: Any) -> Any:
        for leaf in tree_leaves(result):
            if _on_gpu(leaf):
                self._gpu.hold(leaf)
        return result


class _Calls(TorchFunctionMode):
    """Replaces calls that would not end in the same operations as on a GPU."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, call: Any, types: Any, given: tuple = (), named: dict | None = None) -> Any:
        named = named or {}
        if call is F.scaled_dot_product_attention and _on_gpu(given[0] if given else named["query"]):
            query, _, value = given[:3] if given else (named["query"], named["key"], named["value"])
            return query.new_empty((*query.shape[:-1], value.shape[-1]))  # a GPU's kernels store no attention scores
        if call is torch.Tensor.is_pinned:
            return given[0].untyped_storage()._cdata in self._gpu._pinned
        if call is torch.Tensor.pin_memory:
            return self._gpu.hold_pinned(pin(given[0].clone()))
        if call in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return given[0]
        if call == SET_DATA and given[0].device != given[1].device:  # torch forbids this between a real device and meta
            return swap_tensors(given[0], nn.Parameter(given[1].detach(), requires_grad=given[0].requires_grad))
        if call is torch.Tensor.__bool__ and _on_gpu(given[0]):
            return bool(given[0].to("cpu") == 0)  # the host waits; every check passes
        if named.get("pin_memory"):
            return self._gpu.hold_pinned(pin(call(*given, **{**named, "pin_memory": False})))
        return call(*given, **named)


class _Stream:
    """Stands in for torch.cuda.Stream and torch.cuda.Event."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


def _on_gpu(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "meta"
