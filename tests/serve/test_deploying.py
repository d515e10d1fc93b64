"""Starting the service, deploying it anew, and ending it, each with a Ray of its own."""

import os
import shutil
import signal
import subprocess
import sys

import httpx

from flux_demo.settings import ASSETS
from tests.serve.running import ENVIRONMENT, ROOT, process
from tests.starting import free_port
from tests.waiting import wait_until


def test_more_replicas_than_gpus_are_refused_and_not_waited_for():
    program = f"""
import ray
from flux_demo.errors import BackendUnavailable
from flux_demo.serve import start
from flux_demo.serve_schema import Options
try:
    start(Options("local", "2"), port={free_port()})
except BackendUnavailable as error:
    print(error)
    ray.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert "Ray finds 1 here for 2" in done.stdout and done.stdout.rstrip(".\n").count(". ") == 1, done.stdout + done.stderr


def test_a_deployment_that_fails_is_said_and_neither_it_nor_one_under_way_keeps_the_service_from_ending(tmp_path):
    shutil.copytree(ROOT / "flux_demo", tmp_path / "flux_demo", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "assets").symlink_to(ASSETS, target_is_directory=True)
    port = free_port()
    words = ("-m", "flux_demo.serve", "--port", str(port), "--backend", "mini")
    with process(*words, until="Running on http", folder=tmp_path) as running:
        said = running.said
        (tmp_path / "flux_demo" / "serve_generator.py").write_text("raise ImportError")
        os.kill(running.pid, signal.SIGHUP)
        wait_until(lambda: any("Ray could not deploy" in line for line in said) or running.poll() is not None, 400)
        assert [line for line in said if "Ray could not deploy" in line] and not any("Traceback" in line for line in said), said
        assert httpx.get(f"http://127.0.0.1:{port}/v1/health/live", trust_env=False, timeout=60).status_code == 200
        os.kill(running.pid, signal.SIGHUP)  # the signal to end comes while this one is under way
