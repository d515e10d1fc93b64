import shutil
from importlib.util import find_spec

import pytest

from flux_demo.settings import ASSETS
from tests.serve.running import QUEUE, ROOT, Running, process
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
def service(tmp_path_factory):
    """The service, of a copy of the program that a test may break."""
    folder, port = tmp_path_factory.mktemp("program"), free_port()
    shutil.copytree(ROOT / "flux_demo", folder / "flux_demo")
    (folder / "assets").symlink_to(ASSETS, target_is_directory=True)
    words = ("--port", str(port), "--replicas", "2", "--backend", "mini", "--queue", str(QUEUE))
    with process("-m", "flux_demo.serve", *words, until="Running on http", folder=folder) as running:
        yield Running(port, running, folder)
