"""What the machine has beside its GPU: asked of the system, its container, and torch's files."""

import subprocess
import sys

import psutil
import pytest

from flux_demo.backends import machine
from flux_demo.backends.machine import find_card, main_memory, this_machine, torch_has_cuda


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
