"""The gate in front of everything that Gradio serves: it checks each request's host, path, size and speed.

What Gradio answers without our handlers is put in words here, and nothing that it raises reaches the log with what people typed.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from gradio.route_utils import FnIndexInferError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from flux_demo import folders
from flux_demo.maps.photo import MAX_BYTES
from flux_demo.ui import temporary
from flux_demo.ui.response import WORDS, Message, RequestRefused, Response, Send
from flux_demo.ui.sliding_sums import SlidingSums

Receive = Callable[[], Awaitable[Message]]

# What the page and its clients ask for, by the first part of the path. Gradio has more: deep links, which write what a stranger sent
# to disk and show it to others, a proxy, screen recordings, an editor.
ROOT = {
    "",
    "config",
    "assets",
    "static",
    "svelte",
    "theme.css",
    "favicon.ico",
    "robots.txt",
    "login",
    "login_check",
    "logout",
    "manifest.json",
}
API = {"info", "openapi.json", "app_id", "user", "token", "login_check", "startup-events", "theme.css", "upload", "upload_progress"}
API |= {"queue", "call", "run", "api", "cancel", "reset", "heartbeat", "file", "mcp"}
PREFIX = "gradio_api"

MAX_JSON = 256 * 2**10  # bytes: a prompt of 10,000 characters takes 120 KB where each is escaped twice
MAX_UPLOAD = MAX_BYTES + 64 * 2**10  # bytes: one photo and what a form puts around it
MAX_FILES = 4
MAX_AT_ONCE = {"address": 8, "all": 32}  # uploads, and as many calls of tools
RESERVE = 256 * 2**20  # bytes that uploads leave free on the disk of the temporary folder
MAX_AN_HOUR = 2 * 2**30  # bytes that an address uploads to a shared page, or sends to its tools
MIN_COUNTED_BYTES = 64 * 2**10  # bytes that each of them counts for: it takes a folder, too
MAX_FAILED_LOGINS = 10  # logins of one address in a minute
MAX_WAITING = 64  # events of one address in Gradio's queue
MAX_ADDRESS = 8_000  # characters of a path with its query
CHUNK_TIMEOUT_S = 20.0  # between two pieces of a body
MAX_BODY = {"json": MAX_JSON, "upload": MAX_UPLOAD, "mcp": 4 * 2**20}  # what the package mcp takes; a picture comes in base64
BODY_TIMEOUT_S = {"json": 30.0, "upload": 600.0, "mcp": 120.0}

TOO_MANY = {
    "upload": "Too many photos are being uploaded at the moment. Try again in a minute.",
    "mcp": "Too many tools are being called at the moment. Try again in a minute.",
}
NO_ROOM = "The disk for uploads is nearly full. Try again in an hour, or set GRADIO_TEMP_DIR to a folder on another disk."
TOO_MUCH = "Too much was uploaded from your network address. Try again in an hour."
TOO_MANY_FAILED_LOGINS = "There were too many failed logins from your network address. Try again in a minute."
TOO_LARGE = {"json": WORDS[413], "upload": WORDS[413], "mcp": "The call is too large. Send an image of at most 2.9 MiB."}

log = logging.getLogger("flux_demo.ui")


class Guard:
    """ASGI middleware around the served page."""

    def __init__(self, app: Any, page: Any) -> None:
        self.app, self.page = app, page
        self._under_way: dict[str, Counter[str]] = {kind: Counter() for kind in TOO_MANY}  # by address
        self._uploaded, self._wrong_logins = SlidingSums(3600.0), SlidingSums(60.0)
        page.listeners.watched = True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # Gradio has no websockets
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._respond(scope, receive, send)

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        own_words = (
            [*WORDS] if "login" in scope["path"] else [500] if f"/{PREFIX}/run/" in scope["path"] else []
        )  # Gradio has words for them
        response = Response(send, self.page.hosts.framed_by, own_words, immutable=_is_immutable(scope["path"]))
        listened = _listened(scope)
        try:
            self._check(scope)
            kind = _kind(scope)
            address = self.page.address_of(HTTPConnection(scope))
            is_login = kind == "json" and scope["path"].rstrip("/").endswith("/login")
            if is_login:
                self._check_login(address)
            if kind in TOO_MANY:
                self._reserve_slot(scope, kind, address)
            try:
                self.page.listeners.opened(listened) if listened else None
                await self.app(scope, body_of(scope, receive, kind, response) if kind else receive, response.send)
            finally:
                self.page.listeners.closed(listened) if listened else None
                if is_login and response.status != 400:
                    self._wrong_logins.add(address, -1)
                if kind in TOO_MANY:
                    self._under_way[kind] -= Counter([address])  # drops those that are zero
        except RequestRefused as refusal:
            response.refusal = refusal
        except FnIndexInferError:
            response.refusal = RequestRefused(404, WORDS[404])
        except Exception as error:
            if response.refusal is None:
                log.error("%s at %s", type(error).__name__, _loggable_path(scope))
        await response.finish()

    def _check(self, scope: Message) -> None:
        """Raise RequestRefused for a request that is not for this page, or asks for what it does not serve."""
        headers, hosts = Headers(scope=scope), self.page.hosts
        given = headers.getlist("host")
        server = scope.get("server") or (None, None)
        if len(given) != 1 or not hosts.serves(given[0], server[0]):
            raise RequestRefused(
                403, "This page is not served under that name. Open it at its own address, or add this name to FLUX_DEMO_HOSTS."
            )
        if any(not hosts.takes(origin, given[0]) for origin in headers.getlist("origin")):
            raise RequestRefused(403, "Pages of other sites may not call this one. Open it directly, or name the site in FLUX_DEMO_HOSTS.")
        path = scope["path"]
        if len(path) + len(scope.get("query_string", b"")) > MAX_ADDRESS:
            raise RequestRefused(414, "This address is too long. Open it without the query, or send the values in the request's body.")
        parts = path.strip("/").split("/")
        if scope.get("root_path") and path.startswith(scope["root_path"]):
            parts = path[len(scope["root_path"]) :].strip("/").split("/")
        first = parts[0] if parts[0] != PREFIX else (parts[1] if len(parts) > 1 else "").partition("=")[0]
        if first not in (API if parts[0] == PREFIX else ROOT) or (first == "file" and "://" in path) or _is_fetched(path):
            raise RequestRefused(404, WORDS[404])
        if first == "mcp":
            self._check_mcp(scope)
        _forget_deep_link(scope)
        if scope["method"] == "POST" and first in ("queue", "call", "run", "api"):
            self._check_waiting(scope)

    def _check_mcp(self, scope: Message) -> None:
        """Of Gradio's MCP server only calls are served: no streams that stay open, no page that repeats headers. It knows no login."""
        if self.page.auth:
            raise RequestRefused(403, "MCP is not available on a page with a login. Use the API with the user's name and password.")
        if scope["path"].rstrip("/").rpartition("/")[2] != "mcp":
            raise RequestRefused(404, WORDS[404])
        if scope["method"] != "POST":
            raise RequestRefused(405, "MCP is served over streamable HTTP. Send POST requests to /gradio_api/mcp/.")

    def _check_waiting(self, scope: Message) -> None:
        """Raise RequestRefused when an address has many events in Gradio's queue already, which all visitors share."""
        address, queues = self.page.address_of(HTTPConnection(scope)), self.page._queue.event_queue_per_concurrency_id.values()
        if sum(self.page.address_of(event.request) == address for queue in queues for event in queue.queue) >= MAX_WAITING:
            raise RequestRefused(429, "You have too many requests waiting. Wait until some of them are answered.")

    def _check_login(self, address: str) -> None:
        """Count a login as a wrong one, until it turns out to be right: many may be under way at once."""
        if self._wrong_logins.sum(address) >= MAX_FAILED_LOGINS:
            raise RequestRefused(429, TOO_MANY_FAILED_LOGINS, retry_after_s=60)
        self._wrong_logins.add(address, 1)

    def _reserve_slot(self, scope: Message, kind: str, address: str) -> None:
        places = self._under_way[kind]
        if places[address] >= MAX_AT_ONCE["address"] or places.total() >= MAX_AT_ONCE["all"]:
            raise RequestRefused(429, TOO_MANY[kind])
        to_come = sum(MAX_BODY[each] * under_way.total() for each, under_way in self._under_way.items())
        free = folders.free_bytes(self.page.folder)
        if free is not None and free < RESERVE + to_come:
            raise RequestRefused(503, NO_ROOM)
        if self.page.settings.public:
            length = int(Headers(scope=scope).get("content-length") or MAX_BODY[kind])  # a body that does not say it counts as the longest
            counted = max(MIN_COUNTED_BYTES, min(length, MAX_BODY[kind]))
            if self._uploaded.sum(address) + counted > MAX_AN_HOUR:
                raise RequestRefused(429, TOO_MUCH, retry_after_s=3600)
            self._uploaded.add(address, counted)
        temporary.make_again(self.page.folder)
        places[address] += 1


