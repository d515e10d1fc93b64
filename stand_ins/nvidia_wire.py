"""A server on loopback that keeps every request as it arrived and sends answers byte for byte, broken ones too."""

import json
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


@dataclass
class Reply:
    """An answer, byte for byte."""

    status: int = 200
    body: Any = b""  # bytes unchanged, text as text, anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    delay_s: float = 0.0  # before the first byte
    cut: int | None = None  # the connection is cut after this many bytes of the body
    drip_s: float = 0.0  # pause after each byte of the body


@dataclass(frozen=True)
class Recorded:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    port: int  # the client's: the same for two requests over one connection

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One port. ``answer`` makes the reply to a request; by default the next of the queued ``replies``."""

    def __init__(self, port: int = 0):
        self.replies: deque[Reply] = deque()
        self.requests: list[Recorded] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (_Handler,), {"wire": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.port = self._server.server_port
        self.origin = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: Recorded) -> Reply:
        return self.replies.popleft() if self.replies else Reply()

    def speak_tls(self, certificate: Path, secret: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, secret)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def posts(self) -> list[Recorded]:
        return [request for request in self.requests if request.method == "POST"]


class _Handler(BaseHTTPRequestHandler):
    wire: Wire
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Recorded(self.command, self.path, headers, body, self.client_address[1])
        self.wire.requests.append(request)
        self._send(self.wire.answer(request))

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def _send(self, reply: Reply) -> None:
        body, kind = reply.body, reply.content_type
        if isinstance(body, str):
            body, kind = body.encode(), kind or "text/plain; charset=utf-8"
        elif not isinstance(body, bytes):
            body, kind = json.dumps(body).encode(), kind or "application/json"
        if reply.delay_s:
            self.wire.closing.wait(reply.delay_s)
        head = {"Date": formatdate(time.time(), usegmt=True), "Content-Length": str(len(body)), **reply.headers}
        if kind:
            head["Content-Type"] = kind
        self.send_response_only(reply.status)
        for name, value in head.items():
            self.send_header(name, value)
        try:
            self.end_headers()
            if reply.drip_s:
                for at in range(len(body)):
                    self.wfile.write(body[at : at + 1])
                    self.wfile.flush()
                    if self.wire.closing.wait(reply.drip_s):
                        break
            else:
                self.wfile.write(body if reply.cut is None else body[: reply.cut])
            self.wfile.flush()
        except OSError:  # the client is free to leave
            self.close_connection = True
        if reply.cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
