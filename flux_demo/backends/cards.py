"""Which NVIDIA GPU CUDA will use, asked of the driver: no torch, no CUDA context, some milliseconds.

NVML sees every GPU in the order of the PCI bus, and knows nothing of CUDA_VISIBLE_DEVICES; CUDA shows what that names, the fastest first.
So NVML's list is read as CUDA reads it, and the driver itself is asked where only it knows the order.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from flux_demo.environment import cuda_device_order, cuda_visible_devices

DRIVER_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")  # on Linux (WSL too) and Windows
SUPPORTED, COMPUTES_BFLOAT16 = (7, 5), (8, 0)  # compute capabilities: what torch's CUDA builds have code for, what has units for bfloat16
INTEGRATED, CAPABILITY_MAJOR, CAPABILITY_MINOR = 18, 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU, or a MIG instance of one."""

    name: str
    total_bytes: int
    free_bytes: int | None = None  # None where the driver does not say
    capability: tuple[int, int] | None = None  # compute capability; None where the driver does not say
    among: int = 1  # how many GPUs CUDA shows, this one included
    uuid: str = ""  # "GPU-..." or "MIG-..."; empty where the driver does not say
    shares_memory: bool = False  # whether its memory is the machine's main memory, as on Jetson

    @property
    def is_supported(self) -> bool:
        return self.capability is None or self.capability >= SUPPORTED

    @property
    def is_slow(self) -> bool:
        """Whether it has no units for bfloat16, in which FLUX is computed."""
        return self.capability is not None and self.capability < COMPUTES_BFLOAT16


@dataclass(frozen=True)
class Device:
    """A GPU as the driver lists it."""

    card: Card
    instances: tuple[Device, ...] | None = None  # of MIG; None where that is off

    @property
    def uuid(self) -> str:
        return self.card.uuid


def find_card() -> Card | None:
    """The GPU for FLUX: of those that CUDA shows, the one with the most free memory. None without a GPU, or where the driver is missing
    or broken.
    """
    devices = _ask_nvml()
    found = visible(devices, cuda_visible_devices(), cuda_device_order(), _ask_driver) if devices else _ask_driver()
    return choose([device.card for device in found])


def choose(cards: Sequence[Card]) -> Card | None:
    """The card with the most free memory among those that are supported; the first of equals; an unsupported one only if all are."""
    usable = [card for card in cards if card.is_supported] or cards
    best = max(usable, key=lambda card: card.total_bytes if card.free_bytes is None else card.free_bytes, default=None)
    return best and replace(best, among=len(cards))


def visible(devices: Sequence[Device], named: str | None, order: str | None, ask_driver: Callable[[], Sequence[Device]]) -> list[Device]:
    """What CUDA shows of the devices, which stand in PCI order. ``named`` and ``order`` are CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER;
    ``ask_driver`` gives CUDA's own list, and is asked only where the variables mean different GPUs in different orders.
    """
    if named is None:
        return _one_instance(devices)
    names = [name.strip() for name in named.split(",")]
    if len(set(names)) < len(names):
        return []  # as CUDA does
    if names[0].startswith(("GPU-", "MIG-")):
        parts = [*devices, *(part for device in devices for part in device.instances or ())]
        return _one_instance(_until_none(_of_uuid(parts, name) for name in names))
    if order == "PCI_BUS_ID" or len({device.card.name for device in devices}) == 1:
        return _one_instance(_until_none(_of_number(devices, name) for name in names))
    shown = [(device.uuid and _of_uuid(devices, device.uuid)) or device for device in ask_driver()]
    fastest_first = sorted(devices, key=lambda device: (device.card.capability or (0, 0), device.card.total_bytes), reverse=True)
    return shown or _one_instance(_until_none(_of_number(fastest_first, name) for name in names))


def _one_instance(devices: Sequence[Device]) -> list[Device]:
    """CUDA uses one MIG instance at most, the first."""
    shown: list[Device] = []
    for device in devices:
        if device.instances is not None:
            shown += device.instances[:1]
        else:
            shown.append(device)
    instances = [device for device in shown if device.uuid.startswith("MIG-")]
    return [device for device in shown if device not in instances[1:]]


def _until_none(found: Iterator[Device | None]) -> list[Device]:
    """Those before the first that does not exist: CUDA ignores whatever follows it."""
    devices = []
    for device in found:
        if device is None:
            break
        devices.append(device)
    return devices


def _of_uuid(devices: Sequence[Device], name: str) -> Device | None:
    """The one device whose UUID begins so."""
    found = [device for device in devices if device.uuid.startswith(name)]
    return found[0] if len(found) == 1 else None


def _of_number(devices: Sequence[Device], name: str) -> Device | None:
    number = re.match(r"\+?(\d+)", name)
    return devices[int(number[1])] if number and int(number[1]) < len(devices) else None


def _ask_nvml() -> list[Device]:
    """Every GPU in PCI order; empty where NVML does not answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_device(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]
    except (pynvml.NVMLError, UnicodeDecodeError):
        return []
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _device(handle: Any) -> Device:
    import pynvml

    capability, instances = None, None
    with contextlib.suppress(pynvml.NVMLError):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = major, minor
    with contextlib.suppress(pynvml.NVMLError):
        if pynvml.nvmlDeviceGetMigMode(handle)[0]:
            instances = tuple(_instances(handle, capability))
    return Device(_card(handle, capability), instances)


def _instances(handle: Any, capability: tuple[int, int] | None) -> Iterator[Device]:
    import pynvml

    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError):  # there are gaps in the numbers
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            yield Device(_card(part, capability))


def _card(handle: Any, capability: tuple[int, int] | None) -> Card:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Card(pynvml.nvmlDeviceGetName(handle), memory.total, memory.free, capability, uuid=pynvml.nvmlDeviceGetUUID(handle))


def _ask_driver() -> list[Device]:
    """What the CUDA driver itself shows, in its own order. Slower, so only where NVML does not answer (Jetson, and others whose GPU shares
    the main memory) or does not know the order.
    """
    library, count = _driver(), ctypes.c_int()
    try:
        if library is None or library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return []
        found = [_shown(library, ordinal) for ordinal in range(count.value)]
    except AttributeError:  # a library of that name without these functions
        return []
    return [device for device in found if device is not None]


def _shown(library: Any, ordinal: int) -> Device | None:
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(96), ctypes.c_size_t()
    if library.cuDeviceGet(ctypes.byref(device), ordinal) != 0 or library.cuDeviceTotalMem_v2(ctypes.byref(total), device) != 0:
        return None
    library.cuDeviceGetName(name, len(name), device)
    uuid, major, minor, integrated = (ctypes.c_ubyte * 16)(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    has_uuid = library.cuDeviceGetUuid(ctypes.byref(uuid), device) == 0
    queries = ((major, CAPABILITY_MAJOR), (minor, CAPABILITY_MINOR))
    has_capability = all(library.cuDeviceGetAttribute(ctypes.byref(number), which, device) == 0 for number, which in queries)
    return Device(
        Card(
            name.value.decode(errors="replace"),
            total.value,
            capability=(major.value, minor.value) if has_capability else None,
            uuid=f"GPU-{UUID(bytes=bytes(uuid))}" if has_uuid else "",
            shares_memory=library.cuDeviceGetAttribute(ctypes.byref(integrated), INTEGRATED, device) == 0 and integrated.value == 1,
        )
    )


def _driver() -> Any:
    for name in DRIVER_LIBRARIES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None
