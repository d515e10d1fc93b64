"""The page's HTML document: Gradio's, with our script before all of Gradio's, and with our own words where a link to the page is previewed.

It holds the texts of all languages and every component's properties, 600 KB, and no browser keeps it. Gradio compresses only what has a file's name.
"""

import gzip
import re
from html import escape
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

Message = dict[str, Any]

DESCRIPTION = "Images from text, edges and depth: on your own GPU, from NVIDIA, or on any laptop."
LEVEL = 4  # of gzip's 9: a fifth of the size in 5 ms; 9 takes 13 ms and saves another hundredth
TAKES_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:$|,|;\s*q=(?:1|0?\.0*[1-9]))", re.IGNORECASE)  # q=0 refuses it
PREVIEWED = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')  # Gradio's: its own name, and an image from another host


class Document:
    """ASGI middleware that puts ``script`` and our words first into the head of Gradio's document, compresses that where the browser
    takes it, and leaves everything else as it is.
    """

    def __init__(self, app: Any, title: str, script: str) -> None:
        self.app = app
        words = {"og:title": title, "og:description": DESCRIPTION, "og:type": "website", "twitter:card": "summary"}
        metas = [f'<meta property="{name}" content="{escape(value)}">' for name, value in words.items()]
        self._head = "\n".join(["<head>", f"<title>{escape(title)}</title>", *metas, f"<script>{script}</script>"]).encode()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        start: Message | None = None

        async def change(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_html(message):
                start = message
                return
            if start is not None:
                given = message.get("body", b"")
                body = self._changed(given)
                headers = MutableHeaders(scope=start)
                if body is not given and not message.get("more_body") and "content-encoding" not in headers:
                    headers.add_vary_header("Accept-Encoding")
                    if TAKES_GZIP.search(Headers(scope=scope).get("accept-encoding", "")):
                        headers["content-encoding"] = "gzip"
                        body = gzip.compress(body, LEVEL, mtime=0)
                if "content-length" in headers:
                    headers["content-length"] = str(int(headers["content-length"]) + len(body) - len(given))
                await send(start)
                message, start = message | {"body": body}, None
            await send(message)

        await self.app(scope, receive, change)

    def _changed(self, body: bytes) -> bytes:
        if b"<gradio-app" not in body:
            return body
        before, opened, after = body.partition(b"<head>")
        head, closed, rest = after.partition(b"</head>")
        return b"".join((before, self._head, PREVIEWED.sub(b"", head), closed, rest)) if opened and closed else body


def _is_html(start: Message) -> bool:
    return MutableHeaders(scope=start).get("content-type", "").startswith("text/html")
