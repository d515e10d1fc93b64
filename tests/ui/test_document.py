"""The HTML document: our script comes before Gradio's, and a link to the page is previewed in our words."""

import re

import httpx
import pytest

from flux_demo.ui.document import DESCRIPTION, Document
from flux_demo.ui.page import TITLE
from tests.ui.driving import finished

GRADIOS = b'<html><head><meta property="og:title" content="Gradio" /><script src="g.js"></script></head><body><gradio-app></gradio-app></body></html>'


@pytest.mark.parametrize("accepted", ["gzip, br", "identity"])
def test_the_document_begins_with_our_words_and_our_script(address, accepted):
    answer = httpx.get(address, headers={"accept-encoding": accepted}, trust_env=False, timeout=30)
    head = answer.text.partition("</head>")[0]
    assert re.findall(r"<title>(.*?)</title>", head) == [TITLE]
    previewed = dict(re.findall(r'<meta property="(.*?)" content="(.*?)">', head))
    assert previewed == {"og:title": TITLE, "og:description": DESCRIPTION, "og:type": "website", "twitter:card": "summary"}
    assert len(re.findall(r"<meta[^>]*\b(?:og|twitter):", head)) == len(previewed)
    ours, gradios, module = (head.find(part) for part in ("doneWhileOpening", "gradio_config", 'type="module"'))
    assert 0 < ours < gradios < module
    assert answer.text[-20:].rstrip().endswith("</html>")


ACCEPTED = {
    "gzip, br": True,
    "br;q=1.0, GZIP ; q=0.05, *;q=0.1": True,
    "br,gzip;q=1": True,
    "identity": False,
    "gzip;q=0": False,
    "br, gzip; q=0.000, deflate": False,
    "notgzip": False,
}


def test_the_document_is_compressed_where_that_can_be_read(address):
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as web:
        sizes = {}
        for accepted, compressed in ACCEPTED.items():
            with web.stream("GET", "", headers={"accept-encoding": accepted}) as answer:
                sizes[accepted] = len(b"".join(answer.iter_raw()))
                assert sizes[accepted] == int(answer.headers["content-length"]) and "accept-encoding" in answer.headers["vary"].lower()
                assert answer.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert sizes["gzip, br"] < 0.3 * sizes["identity"]


def answered(kind, *bodies):
    """What arrives of a document that comes in these parts."""
    sent = []

    async def app(scope, receive, send):
        length = str(sum(map(len, bodies))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), (b"content-length", length)]})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    async def keep(message):
        sent.append(message)

    finished(Document(app, "A & B", "first()")({"type": "http", "headers": []}, None, keep))
    start, *parts = sent
    return dict(start["headers"]), b"".join(part["body"] for part in parts)


def test_the_length_is_that_of_the_changed_document():
    headers, body = answered(b"text/html; charset=utf-8", GRADIOS[:200], GRADIOS[200:])
    assert int(headers[b"content-length"]) == len(body)
    assert b"<title>A &amp; B</title>" in body and body.index(b"first()") < body.index(b"g.js") and b"Gradio" not in body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", GRADIOS),
        (b"text/html", b"<head></head> of another page"),
        (b"text/html", b""),
        (b"text/html", b"<gradio-app>"),
    ],
)
def test_everything_else_is_left_as_it_is(kind, body):
    headers, arrived = answered(kind, body)
    assert arrived == body and int(headers[b"content-length"]) == len(body)
