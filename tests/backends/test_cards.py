"""Which GPU is taken: asked of NVML, read as CUDA reads it, and of the driver where NVML does not answer or does not know the order."""

import ctypes
from types import SimpleNamespace
from uuid import UUID

import pynvml
import pytest

from flux_demo.backends.cards import Card, choose, find_card

GB = 2**30
OLD = dict(name="NVIDIA GeForce GTX 1050", uuid="GPU-1050aaaa", total=4, free=4, capability=(6, 1))
SMALL = dict(name="NVIDIA GeForce RTX 3060", uuid="GPU-3060aaaa", total=12, free=11, capability=(8, 6))
LARGE = dict(name="NVIDIA GeForce RTX 4090", uuid="GPU-4090aaaa", total=24, free=23, capability=(8, 9))
PARTS = [dict(name=f"NVIDIA A100 MIG {size}", uuid=f"MIG-{size}", total=total, free=total) for size, total in (("1g", 5), ("3g", 20))]
SPLIT = dict(name="NVIDIA A100", uuid="GPU-a100aaaa", total=40, free=40, capability=(8, 0), parts=PARTS)


def failing(code):
    def call(*_):
        raise pynvml.NVMLError(code)

    return call


@pytest.fixture
def nvml(monkeypatch):
    """``nvml(gpu, ..., function=replacement)``: an NVML with these GPUs in PCI order, in which some functions are replaced. Returns the
    calls of init and shutdown.
    """

    def install(*gpus, **replaced):
        calls = []

        def missing(*_):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

        whole = {
            "nvmlInit": lambda: calls.append("init"),
            "nvmlShutdown": lambda: calls.append("shutdown"),
            "nvmlDeviceGetCount": lambda: len(gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
            "nvmlDeviceGetName": lambda gpu: gpu["name"],
            "nvmlDeviceGetUUID": lambda gpu: gpu["uuid"],
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=gpu["total"] * GB, free=gpu["free"] * GB),
            "nvmlDeviceGetCudaComputeCapability": lambda gpu: gpu["capability"] or missing(),
            "nvmlDeviceGetMigMode": lambda gpu: (1, 1) if "parts" in gpu else missing(),
            "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda gpu, at: gpu["parts"][at // 2] if at in (0, 2) else missing(),
        }
        for name, function in {**whole, **replaced}.items():
            monkeypatch.setattr(pynvml, name, function)
        return calls

    return install


class Driver:
    """The CUDA driver's library, as ctypes shows it, with GPUs in CUDA's own order."""

    def __init__(self, *gpus, init=0, memory=0):
        self.gpus, self.init, self.memory = gpus, init, memory

    def cuInit(self, flags):
        return self.init

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = self.gpus[device.value]["name"].encode()
        return 0

    def cuDeviceTotalMem_v2(self, total, device):
        total._obj.value = self.gpus[device.value]["total"] * GB
        return self.memory

    def cuDeviceGetUuid(self, uuid, device):
        if len(self.gpus[device.value]["uuid"]) < 40:
            return 1
        uuid._obj[:] = UUID(self.gpus[device.value]["uuid"].removeprefix("GPU-")).bytes
        return 0

    def cuDeviceGetAttribute(self, number, attribute, device):
        gpu = self.gpus[device.value]
        number._obj.value = gpu["capability"][attribute - 75] if attribute in (75, 76) else gpu.get("integrated", 0)
        return 0


@pytest.fixture
def driver(monkeypatch):
    """``driver(library)``: what loading the driver's library gives; None where it is not installed."""

    def install(library):
        def load(name):
            if library is None:
                raise OSError(f"{name}: cannot open shared object file")
            return library

        monkeypatch.setattr(ctypes, "CDLL", load)

    return install


@pytest.fixture(autouse=True)
def no_variables(monkeypatch, driver):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    driver(None)


def test_nvml_says_what_the_gpu_is_and_is_closed_again(nvml):
    calls = nvml(LARGE)
    assert find_card() == Card("NVIDIA GeForce RTX 4090", 24 * GB, 23 * GB, (8, 9), 1, "GPU-4090aaaa")
    assert calls == ["init", "shutdown"]


def test_of_two_gpus_the_one_with_more_free_memory_is_taken(nvml):
    nvml(SMALL, LARGE)
    assert (find_card().uuid, find_card().among) == ("GPU-4090aaaa", 2)
    nvml(SMALL, {**LARGE, "free": 3})  # busy with something else
    assert find_card().uuid == "GPU-3060aaaa"
    nvml({**OLD, "free": 30}, SMALL)
    assert find_card().uuid == "GPU-3060aaaa"  # the other cannot be used at all
    nvml(OLD)
    assert find_card().uuid == "GPU-1050aaaa" and not find_card().is_supported


