"""One connection to one of NVIDIA's services: sending, waiting, retrying, polling. Does not look into the bodies.

httpx runs in an event loop on a thread of its own, because a wait must be stoppable at once: ten times a second the caller's thread
reports what it is waiting for, and when that report raises, the request is cancelled and its connection closed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import re
import ssl
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast
from urllib.parse import urljoin, urlsplit

from flux_demo.backends.nvidia.errors import Service
from flux_demo.backends.nvidia.keep_alive import keep_alive
from flux_demo.backends.nvidia.pace import (
    MAX_CONNECTIONS,
    MAX_RETRY_AFTER_S,
    RETRY_STATUSES,
    START_OVER,
    Pace,
    Waiting,
    in_words,
    pause_before_retry,
)
from flux_demo.background import HEARTBEAT_S
from flux_demo.environment import through_proxy
from flux_demo.errors import BackendUnavailable, ConnectionLost, GenerationFailed, NoConnection, Unreachable, causes
from flux_demo.progress import OnStatus, Phase, Status
from flux_demo.texts import Text

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

BROKEN_NETWORK_SETTINGS = (
    "This machine's proxy or certificates cannot be used. "
    "Correct HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR, or unset them, and restart."
)
MAX_BODY = 32 * 2**20  # bytes; the largest PNG in base64 is 7.3 MB
MAX_REDIRECTS = 3


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Connection:
    """One httpx client, kept open between requests, on a thread that ends with this object."""

    def __init__(self, service: Service, pace: Pace, *, proxies: bool) -> None:
        import httpx

        self.service = service
        self.pace = pace
        self._proxies = proxies
        try:
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(pace.read, connect=pace.connect),
                # A check whether the service is alive goes along with each run.
                limits=httpx.Limits(max_connections=2 * MAX_CONNECTIONS, max_keepalive_connections=2, keepalive_expiry=30.0),
                headers={"Accept-Encoding": "identity"},  # images do not compress, and a small body cannot unpack to a huge one
                follow_redirects=False,  # redirects are followed by hand: without the key, or not at all
                verify=httpx.create_ssl_context(),  # with the certificates of SSL_CERT_FILE
                trust_env=proxies,  # the proxies that a company's network needs
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:  # from proxies and certificates that cannot be used
            raise BackendUnavailable(BROKEN_NETWORK_SETTINGS) from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop, self._client), name="nvidia", daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, _stop, self._loop)

    def close(self) -> None:
        self._stop()
        self._thread.join(5)

    def run(self, work: Awaitable[T], on_wait: Callable[[], None], whole_s: float) -> T:
        """Wait up to ``whole_s`` seconds for the work, calling ``on_wait`` ten times a second; what that raises cancels the work."""
        future = asyncio.run_coroutine_threadsafe(self._within(work, whole_s), self._loop)
        try:
            while not concurrent.futures.wait([future], timeout=HEARTBEAT_S).done:
                on_wait()
            return future.result()
        finally:
            future.cancel()  # has no effect on finished work

    async def _within(self, work: Awaitable[T], whole_s: float) -> T:
        try:
            async with asyncio.timeout(whole_s):
                return await work
        except TimeoutError as error:
            raise Unreachable(f"{self.service.name} did not finish within {whole_s:g} seconds. {self.service.later}") from error

    def through(self, url: str) -> str:
        """How an address is reached, as a clause."""
        return through_proxy(url) if self._proxies else ""

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit: int = MAX_BODY,
        timeout_s: float | None = None,
    ) -> Response:
        """Make one call and read the whole body, whatever its status. Raises Unreachable, GenerationFailed for a body that is broken or too long."""
        import httpx

        timeout = self._client.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            async with self._client.stream(
                method, url, headers=headers, content=content, timeout=timeout, extensions={"trace": keep_alive}
            ) as response:
                body = bytearray()
                chunks = cast("AsyncGenerator[bytes]", response.aiter_bytes())  # httpx types it as an iterator, which has no aclose
                async with contextlib.aclosing(chunks):
                    async for chunk in chunks:
                        body += chunk
                        if len(body) > limit:
                            raise GenerationFailed(
                                f"{self.service.name} sent more than {limit // 2**20} MiB, which cannot be an image. {self.service.later}"
                            )
                return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, bytes(body))
        except httpx.ConnectTimeout as error:
            raise NoConnection(
                f"{self.service.name} did not accept a connection{self.through(url)} within {timeout.connect:g} seconds. "
                f"{self.service.check_connection}"
            ) from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.service.name} sent nothing for {timeout.read:g} seconds. {self.service.later}") from error
        except (httpx.ConnectError, httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: no host can have that name
            reasons = list(causes(error))
            if any(isinstance(reason, ssl.SSLCertVerificationError) for reason in reasons):
                raise Unreachable(self.service.unverified) from error
            if any(isinstance(reason, ssl.SSLError) for reason in reasons):
                raise Unreachable(f"The TLS handshake with {self.service.who}{self.through(url)} failed. {self.service.not_tls}") from error
            raise NoConnection(f"{self.service.name} cannot be reached{self.through(url)}. {self.service.check_connection}") from error
        except httpx.ProxyError as error:
            raise Unreachable(
                f"{self.service.name} cannot be reached{self.through(url)}, which refuses the connection. Correct the variable, or ask whoever runs the proxy."
            ) from error
        except httpx.DecodingError as error:  # compressed although it was not asked for, and broken
            raise GenerationFailed(
                f"{self.service.name} sent an answer that cannot be read: it is not compressed as it says. {self.service.later}"
            ) from error
        except httpx.HTTPError as error:
            raise ConnectionLost(
                f"The connection to {self.service.who} broke off before the answer was complete. {self.service.later}"
            ) from error

    def post(
        self,
        url: str,
        content: bytes,
        on_status: OnStatus,
        *,
        headers: Mapping[str, str] | None = None,
        poll_url: str | None = None,
        alive_url: str | None = None,
    ) -> Response:
        """Post one request and return its final answer, after whatever retries, polling and redirects to a large result it takes.

        ``alive_url`` is asked meanwhile; the request is given up when nothing has answered there for ``Pace.silence`` seconds.
        """
        waiting = Waiting(self.service)
        on_status(Status(Phase.WAITING, Text("Sending to {who}", who=Text(self.service.who))))
        work = self._post_until_answered(url, content, dict(headers or {}), poll_url, waiting)
        if alive_url:
            work = self._while_alive(work, alive_url)
        return self.run(work, lambda: on_status(Status(Phase.WAITING, waiting.sentence())), self.pace.whole)

    async def _while_alive(self, work: Coroutine[Any, Any, Response], alive_url: str) -> Response:
        doing, watching = asyncio.create_task(work), asyncio.create_task(self._watch(alive_url))
        try:
            await asyncio.wait([doing, watching], return_when=asyncio.FIRST_COMPLETED)
            return (doing if doing.done() else watching).result()
        finally:
            doing.cancel()
            watching.cancel()

    async def _watch(self, alive_url: str) -> Never:
        """Raise Unreachable when nothing has answered there for too long. Any answer will do: whatever is wrong ends the request itself."""
        answered_at = time.monotonic()
        while time.monotonic() - answered_at < self.pace.silence:
            await asyncio.sleep(self.pace.check_alive)
            try:
                await self.ask("GET", alive_url, timeout_s=self.pace.check_alive)
            except Unreachable:
                continue
            except GenerationFailed:  # it answers, if with a body that cannot be read
                pass
            answered_at = time.monotonic()
        raise Unreachable(
            f"{self.service.name} has not answered for {self.pace.silence:g} seconds, not even its health check. {self.service.later}"
        )

    async def _post_until_answered(
        self, url: str, content: bytes, headers: dict[str, str], poll_url: str | None, waiting: Waiting
    ) -> Response:
        retried = {*RETRY_STATUSES} if poll_url else {*RETRY_STATUSES} - {504}  # behind a proxy that gave up, a NIM is still at work
        retries = list(self.pace.retries)
        pending: str | None = None  # the id of a request that the gateway is working on
        while True:
            asked_at = time.monotonic()
            if pending:
                try:
                    response = await self.ask("GET", f"{poll_url}/{pending}", headers=headers)
                except Unreachable:
                    if not retries:
                        raise
                    response = Response(502, {}, b"")  # as a gateway would say that has lost the connection; the image is still there
            else:
                response = await self.ask("POST", url, content=content, headers={**headers, "Content-Type": "application/json"})
            if response.status == 202 and poll_url:
                pending = _request_id(response) or pending
                if pending is None:
                    raise GenerationFailed(
                        f"{self.service.name} accepted the request but did not say where the image will be. {self.service.later}"
                    )
                await asyncio.sleep(
                    asked_at + self.pace.between_polls - time.monotonic()
                )  # most polls are held longer by the gateway itself
            elif response.status in (302, 303) and poll_url:
                return await self._follow(url, response)
            elif response.status == 404 and pending:
                raise GenerationFailed(f"{self.service.name} no longer has the image: it is handed out only once. Generate it again.")
            elif response.status in retried and retries:
                pause_s = pause_before_retry(response.headers, retries.pop(0))
                if pause_s > MAX_RETRY_AFTER_S:
                    raise Unreachable(f"{self.service.name} is busy. Try again in {in_words(pause_s)}, when it accepts requests again.")
                waiting.retry = (RETRY_STATUSES[response.status], time.monotonic() + pause_s)
                await asyncio.sleep(pause_s)
                waiting.retry = None
                if response.status in START_OVER:
                    pending = None
            else:
                return response

    async def _follow(self, url: str, response: Response) -> Response:
        """Fetch a large result from the link in a response. It leads to another host, so the key is not sent; TLS is never left for HTTP."""
        here = url
        with contextlib.suppress(ValueError):  # an address whose host or port cannot be read
            for _ in range(MAX_REDIRECTS):
                target = urljoin(here, response.headers.get("location", ""))
                parts = urlsplit(target)
                may_follow = parts.scheme == "https" or (parts.scheme == "http" and urlsplit(url).scheme == "http")
                if target == here or parts.port == 0 or not may_follow:
                    break
                response = await self.ask("GET", target)
                if response.status == 200:
                    return response
                if response.status not in (301, 302, 303, 307, 308):
                    break
                here = target
        raise GenerationFailed(f"{self.service.name} gave a link to the image that does not work. Generate it again.")


def _request_id(response: Response) -> str | None:
    """The id of a pending request. It becomes part of an address, so anything that does not look like an id is ignored."""
    text = response.headers.get("nvcf-reqid", "")
    return text if re.fullmatch(r"[A-Za-z0-9-]{1,64}", text) else None


def _serve(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    """The connection's thread. It holds no reference to the Connection, which could otherwise never be collected."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # closed already
        loop.call_soon_threadsafe(loop.stop)
