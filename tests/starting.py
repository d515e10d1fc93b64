"""The app in a process of its own, for every test that starts it."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ports_of(pid: int) -> set[int]:
    """Those that a process and its children listen on."""
    own = psutil.Process(pid)
    connections = (each for process in (own, *own.children(recursive=True)) for each in process.net_connections())
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


@contextmanager
def started(*words: str, python: tuple[str, ...] = (), **environment: str):
    """The app in a process of its own, its address, and the lines that it printed until its page answered."""
    command = [sys.executable, *python, "app.py", "--backend", "mini", *words]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        try:
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                found = re.match(r"Running on (http://\S+)", line)
                if found:
                    yield process, found[1], lines
                    return
            pytest.fail("the app ended before its page answered: " + "".join(lines))
        finally:
            process.kill()


def answers(address: str) -> bool:
    with urllib.request.urlopen(address, timeout=30) as response:
        return response.status == 200


def refusal(*words: str, **environment: str) -> str:
    command = [sys.executable, "app.py", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    return done.stderr
