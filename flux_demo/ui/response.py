"""What goes back for a request: Gradio's response with our headers, or a refusal in words."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.formparsers import MultiPartException

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

UNREADABLE = "The request cannot be read. Send JSON with a list named data, as /gradio_api/info describes it."
WORDS = {
    400: UNREADABLE,
    404: "There is nothing at this address. The page is at /, and /gradio_api/info lists the endpoints.",
    405: "This address does not take that kind of request. /gradio_api/info lists the endpoints.",
    413: "The request is too large. Send one photo of at most 32 MiB, or text of at most 256 KiB.",
    422: UNREADABLE,
    500: "The request could not be answered. Check the endpoint's name and its parameters against /gradio_api/info.",
    503: "Too many requests are waiting at the moment. Try again in a minute.",
}


class RequestRefused(MultiPartException):
    """Ends the reading of a body. Gradio's parser of uploads deletes its files at this kind of error, and only at this."""

    def __init__(self, status: int, sentence: str, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after_s = status, sentence, retry_after_s


class Response:
    """What goes back: with the headers that every page of ours has, and in words where Gradio has none."""

    def __init__(self, send: Send, framed_by: str, own_words: list[int], immutable: bool) -> None:
        self._send, self._own_words, self._immutable = send, own_words, immutable  # own_words: the statuses whose own words are good enough
        self.refusal: RequestRefused | None = None
        self.status: int | None = None  # Gradio's, once there is one
        self.started = self.ended = False
        self._headers = [(b"content-security-policy", f"frame-ancestors {framed_by}".encode()), (b"x-content-type-options", b"nosniff")]
        self._headers += [(b"referrer-policy", b"same-origin")]
        if framed_by == "'none'":
            self._headers.append((b"x-frame-options", b"DENY"))

    async def send(self, message: Message) -> None:
        """Pass a message of Gradio's on, unless it is the beginning of a response without words."""
        if message["type"] == "http.response.start" and not self.started:
            self.status = status = message["status"]
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            worded = status in self._own_words and kind.startswith(b"application/json")
            if self.refusal is None and status in WORDS and status != 503 and not worded:
                self.refusal = RequestRefused(status, WORDS[status])
            if self.refusal is not None:
                return
            caching = [(b"cache-control", b"public, max-age=31536000, immutable")] if self._immutable and status == 200 else []
            message = {**message, "headers": [*message.get("headers", ()), *self._headers, *caching]}
            self.started = True
        if self.refusal is not None and not self.started:
            return
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """Send the refusal if there is one, or end a response that broke off."""
        if self.ended:
            return
        if self.started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        refusal = self.refusal or RequestRefused(500, WORDS[500])
        body = json.dumps({"detail": refusal.sentence, "error": refusal.sentence}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *self._headers]
        if refusal.status in (408, 413, 429, 503):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        if refusal.retry_after_s:
            headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