def body_of(scope: Message, receive: Receive, kind: str, response: Response) -> Receive:
    """``receive`` with a limit of bytes, of files and of time; whatever is beyond it raises RequestRefused and is the response."""
    limit, headers = MAX_BODY[kind], Headers(scope=scope)
    boundary = _boundary(headers.get("content-type", "")) if kind == "upload" else b""
    began = time.monotonic()
    count, parts, tail, whole = 0, 0, b"", False

    def refuse(status: int, sentence: str) -> RequestRefused:
        response.refusal = RequestRefused(status, sentence)
        return response.refusal

    if int(headers.get("content-length") or 0) > limit:
        raise refuse(413, TOO_LARGE[kind])

    async def limited() -> Message:
        nonlocal count, parts, tail, whole
        if whole:
            return await receive()  # waits for the end of the connection, however long that takes
        left = began + BODY_TIMEOUT_S[kind] - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(CHUNK_TIMEOUT_S, left)))
        except TimeoutError:
            raise refuse(408, "The request came too slowly. Send it again over a better connection.") from None
        if message["type"] == "http.disconnect":
            raise refuse(400, WORDS[400])
        body = message.get("body", b"")
        count += len(body)
        whole = not message.get("more_body", False)
        if boundary:
            seen = tail + body
            parts += seen.count(boundary)
            tail = seen[-(len(boundary) - 1) :]
        if count > limit:
            raise refuse(413, TOO_LARGE[kind])
        if parts > MAX_FILES + 1:  # the last boundary ends the form
            raise refuse(413, f"The form has too many parts. Send at most {MAX_FILES} files at a time.")
        return message

    return limited


