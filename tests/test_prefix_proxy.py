"""The page behind a proxy, under a path: the README's snippets are read, and a proxy that does what they say is put before the page."""

import asyncio
import http.client
import re
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn

from flux_demo.maps.photo import MAX_BYTES
from tests.starting import free_port, started

README = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
ROOT_URL = re.search(r"^GRADIO_ROOT_PATH=(\S+) python app.py$", README, re.MULTILINE)[1]
UNITS = {"m": 2**20, "h": 3600}


def snippet(language):
    return re.search(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[1]


def read(text, end=r";|$"):
    """Blocks and directives of nginx's or Caddy's syntax: ``{"location /flux/": {"proxy_buffering": "off"}}``."""
    tree, open_blocks = {}, []
    for line in filter(None, map(str.strip, text.splitlines())):
        inside = open_blocks[-1] if open_blocks else tree
        if line == "}":
            open_blocks.pop()
        elif line.endswith("{"):
            open_blocks.append(inside.setdefault(line[:-1].strip(), {}))
        else:
            name, value = re.fullmatch(rf"(proxy_set_header \S+|\S+)\s+(.+?)(?:{end})", line).groups()
            inside[name] = value
    assert not open_blocks
    return tree


def nginx():
    """The path that is taken off, and the address behind it."""
    assert all(re.search(r"[;{}]$", line) for line in snippet("nginx").splitlines())
    ((where, said),) = read(snippet("nginx"), ";").items()
    assert said["proxy_buffering"] == "off" and said["proxy_http_version"] == "1.1"
    assert (said["proxy_set_header Host"], said["proxy_set_header X-Forwarded-For"]) == ("$host", "$proxy_add_x_forwarded_for")
    assert int(said["client_max_body_size"][:-1]) * UNITS[said["client_max_body_size"][-1]] >= MAX_BYTES
    assert int(said["proxy_read_timeout"][:-1]) * UNITS[said["proxy_read_timeout"][-1]] >= 1800
    target = urlsplit(said["proxy_pass"])
    assert target.path == "/"  # with the slash, nginx puts it in the place of the location's path
    return where.split()[1], target.netloc


def caddy():
    ((site, said),) = read(snippet("caddy"), "$").items()
    assert site == urlsplit(ROOT_URL).netloc
    path = urlsplit(ROOT_URL).path  # nginx sends from there to its location by itself
    assert said.pop("redir") == f"{path} {path}/"
    ((where, inside),) = said.items()
    ((target, options),) = inside.items()
    assert where.split()[0] == "handle_path" and options == {"flush_interval": "-1"}
    return where.split()[1].removesuffix("*"), target.split()[1]


class Stripping(BaseHTTPRequestHandler):
    """Takes a path off and passes the rest on, as it comes; whoever asks for the path without its slash is sent to the path."""

    protocol_version = "HTTP/1.1"

    def forward(self):
        if self.path == self.server.path.removesuffix("/"):
            self.send_response(302)
            self.send_header("Location", self.server.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if not self.path.startswith(self.server.path):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        host = self.headers["Host"].partition(":")[0]  # nginx's $host
        behind.request(self.command, self.path[len(self.server.path) - 1 :], body, headers | {"Host": host})
        answer = behind.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while part := answer.read1(65536):
            self.wfile.write(part)
            self.wfile.flush()
        self.close_connection = True

    do_GET = do_POST = do_HEAD = forward

    def log_message(self, *_):
        pass


@contextmanager
def proxy(path, behind):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stripping)
    server.path, server.behind, server.daemon_threads = path, behind, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_both_snippets_say_what_the_variable_says():
    assert nginx() == caddy() == (urlsplit(ROOT_URL).path + "/", "127.0.0.1:7860")


@pytest.mark.parametrize(("trusted", "seen"), [(None, "10.0.0.5"), ("10.0.0.5", "192.0.2.1"), ("10.0.0.0/24", "192.0.2.1")])
def test_a_proxy_elsewhere_is_trusted_once_the_variable_names_it(trusted, seen, monkeypatch):
    """Uvicorn's own variable, which Gradio leaves to it."""
    (name,) = set(re.findall(r"`(FORWARDED_\w+)`", README))
    monkeypatch.setenv(name, trusted) if trusted else monkeypatch.delenv(name, raising=False)
    addresses = []

    async def page(scope, receive, send):
        addresses.append(scope["client"][0])

    config = uvicorn.Config(page, log_config=None)
    config.load()
    scope = {"type": "http", "client": ("10.0.0.5", 1), "headers": [(b"x-forwarded-for", b"192.0.2.1")]}
    asyncio.run(config.loaded_app(scope, None, None))
    assert addresses == [seen]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_works_behind_such_a_proxy(tmp_path):
    from gradio_client import Client

    path, _ = nginx()
    port = free_port()
    with proxy(path, f"127.0.0.1:{port}") as origin:
        root = ROOT_URL.replace(f"https://{urlsplit(ROOT_URL).netloc}", origin)
        with started("--port", str(port), "--outputs", str(tmp_path), GRADIO_ROOT_PATH=root) as (_, address, _lines):
            assert address == f"http://127.0.0.1:{port}/"
            client = Client(root, verbose=False, download_files=str(tmp_path / "client"))
            image, recipe = client.predict("a red cube", size="128x128", steps=1, api_name="/text")
            assert Path(image).is_file() and recipe["steps"] == 1
            page = urllib.request.urlopen(root, timeout=30).read().decode()
            assert f'"root":"{root}"' in page.replace('": "', '":"')
