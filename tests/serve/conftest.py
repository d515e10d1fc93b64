from importlib.util import find_spec

import pytest

from tests.serve.running import QUEUE, Running, process
from tests.starting import free_port

MARKS = [
    pytest.mark.serve,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-serve.txt"),
    pytest.mark.timeout(900),  # Ray and two replicas of the models start on a machine of two processors
]


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/serve/" in item.path.as_posix():
            for mark in MARKS:
                item.add_marker(mark)


@pytest.fixture(scope="package")
def service():
    port = free_port()
    words = ("--port", str(port), "--replicas", "2", "--backend", "mini", "--queue", str(QUEUE))
    with process("-m", "flux_demo.serve", *words, until="Running on http") as running:
        yield Running(port, running.pid)
