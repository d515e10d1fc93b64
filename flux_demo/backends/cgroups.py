"""The limits that Linux sets on the main memory of this process: those of its container, its systemd unit, its job on a cluster.

A process is in one control group (cgroup) of version 2, or in one for memory of version 1, and in all the groups around that: each has a
limit of its own. In a container its own group usually looks like the outermost one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

OWN_GROUPS = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryLimit:
    limit_bytes: int
    free_bytes: int  # of it, what can be taken now; what the system caches of files counts as free


@dataclass(frozen=True)
class _Version:
    """The file names of one version of cgroups."""

    folder: str
    limit: str
    usage: str
    cached: tuple[str, str]  # in memory.stat


V1 = _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))
V2 = _Version("", "memory.max", "memory.current", ("active_file", "inactive_file"))


def memory_limits() -> Iterator[MemoryLimit]:
    """Every limit that holds for this process, from the outermost group to its own. None on other systems."""
    for version, path in _own_groups().items():
        folder = CGROUP_ROOT / version.folder
        for part in ("", *PurePosixPath(path).parts[1:]):
            folder /= part
            try:
                limit = int((folder / version.limit).read_text("ascii"))
            except (OSError, ValueError):  # no such group here, as a container sees its own only; or "max"
                continue
            yield MemoryLimit(limit, max(0, limit - _used(folder, version)))


def _own_groups() -> dict[_Version, str]:
    """The path of this process's group, in each version that there may be."""
    paths = {V2: "/", V1: "/"}
    try:
        lines = OWN_GROUPS.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return paths
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or "memory" in controllers.split(","):
            paths[V2 if number == "0" else V1] = path
    return paths


def _used(folder: Path, version: _Version) -> int:
    """Bytes that the group's processes hold; 0 where that cannot be read."""
    try:
        used = int((folder / version.usage).read_text("ascii"))
        counts = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        return used - sum(int(counts.get(name, 0)) for name in version.cached)
    except (OSError, ValueError):
        return 0
