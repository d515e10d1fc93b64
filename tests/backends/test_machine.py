"""What the machine has beside its GPU: asked of the system, its container, and torch's files."""

import subprocess
import sys

import psutil
import pytest

from flux_demo.backends import cgroups
from flux_demo.backends.machine import available_memory, find_card, main_memory, this_machine, torch_has_cuda


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


OWN, CACHE = {"v2": "0::{}\n", "v1": "7:cpu:/elsewhere\n4:hugetlb,memory:{}\n0::/elsewhere\n"}, 2**19
FILES = {
    "v2": ("", "memory.max", "memory.current", f"anon 1\nactive_file {CACHE}\ninactive_file {CACHE}\n"),
    "v1": (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        f"cache 1\ntotal_active_file {CACHE}\ntotal_inactive_file {CACHE}\n",
    ),
}


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """``limits(version, own group, {group: its limit})``: what Linux says; each group's processes hold 1 MiB, and the same again is cached."""
    monkeypatch.setattr(cgroups, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "OWN_GROUPS", tmp_path / "own")

    def write(version, own, said):
        (tmp_path / "own").write_text(OWN[version].format(own))
        folder, limit, usage, counts = FILES[version]
        for group, text in said.items():
            place = tmp_path / folder / group.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            (place / limit).write_text(f"{text}\n")
            (place / usage).write_text(f"{2**20 + 2 * CACHE}\n")
            (place / "memory.stat").write_text(counts)

    return write


ABOVE = {"v2": "max", "v1": "9223372036854771712"}
MIB = 2**20


@pytest.mark.parametrize("version", FILES)
@pytest.mark.parametrize(
    ("own", "said", "expected"),
    [
        ("/", {"/": 8 * MIB}, 8 * MIB),  # a container
        ("/docker/abc", {"/": 8 * MIB}, 8 * MIB),  # one that sees its own group only, under the name that it has outside
        ("/system.slice/flux.service", {"/system.slice/flux.service": 8 * MIB}, 8 * MIB),
        ("/slurm/uid_1/job_2/step_0", {"/slurm/uid_1/job_2": 8 * MIB, "/slurm/uid_1/job_2/step_0": None, "/slurm": 9 * MIB}, 8 * MIB),
        ("/slurm/uid_1/job_2/step_0", {"/slurm/uid_1/job_3": 8 * MIB, "/slurm/uid_1/job_2/step_0": 9 * MIB}, 9 * MIB),
        ("/../outside", {"/": 8 * MIB}, 8 * MIB),
    ],
)
def test_the_smallest_limit_of_its_own_groups_counts(limits, version, own, said, expected):
    limits(version, own, {group: limit or ABOVE[version] for group, limit in said.items()})
    assert main_memory() == this_machine().memory_bytes == expected
    assert available_memory() == this_machine().available_bytes == expected - MIB


@pytest.mark.parametrize("version", FILES)
@pytest.mark.parametrize("said", [(), ("/",), ("/", "/a", "/a/b")], ids=len)
def test_without_a_limit_it_is_what_the_machine_has(limits, version, said):
    limits(version, "/a/b", dict.fromkeys(said, ABOVE[version]))
    assert main_memory() == psutil.virtual_memory().total
    assert available_memory() > MIB


def test_a_system_without_control_groups_has_no_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "CGROUP_ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(cgroups, "OWN_GROUPS", tmp_path / "nothing")
    assert main_memory() == psutil.virtual_memory().total


def test_a_system_that_does_not_say_its_memory_counts_as_0(monkeypatch):
    def hidden():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert main_memory() == 0
