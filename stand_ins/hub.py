"""A Hugging Face Hub on loopback: as much of it as huggingface_hub uses to list, measure and download files.

with Hub({"someone/model": {"config.json": b"{}"}}) as hub:
    ...  # HF_ENDPOINT=hub.url, set before huggingface_hub is imported
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40
LARGE = 1000  # bytes; from here on a file counts as large and is identified by its SHA-256


class Hub:
    """Serves models from memory. ``asked`` lists every request as (method, path)."""

    def __init__(self, models: Mapping[str, Mapping[str, bytes]], gated: tuple[str, ...] = (), token: str | None = None) -> None:
        self.models = {name: dict(files) for name, files in models.items()}
        self.gated = gated  # models that need the token
        self.token = token
        self.expired: str | None = None  # a token that is no longer good for anything
        self.without_permission: str | None = None  # a token that may not read gated models, though its account may
        self.cut_after: dict[str, int] = {}  # file -> bytes after which the connection breaks, once
        self.error: int | None = None  # the status of every answer
        self.garbled = False  # what is listed is said to be compressed, and is not
        self.slow_s = 0.0  # pause before each 16 KiB of a file
        self.signed = False  # files are fetched by links, of which each works once: an answer that breaks off is a link that has expired
        self.sent = 0  # bytes of files
        self.requests: list[tuple[str, str]] = []
        self.links: dict[str, tuple[str, str]] = {}  # path -> model and file
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, certificate: Path, secret: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, secret)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http://", "https://")

    def downloads(self) -> list[str]:
        """The files whose bytes were requested, in order."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for method, path in self.requests if method == "GET" and "/resolve/" in path]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if len(content) >= LARGE else blob_id(content)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/")
        self.hub.requests.append((self.command, path))
        if self.hub.error:
            self._refuse(self.hub.error, "", "The Hub is out of order")
        elif path.startswith("api/models/"):
            self._describe(path.removeprefix("api/models/"), parse_qs(url.query))
        elif "/resolve/" in path:
            name, _, rest = path.partition("/resolve/")
            if self._allowed(name):
                (self._send_link if self.hub.signed else self._send_file)(name, rest.partition("/")[2])
        elif path.startswith("signed/") and "Authorization" in self.headers:
            self._refuse(400, "", "A token that is not for this host")
        elif path in self.hub.links:
            self._send_file(*self.hub.links.pop(path))
        elif path.startswith("signed/"):
            self._refuse(403, "", "Request has expired")
        else:
            self._refuse(404, "", "Nothing here")

    def log_message(self, *_: object) -> None:
        pass

    def _allowed(self, name: str) -> bool:
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if sent and sent == self.hub.expired:
            self._refuse(401, "", f"User Access Token {sent!r} is expired")
        elif sent and sent == self.hub.without_permission and name in self.hub.gated:
            self._refuse(403, "", "Please enable access to public gated repositories in your fine-grained token settings")
        elif name not in self.hub.models:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo", "Access to this model is restricted")
        else:
            return True
        return False

    def _describe(self, path: str, query: Mapping[str, list[str]]) -> None:
        name = "/".join(path.split("/")[:2])
        if not self._allowed(name):
            return
        files = self.hub.models[name]
        if path.removeprefix(name).startswith("/tree/"):
            self._send_json([self._entry(file, content) for file, content in files.items()])
        else:
            siblings = [{"rfilename": file, **(self._sizes(content) if "blobs" in query else {})} for file, content in files.items()]
            self._send_json({"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})

    def _sizes(self, content: bytes) -> dict[str, Any]:
        sizes: dict[str, Any] = {"size": len(content), "blobId": blob_id(content)}
        if len(content) >= LARGE:
            sizes["lfs"] = {"sha256": etag(content), "size": len(content), "pointerSize": 134}
        return sizes

    def _entry(self, file: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": file, "size": len(content), "oid": blob_id(content)}
        if len(content) >= LARGE:
            entry["lfs"] = {"oid": etag(content), "size": len(content), "pointerSize": 134}
        return entry

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.hub.garbled:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send_link(self, name: str, file: str) -> None:
        content = self.hub.models[name].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        link = f"signed/{uuid.uuid4()}"
        self.hub.links[link] = name, file
        self.send_response(302)
        self.send_header("Location", f"{self.hub.url.replace('127.0.0.1', 'localhost')}/{link}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-ETag", f'"{etag(content)}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, name: str, file: str) -> None:
        content = self.hub.models[name].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").partition("-")[0] or 0) if wanted.startswith("bytes=") else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag(content)}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self._send_slowly(content[start:], self.hub.cut_after.pop(file, None))

    def _send_slowly(self, content: bytes, cut_after: int | None) -> None:
        for at in range(0, len(content), 16384):
            time.sleep(self.hub.slow_s)
            if cut_after is not None and at + 16384 > cut_after:
                self.wfile.write(content[at:cut_after])
                self.hub.sent += cut_after - at
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            try:
                self.wfile.write(content[at : at + 16384])
                self.hub.sent += len(content[at : at + 16384])
            except OSError:  # the client has left
                return

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
