"""The service in a process of its own, as ``make serve`` starts it."""

import base64
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"prompt": "a red cube on grass", "width": 128, "height": 128, "steps": 1, "seed": 7}
LONG = SMALL | {"width": 256, "height": 256, "steps": 100}
QUEUE = 3


@contextmanager
def process(*command, until):
    """A process with what it has printed until a line matches; at the end it is sent SIGTERM and must end by itself."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "RAY_USAGE_STATS_ENABLED": "0"}
    running = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    try:
        for line in running.stdout:
            said.append(line)
            if re.match(until, line):
                break
        else:
            pytest.fail("it ended before it ran: " + "".join(said[-20:]))
        threading.Thread(target=lambda: said.extend(running.stdout), daemon=True).start()
        yield running
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=90) == 0
    finally:
        for child in psutil.Process(running.pid).children(recursive=True) if running.poll() is None else ():
            child.kill()
        running.kill()


class Running:
    def __init__(self, port, pid):
        self.url = f"http://127.0.0.1:{port}"
        self.pid = pid
        self.client = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def infer(self, **values):
        return httpx.post(f"{self.url}/v1/infer", json=SMALL | values, timeout=300, trust_env=False)

    def together(self, count, **values):
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda number: self.infer(**values | {"seed": number + 1}), range(count)))

    def copies(self):
        """The processes of the models."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if is_copy(child)]


def is_copy(process):
    try:
        return "Generator" in " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


def image_in(answer):
    (artifact,) = answer.json()["artifacts"]
    assert artifact["finishReason"] == "SUCCESS"
    return Image.open(BytesIO(base64.b64decode(artifact["base64"], validate=True)))


def address(picture):
    file = BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
