"""Everything that goes wrong in a service for many, with the real parts on one machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve.running import LONG, QUEUE, ROOT, Running, image_in, process
from tests.test_app import free_port


def test_metrics_are_rays_own_and_prometheus_reads_them(service):
    from prometheus_client.parser import text_string_to_metric_families

    service.infer()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # Ray reports every few seconds
        names = {family.name for family in text_string_to_metric_families(service.client.get("/v1/metrics").text)}
        if any("serve" in name and "request" in name for name in names):
            return
        time.sleep(1)
    pytest.fail(f"no requests are counted: {sorted(names)[:20]}")


def test_a_full_queue_answers_429_with_when_to_come_back_and_loses_nothing(service):
    answers = service.together(2 + QUEUE + 3, **LONG | {"steps": 40})
    kinds = sorted(answer.status_code for answer in answers)
    assert set(kinds) == {200, 429} and kinds.count(200) >= 2 + QUEUE - 1
    for answer in answers:
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) < 600 and "Try again in" in answer.json()["detail"]
        else:
            assert image_in(answer).size == (256, 256)


def test_a_client_that_goes_away_frees_its_copy(service):
    began = time.monotonic()
    assert service.infer(**LONG | {"steps": 10}).status_code == 200
    one = (time.monotonic() - began) / 10  # seconds a step
    for _ in range(4):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{service.url}/v1/infer", json=LONG, timeout=1.0, trust_env=False)
    began = time.monotonic()
    assert service.infer().status_code == 200
    assert time.monotonic() - began < 30 * one, "it waited for images that nobody wants"


def test_a_copy_that_is_killed_under_load_loses_no_request_and_it_is_said(service):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(service.infer, **LONG | {"seed": seed}) for seed in (1, 2)]
        time.sleep(2)
        service.copies()[0].kill()
        answers = [job.result() for job in jobs]
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text[:200] for answer in answers]
    assert [answer.headers.get("x-flux-demo-retried") for answer in answers].count("once") == 1
    assert [image_in(answer).size for answer in answers] == [(256, 256)] * 2
    deadline = time.monotonic() + 120
    while len(service.copies()) < 2 and time.monotonic() < deadline:
        time.sleep(1)
    assert len(service.copies()) == 2, "the copy that died was not replaced"


def test_a_redeploy_under_load_loses_no_request(service):
    before = {copy.pid for copy in service.copies()}
    done, answers = threading.Event(), []

    def ask():
        while not done.is_set():
            answers.append(service.infer(steps=8))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(ask) for _ in range(2)]
        try:
            os.kill(service.pid, signal.SIGHUP)
            deadline = time.monotonic() + 200
            while before & {copy.pid for copy in service.copies()} and time.monotonic() < deadline:
                time.sleep(1)
        finally:
            done.set()
        for job in jobs:
            job.result()
    assert not before & {copy.pid for copy in service.copies()}, "the old copies are still there"
    assert {answer.status_code for answer in answers} == {200}, [answer.text[:200] for answer in answers if answer.status_code != 200]


def test_a_model_that_cannot_load_is_never_ready_and_says_why():
    """FLUX's files are not on this machine; Ray is told of a GPU, so that the copy is started all the same."""

    port = free_port()
    program = f"""
import os, signal, threading
from flux_demo.serve import start
from flux_demo.serve_schema import Options
start(Options("local"), "127.0.0.1", {port}, cpus=2, gpus=1)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())  # after Ray has set its own
print("started", flush=True)
stop.wait()
import ray
ray.shutdown()
os._exit(0)
"""
    with process("-c", program, until="started") as running:
        service = Running(port, running.pid)
        deadline = time.monotonic() + 60
        ready = service.client.get("/v1/health/ready")
        while "being loaded" in ready.json()["reason"] and time.monotonic() < deadline:
            time.sleep(1)
            ready = service.client.get("/v1/health/ready")
        assert ready.status_code == 503 and ready.json()["status"] == "not ready"
        assert "NVIDIA GPU" in ready.json()["reason"] or "fetch" in ready.json()["reason"]
        assert service.infer().status_code == 503 and service.infer().json()["detail"] == ready.json()["reason"]
        assert service.client.get("/v1/health/live").status_code == 200


@pytest.mark.parametrize(
    ("words", "sentence"), [(("--replicas", "0"), "not a number of replicas"), (("--backend", "local"), ". "), (("--queue", "0"), "queue")]
)
def test_what_cannot_be_served_is_said_at_the_start(words, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "flux_demo.serve", "--backend", "mini", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3 and sentence in done.stderr and "Traceback" not in done.stderr


def test_the_options_are_json():
    from flux_demo.serve_schema import Options

    assert Options(**json.loads(json.dumps(Options("mini", "1-4").to_dict()))).copies == (1, 4)