NAMED = {
    "": None,
    "-1": None,
    "0": "4090",  # the fastest is number 0
    "1": "3060",
    "1,0": "4090",
    "2": "1050",
    "7,0": None,  # what follows a number that does not exist is not seen
    "1,7,0": "3060",
    "0,0": None,
    "GPU-3060": "3060",
    "GPU-3060aaaa, GPU-1050aaaa": "3060",
    "GPU-": None,
    "GPU-ffff,GPU-3060": None,
    "anything": None,
}


@pytest.mark.parametrize(("named", "expected"), NAMED.items())
def test_cuda_visible_devices_is_read_as_cuda_reads_it(nvml, monkeypatch, named, expected):
    nvml(OLD, SMALL, LARGE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    found = find_card()
    assert (found and found.uuid) == (expected and f"GPU-{expected}aaaa")


def test_numbers_follow_the_pci_bus_where_that_is_asked_for_or_all_gpus_are_the_same(nvml, monkeypatch):
    nvml(SMALL, LARGE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert find_card().uuid == "GPU-3060aaaa"
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    nvml(SMALL, {**SMALL, "uuid": "GPU-another", "free": 12})
    assert (find_card().uuid, find_card().among) == ("GPU-3060aaaa", 1)


def test_the_driver_is_asked_for_the_order_that_only_it_knows(nvml, driver, monkeypatch):
    """And gives what NVML does not have in its place: here CUDA takes the card of lower capability for the faster one."""
    first, second = ({**gpu, "uuid": f"GPU-{UUID(int=at)}"} for at, gpu in enumerate((SMALL, LARGE)))
    nvml(first, second)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    driver(Driver(first))
    assert find_card() == Card(SMALL["name"], 12 * GB, 11 * GB, (8, 6), 1, first["uuid"])


@pytest.mark.parametrize(("named", "expected"), [(None, "MIG-1g"), ("0", "MIG-1g"), ("MIG-3g", "MIG-3g"), ("GPU-a100", "MIG-1g")])
def test_of_a_gpu_that_mig_divides_cuda_sees_one_part(nvml, monkeypatch, named, expected):
    nvml(SPLIT)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    found = find_card()
    assert (found.uuid, found.among, found.capability) == (expected, 1, (8, 0))
    assert found.total_bytes == (5 if expected == "MIG-1g" else 20) * GB


def test_a_divided_gpu_without_parts_shows_nothing(nvml):
    nvml({**SPLIT, "parts": []}, nvmlDeviceGetMigDeviceHandleByIndex=failing(pynvml.NVML_ERROR_NOT_FOUND))
    assert find_card() is None


def test_what_nvml_does_not_say_of_a_gpu_is_not_counted_against_it(nvml):
    nvml({**LARGE, "capability": None})
    assert find_card().capability is None and find_card().is_supported and not find_card().is_slow
    assert Card("T4", 1, capability=(7, 5)).is_slow and Card("T4", 1, capability=(7, 5)).is_supported
    assert choose([]) is None


@pytest.mark.parametrize(
    "replaced",
    [
        {"nvmlInit": failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)},
        {"nvmlInit": failing(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)},
        {"nvmlInit": failing(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)},
        {"nvmlInit": failing(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)},
        {"nvmlDeviceGetHandleByIndex": failing(pynvml.NVML_ERROR_INVALID_ARGUMENT)},
        {"nvmlDeviceGetName": failing(pynvml.NVML_ERROR_GPU_IS_LOST)},
        {"nvmlDeviceGetName": lambda device: b"\xff".decode()},
        {"nvmlDeviceGetMemoryInfo": failing(pynvml.NVML_ERROR_NOT_SUPPORTED)},
        {"nvmlDeviceGetMemoryInfo": failing(pynvml.NVML_ERROR_UNKNOWN), "nvmlShutdown": failing(pynvml.NVML_ERROR_UNINITIALIZED)},
    ],
    ids=["no library", "no driver", "mismatch", "too old", "no GPU", "lost", "odd name", "unified memory", "broken"],
)
def test_where_nvml_does_not_answer_the_driver_is_asked(nvml, driver, replaced):
    nvml(LARGE, **replaced)
    assert find_card() is None
    driver(Driver(SMALL, LARGE))
    assert find_card() == Card(LARGE["name"], 24 * GB, None, (8, 9), 2, "")


def test_the_driver_says_which_gpu_shares_the_machines_memory(nvml, driver):
    nvml(nvmlInit=failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    for integrated in (0, 1):
        driver(Driver({**LARGE, "integrated": integrated}))
        assert find_card().shares_memory == bool(integrated)


@pytest.mark.parametrize(
    "library",
    [Driver(LARGE, init=100), Driver(), Driver(LARGE, memory=1), object()],
    ids=["init", "no device", "no memory", "no functions"],
)
def test_a_driver_without_a_usable_gpu_gives_no_card(nvml, driver, library):
    nvml(nvmlInit=failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    driver(library)
    assert find_card() is None
