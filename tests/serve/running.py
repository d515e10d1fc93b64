"""The service in a process of its own, as ``make serve`` starts it."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"prompt": "a red cube on grass", "width": 128, "height": 128, "steps": 1, "seed": 7}
# Ray is told of a GPU, and of a processor more than two replicas take, so that a replica of FLUX is started beside them; and of another Ray,
# which is none of the service's business.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "NO_PROXY": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "127.0.0.1:9",
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 3, "GPU": 1}',
}
LONG = SMALL | {"width": 256, "height": 256, "steps": 100}
QUEUE = 2
NOT_REQUESTS = (
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"prompt": NaN}',
    b'{"prompt": 3, "seed": 1e999}',
    b'{"prompt": "x", "seed": [1e999]}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "x", "mode": "\\ud800"}',
)
NOT_PICTURES = (
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:9/x.png",
    "https://example.org/x.png",
    "data:image/png;example_id,0",
    "data:image/png;base64,%%%",
    "data:text/plain;base64,QUJD",
    "data:image/png;base64,QUJD",
    "",
)
UNREADY = """
import os, ray, sys
from flux_demo.errors import BackendUnavailable
from flux_demo.serve import check_gpus, deploy
from flux_demo.serve_schema import Options
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
check_gpus(Options("local"))
try:
    check_gpus(Options("local", "2"))
except BackendUnavailable as error:
    print(error, flush=True)
deploy(Options("local"), "unready", "/unready")
os._exit(0)
"""


@contextmanager
def process(*command, until, folder=ROOT):
    """A process once it has printed a line that matches, with the lines that it ``said``; at the end it is sent SIGTERM and must end by itself."""
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(folder)}
    running = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running.said = said = []
    try:
        for line in running.stdout:
            said.append(line)
            if re.match(until, line):
                break
        else:
            pytest.fail("it ended before it ran: " + "".join(said[-20:]))
        running.reader = threading.Thread(target=lambda: said.extend(running.stdout), daemon=True)
        running.reader.start()
        yield running
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=300) == 0
    finally:
        for child in psutil.Process(running.pid).children(recursive=True) if running.poll() is None else ():
            child.kill()
        running.kill()


class Running:
    def __init__(self, port, process, folder):
        self.url = f"http://127.0.0.1:{port}"
        self.process, self.pid, self.folder = process, process.pid, folder
        self.client = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def infer(self, **values):
        return httpx.post(f"{self.url}/v1/infer", json=SMALL | values, timeout=300, trust_env=False)

    def ask(self, **values):
        """A request whose answer nobody waits for; whoever closes the connection goes away."""
        connection = HTTPConnection(self.url.rpartition("/")[2])
        connection.request("POST", "/v1/infer", json.dumps(SMALL | values), {"Content-Type": "application/json"})
        return connection

    def together(self, count, **values):
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda number: self.infer(**values | {"seed": number + 1}), range(count)))

    def ray_address(self):
        """By which other programs use the same Ray."""
        words = [word for child in psutil.Process(self.pid).children(recursive=True) for word in words_of(child)]
        return next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))

    def start_unready(self):
        """Start FLUX, which has no files here, as an application of its own on the same Ray; what is said of more replicas than GPUs, and of FLUX."""
        environment = os.environ | ENVIRONMENT | {"RAY_AUTH_MODE": "token"}
        words = [sys.executable, "-c", UNREADY, self.ray_address()]
        done = subprocess.run(words, cwd=ROOT, env=environment, timeout=200, check=True, capture_output=True, text=True)
        return done.stdout, done.stderr

    def replicas(self):
        """The processes of the models."""
        return [
            child
            for child in psutil.Process(self.pid).children(recursive=True)
            if "ServeReplica:flux_demo:Generator" in " ".join(words_of(child))
        ]


def words_of(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def work_of(process):
    """The seconds of a processor that a process has had, which tell whether it works, however busy the machine is."""
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended meanwhile
        return 0.0
    return times.user + times.system


def image_in(answer):
    (artifact,) = answer.json()["artifacts"]
    assert artifact["finishReason"] == "SUCCESS"
    return Image.open(BytesIO(base64.b64decode(artifact["base64"], validate=True)))


def address(picture):
    file = BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
