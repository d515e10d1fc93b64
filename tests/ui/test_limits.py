"""What one network address may do within a while, and how full the disk may get, as strangers meet it: over HTTP."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from flux_demo.ui import build, guard, launch_options
from flux_demo.ui.sliding_sums import SlidingSums
from tests.starting import free_port
from tests.ui.test_guard import left_behind, worded


@pytest.fixture
def web(address):
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as web:
        yield web


@pytest.fixture
def with_login(studio, tmp_path, monkeypatch):
    """The address of a page that asks for a password."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    page = build(studio)
    page.launch(
        server_name="127.0.0.1",
        server_port=free_port(),
        auth=("me", "right"),
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(),
    )
    yield page.local_url
    page.close(verbose=False)


def log_in(address, password, comes_from=None):
    with httpx.Client(base_url=address, transport=httpx.HTTPTransport(local_address=comes_from), timeout=30) as web:
        return web.post("login", data={"username": "me", "password": password})


@pytest.mark.parametrize("at_once", [1, 30])
def test_a_password_cannot_be_tried_out(with_login, at_once):
    """Nor by many at once; and right ones, however many, do not count."""
    assert [log_in(with_login, "right").status_code for _ in range(2 * guard.MAX_FAILED_LOGINS)] == [200] * 2 * guard.MAX_FAILED_LOGINS
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(lambda number: log_in(with_login, f"wrong {number}"), range(30)))
    assert sorted(answer.status_code for answer in answers) == [400] * guard.MAX_FAILED_LOGINS + [429] * (30 - guard.MAX_FAILED_LOGINS)
    refused = log_in(with_login, "right")
    assert "failed logins" in worded(refused, 429) and refused.headers["retry-after"] == "60"
    if sys.platform != "darwin":  # only 127.0.0.1 is there by default
        assert log_in(with_login, "right", comes_from="127.0.0.2").status_code == 200


def test_what_was_added_counts_for_a_while():
    recent = SlidingSums(0.2)
    recent.add("a", 3)
    recent.add("a", 4)
    recent.add("b", 1)
    assert (recent.sum("a"), recent.sum("b"), recent.sum("c")) == (7, 1, 0)
    time.sleep(0.3)
    assert recent.sum("a") == 0 and not recent._sums and not recent._added


@pytest.mark.parametrize("kind", ["upload", "mcp"])
def test_what_is_sent_leaves_room_on_the_disk(web, page, photo_file, monkeypatch, kind):
    def send():
        if kind == "upload":
            return web.post("gradio_api/upload", files={"files": photo_file.read_bytes()})
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        return web.post("gradio_api/mcp/", json=call, headers={"Accept": "application/json, text/event-stream"})

    assert send().status_code == 200
    with monkeypatch.context() as full:
        full.setattr(guard, "RESERVE", 2**62)  # more than any disk has
        assert "nearly full" in worded(send(), 503)
    assert send().status_code == 200
    assert left_behind(page) == []


def test_an_address_uploads_so_much_an_hour_to_a_shared_page_and_its_owner_as_much_as_they_like(web, page, monkeypatch):
    monkeypatch.setattr(guard, "MAX_AN_HOUR", 2 * guard.MAX_UPLOAD)

    def send(size=0, says_its_length=True):
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"x" * size + b"\r\n--b--\r\n"
        content = body if says_its_length else iter([body])
        return web.post("gradio_api/upload", content=content, headers={"content-type": "multipart/form-data; boundary=b"})

    assert [send(30 * 2**20).status_code for _ in range(3)] == [200] * 3
    monkeypatch.setattr(page, "settings", replace(page.settings, public=True))
    assert [send(30 * 2**20).status_code, send(says_its_length=False).status_code] == [200, 200]  # which counts as the longest
    refused = send(says_its_length=False)
    assert "Too much was uploaded" in worded(refused, 429) and refused.headers["retry-after"] == "3600"
    statuses = [send().status_code for _ in range(34)]  # small ones count too
    assert statuses == sorted(statuses) and {*statuses} == {200, 429}
