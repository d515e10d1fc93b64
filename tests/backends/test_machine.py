"""What the machine has: asked of NVML, of the driver where NVML does not answer, and of the system and its container."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from flux_demo.backends import machine
from flux_demo.backends.machine import Card, find_card, main_memory, this_machine, torch_has_cuda


def failing(code):
    def call(*_):
        raise pynvml.NVMLError(code)

    return call


@pytest.fixture
def nvml(monkeypatch):
    """``nvml(function=replacement, ...)``: an NVML with one GPU, in which some functions are replaced. Returns the calls of init and shutdown."""

    def install(**replaced):
        calls = []
        whole = {
            "nvmlInit": lambda: calls.append("init"),
            "nvmlShutdown": lambda: calls.append("shutdown"),
            "nvmlDeviceGetHandleByIndex": lambda index: f"device {index}",
            "nvmlDeviceGetName": lambda device: f"NVIDIA {device}",
            "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(total=24 * 2**30),
        }
        for name, function in {**whole, **replaced}.items():
            monkeypatch.setattr(pynvml, name, function)
        return calls

    return install


class Driver:
    """The CUDA driver's library with one GPU, as ctypes shows it."""

    def __init__(self, init=0, devices=1, memory=0):
        self.init, self.devices, self.memory = init, devices, memory

    def cuInit(self, flags):
        return self.init

    def cuDeviceGet(self, device, ordinal):
        return 0 if ordinal < self.devices else 101

    def cuDeviceGetName(self, name, length, device):
        name.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, total, device):
        total._obj.value = 8 * 2**30
        return self.memory


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


def test_nvml_names_the_first_gpu_and_is_closed_again(nvml, driver):
    driver(None)
    calls = nvml()
    assert find_card() == Card("NVIDIA device 0", 24 * 2**30)
    assert calls == ["init", "shutdown"]


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
    nvml(**replaced)
    driver(None)
    assert find_card() is None
    driver(Driver())
    assert find_card() == Card("Orin", 8 * 2**30)


@pytest.mark.parametrize(
    "library", [Driver(init=100), Driver(devices=0), Driver(memory=1), object()], ids=["init", "no device", "no memory", "no functions"]
)
def test_a_driver_without_a_usable_gpu_gives_no_card(nvml, driver, library):
    nvml(nvmlInit=failing(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    driver(library)
    assert find_card() is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = '13.0'", True),
        ("cuda: Optional[str] = None", False),
        ('cuda = "12.8"', True),
        ("cuda = None\nhip: Optional[str] = '6.4'", False),
        ("", False),
    ],
)
def test_the_cuda_build_is_read_from_torchs_version_file(tmp_path, line, expected):
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\n")
    assert torch_has_cuda(tmp_path) is expected


def test_without_torch_there_is_no_cuda_build(tmp_path):
    assert torch_has_cuda(tmp_path / "nowhere") is False


def test_it_agrees_with_torch_itself():
    import torch

    assert torch_has_cuda() is (torch.version.cuda is not None)
    assert (find_card() is not None) >= torch.cuda.is_available()


def test_torch_is_not_imported():
    code = "import sys; from flux_demo.backends.machine import this_machine; this_machine(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """``limits(v2=..., v1=...)``: what a container's files say; a version that is not given has no file."""

    def write(**said):
        for version, text in said.items():
            (tmp_path / version).write_text(text)
        monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "v2"), str(tmp_path / "v1")))

    return write


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_a_containers_limit_counts_if_it_is_below_what_the_machine_has(limits, version):
    limits(**{version: "1048576\n"})
    assert main_memory() == this_machine().memory_bytes == 2**20


@pytest.mark.parametrize("said", [{}, {"v2": "max\n"}, {"v1": "9223372036854771712\n"}], ids=["none", "v2", "v1"])
def test_without_a_limit_it_is_what_the_machine_has(limits, said):
    limits(**said)
    assert main_memory() == psutil.virtual_memory().total


def test_a_system_that_does_not_say_its_memory_counts_as_0(monkeypatch):
    def hidden():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert main_memory() == 0
