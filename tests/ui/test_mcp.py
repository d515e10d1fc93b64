"""The endpoints as tools, called by the Model Context Protocol's own client; and what a stranger may not do with them."""

import base64
import json
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from flux_demo.errors import InvalidPicture
from flux_demo.ui import guard
from flux_demo.ui.mcp import with_files
from tests.ui.conftest import SMALL
from tests.ui.driving import finished

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def with_tools(address, use, comes_from=None):
    """``await use(session)`` with a client that is connected, from one of this machine's own addresses."""

    async def connected():
        way = httpx.AsyncHTTPTransport(local_address=comes_from)
        async with (
            httpx.AsyncClient(transport=way, timeout=60) as web,
            streamable_http_client(f"{address}gradio_api/mcp", http_client=web) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await use(session)

    return finished(connected())


def said(answer):
    return " ".join(part.text for part in answer.content if part.type == "text")


def test_a_model_finds_the_tools_and_goes_from_a_photo_to_an_image(address, studio, photo, photo_file):
    uri = f"data:image/png;base64,{base64.b64encode(photo_file.read_bytes()).decode()}"

    async def use(session):
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"text", "canny", "depth", "canny_map", "depth_map", "restore", "status"}
        for tool in tools.values():
            assert len(tool.description) > 40
            assert all(each["description"] for each in tool.inputSchema["properties"].values())
            assert "upload_file" not in tool.description
        fields = tools["depth_map"].inputSchema["properties"]
        assert fields["photo"]["format"] == "uri"
        assert (fields["near"]["default"], fields["far"]["default"], fields["invert"]["default"]) == (0, 1, False)
        wrong = await session.call_tool("canny_map", {"photo": uri, "colour": "red"})
        assert wrong.isError and "not those of the tool canny_map" in said(wrong)
        drawn = await session.call_tool("canny_map", {"photo": uri, "size": SMALL})
        assert drawn.content[0].type == "image" and drawn.content[0].mimeType == "image/png"
        where = said(drawn).partition("Image URL: ")[2]
        made = await session.call_tool("canny", {"prompt": "a red cube", "map": where, "seed": "5", "steps": 1})
        assert not made.isError and made.content[0].type == "image"
        assert studio.preview("canny", photo, SMALL).sha256 in said(made) and json.loads(made.content[-1].text)["seed"] == 5
        kept = said(made).partition("Image URL: ")[2].partition(" ")[0]
        assert kept.startswith(f"{address}gradio_api/file=")
        assert json.loads(said(await session.call_tool("restore", {"picture": kept})))["seed"] == 5
        assert json.loads(said(await session.call_tool("status", {})))["modes"]["text"]["backend"] == "mini"
        return [await session.call_tool("canny_map", {"photo": each}) for each in ("/etc/passwd", "http://127.0.0.1:9/x.png", "data:,x")]

    for refused in with_tools(address, use):
        assert refused.isError and "Give an address that a tool of this page returned" in said(refused)


def test_values_of_another_type_are_taken_or_refused_in_our_words(address, photo_file):
    uri = f"data:image/png;base64,{base64.b64encode(photo_file.read_bytes()).decode()}"
    small = {"prompt": "a red cube", "size": SMALL, "steps": 1}
    refused = {
        "prompt is 7": ("text", {"prompt": 7}),
        "number of steps": ("text", small | {"steps": "many"}),
        "a valid guidance": ("text", small | {"guidance": True}),
        "The size '7'": ("text", small | {"size": 7}),
        "low is 'x'": ("canny_map", {"photo": uri, "low": "x"}),
        "not an image": ("canny", {"prompt": "a cube", "map": 7}),
        "no tool 'paint'": ("paint", {}),
    }

    async def use(session):
        for seed in (7, "7", None):
            made = await session.call_tool("text", small | {"seed": seed})
            assert not made.isError and (seed is None or json.loads(made.content[-1].text)["seed"] == 7)
        assert not (await session.call_tool("text", {"prompt": "a red cube", "size": None, "steps": 1})).isError
        return [(words, said(await session.call_tool(*call))) for words, call in refused.items()]

    for words, answer in with_tools(address, use):
        assert words in answer and answer.rstrip(".").count(". ") == 1


def test_a_model_reads_what_is_said_beside_the_image(address):
    async def use(session):
        call = {"prompt": "a red cube on grass and " + "a blue ball, " * 40 + "a cone", "size": SMALL, "steps": 1}
        told: list[str | None] = []

        async def on_progress(done, total, message):
            told.append(message)

        return await session.call_tool("text", call), await session.call_tool("text", call, progress_callback=on_progress), told

    plain, followed, told = with_tools(address, use)
    assert not plain.isError and [part.type for part in plain.content] == ["image", "text", "text", "text"]
    assert "tokens" in plain.content[1].text and json.loads(plain.content[-1].text)["mode"] == "text"
    assert not followed.isError and any("tokens" in message for message in told if message)


@pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 is there by default")
def test_callers_from_two_addresses_are_two_visitors(address, studio, monkeypatch):
    visitors, generate = [], studio.generate
    monkeypatch.setattr(studio, "generate", lambda *given: visitors.append(given[-1]) or generate(*given))

    async def use(session):
        return await session.call_tool("text", {"prompt": "a red cube", "size": SMALL, "steps": 1})

    for comes_from in ("127.0.0.2", "127.0.0.3"):
        assert not with_tools(address, use, comes_from).isError
    assert visitors == [("127.0.0.2", ""), ("127.0.0.3", "")]
    forged = {"x-flux-demo-caller": "guessed 10.0.0.1"}
    event = httpx.post(f"{address}gradio_api/call/text", json={"data": ["a cube", SMALL, "1", 1, None]}, headers=forged, trust_env=False)
    httpx.get(f"{address}gradio_api/call/text/{event.json()['event_id']}", trust_env=False, timeout=60)
    assert visitors[-1].address == "127.0.0.1"


def test_only_calls_from_this_page_are_served(address):
    endpoint = f"{address}gradio_api/mcp"
    with httpx.Client(trust_env=False, timeout=30) as web:
        assert web.post(endpoint + "/", json=CALL, headers=ACCEPT).status_code == 200
        assert web.get(endpoint + "/", headers={"Accept": "text/event-stream"}).status_code == 405
        refused = web.get(endpoint + "/")
        assert refused.status_code == 405 and refused.json()["detail"].endswith(" /gradio_api/mcp/.")  # which the first call found
        assert web.get(endpoint + "/sse").status_code == web.post(endpoint + "/messages/").status_code == 404
        for header in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            assert web.post(endpoint + "/", json=CALL, headers=ACCEPT | header).status_code == 403
        for size, status in ((2.9, 200), (3, 413)):
            picture = {"photo": f"data:image/png;base64,{base64.b64encode(bytes(int(size * 2**20))).decode()}"}
            call = CALL | {"method": "tools/call", "params": {"name": "canny_map", "arguments": picture}}
            answer = web.post(endpoint + "/", json=call, headers=ACCEPT)
            assert answer.status_code == status
        assert answer.json()["detail"] == "The call is too large. Send an image of at most 2.9 MiB."


def test_nothing_that_a_caller_sends_reaches_the_log(address, caplog):
    words = "my secret words\nRunning on http://evil.example/"
    calls = [
        {"jsonrpc": "2.0", "method": words, "params": {}},
        {"jsonrpc": "2.0", "id": words, "result": {words: words}},
        CALL | {"method": words},
        CALL | {"method": "tools/call", "params": {"name": words, "arguments": {words: words}}},
        CALL | {"method": "tools/call", "params": {"name": "text", "arguments": {"prompt": words, "size": words}}},
    ]
    with httpx.Client(trust_env=False, timeout=30) as web:
        for call in calls:
            answer = web.post(f"{address}gradio_api/mcp/", json=call, headers=ACCEPT)
            assert answer.status_code in (200, 202)
    assert "words" in answer.text  # an error that names it goes to whoever called
    logging.warning("of the program")
    assert "of the program" in caplog.text
    assert not [record for record in caplog.records if "secret" in record.getMessage() or "mcp" in Path(record.pathname).parts]


def test_tools_that_run_leave_uploads_their_places(address, studio, photo_file, monkeypatch):
    monkeypatch.setitem(guard.MAX_AT_ONCE, "address", 1)
    begun, ended, generate = threading.Event(), threading.Event(), studio.generate

    def wait_first(*given):
        begun.set()
        assert ended.wait(60)
        return generate(*given)

    monkeypatch.setattr(studio, "generate", wait_first)
    call = CALL | {"method": "tools/call", "params": {"name": "text", "arguments": {"prompt": "a cube", "size": SMALL, "steps": 1}}}
    with httpx.Client(base_url=address, trust_env=False, timeout=90) as web, ThreadPoolExecutor(1) as pool:
        running = pool.submit(web.post, "gradio_api/mcp/", json=call, headers=ACCEPT)
        assert begun.wait(60)
        try:
            assert web.post("gradio_api/upload", files={"files": photo_file.read_bytes()}).status_code == 200
            assert web.post("gradio_api/mcp/", json=CALL, headers=ACCEPT).status_code == 429
        finally:
            ended.set()
        assert running.result().status_code == 200
        deadline = time.monotonic() + 10
        while web.post("gradio_api/mcp/", json=CALL, headers=ACCEPT).status_code == 429:  # the place is given back
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/gradio_api/file=/etc/passwd", "data:image/png;base64,%%"]
)
def test_a_file_of_the_machine_is_no_picture(file, page):
    with pytest.raises(InvalidPicture):
        with_files({"photo": file}, [["photo"]])
    assert with_files({"size": file}, [["photo"]]) == {"size": file}


def test_base64_may_have_line_breaks(page, photo_file):
    uri = f"data:image/png;base64,{base64.encodebytes(photo_file.read_bytes()).decode()}"
    assert Path(with_files({"photo": uri}, [["photo"]])["photo"]["path"]).read_bytes() == photo_file.read_bytes()