def _kind(scope: Message) -> str | None:
    """What kind of body a request has: an upload, a call of a tool, other JSON, or none."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return None
    path = scope["path"].rstrip("/")
    return "upload" if path.endswith(f"/{PREFIX}/upload") else "mcp" if path.endswith(f"/{PREFIX}/mcp") else "json"


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(content_type)
    return b"--" + options[b"boundary"] if options.get(b"boundary") else b""


def _listened(scope: Message) -> str | None:
    """The session or event whose answers this request waits for."""
    if scope["method"] != "GET":
        return None
    parts = scope["path"].strip("/").split("/")
    if parts[-2:] == ["queue", "data"]:
        return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("session_hash")
    return parts[-1] if "call" in parts[:-2] else None


def _is_immutable(path: str) -> bool:
    """Whether it is a file of Gradio's frontend, which has the hash of what is in it in its name."""
    return "/assets/" in path and PREFIX not in path


def _is_fetched(path: str) -> bool:
    """Whether Gradio would fetch an address from the network for this path."""
    _, _, file = path.partition("/file=")
    return file.lower().lstrip("/").startswith(("http:", "https:", "ftp:", "//"))


def _forget_deep_link(scope: Message) -> None:
    """A link to somebody else's values opens the plain page."""
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if any(name == "deep_link" for name, _ in query):
        scope["query_string"] = urlencode([(name, value) for name, value in query if name != "deep_link"]).encode()


def _loggable_path(scope: Message) -> str:
    """The path's first parts, for the log: what follows may name files."""
    return "/".join(scope["path"].split("/")[:3])[:60].partition("=")[0]
