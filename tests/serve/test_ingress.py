"""The ingress, without a service behind it."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi.testclient import TestClient

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
        answer = asyncio.run(serve_ingress.Service.metrics(None))
    assert answer.body == b"ray_serve_replicas 2\n"
