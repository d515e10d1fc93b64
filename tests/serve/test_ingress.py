"""The ingress, without a service behind it."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from flux_demo.backends.diffusion import mini
from flux_demo.modes import MODES
from flux_demo.serve_schema import request_model
from tests.serve.running import SMALL
from tests.starting import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at its import


def test_an_error_that_nobody_expected_is_answered_in_json():
    """Here it is Serve's own, because this is no replica."""
    from flux_demo.serve_ingress import api

    answer = TestClient(api, raise_server_exceptions=False).post("/v1/infer", json={"prompt": "x"})
    assert answer.status_code == 500 and answer.json()["detail"].count(". ") == 1


class OfOneNode(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ray_serve_replicas 2\nray_node_disk 7\n")

    def log_message(self, *_):
        pass


def test_a_node_that_just_died_does_not_hide_the_metrics_of_the_others(monkeypatch):
    from flux_demo import serve_ingress

    with HTTPServer(("127.0.0.1", 0), OfOneNode) as node:
        threading.Thread(target=node.handle_request, daemon=True).start()
        ports = (free_port(), node.server_port)
        nodes = [{"Alive": True, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": port} for port in ports]
        monkeypatch.setattr(serve_ingress.ray, "nodes", lambda: nodes)
        answer = asyncio.run(serve_ingress.Ingress.metrics(None))
    assert answer.body == b"ray_serve_replicas 2\n"


class Replicas:
    """A handle to replicas that say of each image that it took 9 seconds."""

    def __init__(self):
        self.generate, self.go = self, asyncio.Event()

    async def remote(self, asked):
        await self.go.wait()
        return {"reason": "SUCCESS", "image": b"", "seed": 7, "said": {"seconds": "9.000"}}


@pytest.fixture
def ingress(settings, monkeypatch):
    """``ingress(replicas)``: an ingress of two replicas, with the mini's dials."""
    from flux_demo import serve_ingress

    status = {"x": SimpleNamespace(deployments={"Generator": SimpleNamespace(replica_states={"RUNNING": 2})})}
    monkeypatch.setattr(serve_ingress.serve, "get_replica_context", lambda: SimpleNamespace(app_name="x"))
    monkeypatch.setattr(serve_ingress.serve, "status", lambda: SimpleNamespace(applications=status))
    dials = {mode.nim: mini(settings).dials(mode).to_dict() for mode in MODES.values()}

    def ingress_(replicas):
        service = serve_ingress.Ingress.__bases__[0](replicas, queue=2)
        service._about, service._model = {"modes": dials}, request_model(dials, {}, 2, {})
        return service

    return ingress_


async def ask(service, kind="application/json"):
    async def receive():
        return {"type": "http.request", "body": json.dumps(SMALL).encode()}

    headers = [(b"content-type", kind.encode())] if kind else []
    return await service.infer(Request({"type": "http", "method": "POST", "headers": headers}, receive))


def test_json_that_is_not_called_json_is_refused_with_the_header_that_it_needs(ingress):
    async def answers(*kinds):
        replicas = Replicas()
        replicas.go.set()
        return [await ask(ingress(replicas), kind) for kind in kinds]

    for answer in asyncio.run(answers("application/x-www-form-urlencoded", "text/plain", None)):
        assert answer.status_code == 422 and "Content-Type: application/json" in json.loads(answer.body)["detail"][0]["msg"]
    for answer in asyncio.run(answers("application/vnd.api+json", "Application/JSON; charset=utf-8")):
        assert answer.status_code == 200


def test_a_full_queue_says_when_it_will_be_worked_off(ingress):
    """By the seconds of the images themselves, of the first one too, without those in the queue; and by the replicas that run now."""

    async def fill():
        replicas = Replicas()
        service = ingress(replicas)
        replicas.go.set()
        assert (await ask(service)).status_code == 200
        replicas.go = asyncio.Event()
        waiting = [asyncio.create_task(ask(service)) for _ in range(4)]
        await asyncio.sleep(0.1)
        refused = await ask(service)
        replicas.go.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 4
        return refused

    refused = asyncio.run(fill())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "18")
