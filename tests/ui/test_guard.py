"""What strangers can send to the page, as they send it: raw requests, without a browser."""

import json
import os
import re
import socket

import httpx
import pytest

from flux_demo.ui.guard import MAX_FILES, MAX_JSON, MAX_UPLOAD
from tests.ui.test_api import call_raw
from tests.waiting import wait_until

FOREIGN = "http://evil.example"


@pytest.fixture
def web(address):
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as web:
        yield web


@pytest.fixture
def here(address):
    """Host and port of the page."""
    return address.split("/")[2]


def worded(answer, status):
    """The sentences of a refusal."""
    assert answer.status_code == status, answer.text[:300]
    said = answer.json()["detail"]
    assert said.count(". ") >= 1 and said.endswith("."), said
    assert answer.json()["error"] == said
    return said


@pytest.mark.parametrize(
    "host", ["rebind.example", "rebind.example:{port}", "127.0.0.1.rebind.example", "10.0.0.7:{port}", "localhost.evil:80", ""]
)
@pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "gradio_api/queue/data?session_hash=a", "theme.css"])
def test_a_name_that_is_not_ours_is_not_served(web, here, host, path):
    answer = web.get(path, headers={"host": host.format(port=here.partition(":")[2])})
    worded(answer, 403)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}", "127.0.0.2", "0.0.0.0:{port}", "localhost.:1"]
)
def test_this_machines_own_names_are_served(web, here, host):
    assert web.get("config", headers={"host": host.format(port=here.partition(":")[2])}).status_code == 200


def test_two_hosts_are_none(address, here):
    name, _, port = here.partition(":")
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(f"GET /config HTTP/1.1\r\nHost: {here}\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(20).split()[1] in (b"403", b"400")


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "http://localhost:1", "https://127.0.0.1", "file://", "http://evil.example@127.0.0.1", "x"]
)
@pytest.mark.parametrize("kind", ["upload", "call", "read", "preflight"])
def test_a_page_of_another_site_can_neither_call_nor_read(web, here, studio, photo_file, origin, kind):
    before = set(os.listdir(os.environ["GRADIO_TEMP_DIR"]))
    headers = {"origin": origin}
    if kind == "upload":
        answer = web.post("gradio_api/upload", files={"files": photo_file.read_bytes()}, headers=headers)
    elif kind == "call":
        answer = web.post("gradio_api/call/status", content=json.dumps({"data": []}), headers=headers | {"content-type": "text/plain"})
    elif kind == "read":
        answer = web.get("config", headers=headers)
    else:
        answer = web.options("gradio_api/upload", headers=headers | {"access-control-request-method": "POST"})
    worded(answer, 403)
    assert "access-control-allow-origin" not in answer.headers
    assert set(os.listdir(os.environ["GRADIO_TEMP_DIR"])) == before


def test_the_page_itself_may_call(web, here):
    assert web.post("gradio_api/call/status", json={"data": []}, headers={"origin": f"http://{here}"}).status_code == 200


@pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "nothing"])
def test_nobody_may_frame_the_page(web, path):
    headers = web.get(path).headers
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_browsers_keep_the_files_that_are_named_by_their_content_and_no_others(web):
    asset = re.search(r"assets/index-[\w-]+\.js", web.get("").text)[0]
    assert "immutable" in web.get(asset).headers["cache-control"]
    for path in ("", "config", "assets/nothing.js", "gradio_api/file=/assets/nothing.png"):
        assert "immutable" not in web.get(path).headers.get("cache-control", "")


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/deep_link?session_hash=a",
        "gradio_api/proxy=https://a.hf.space/x",
        "gradio_api/file=http://127.0.0.1:9/x.png",
        "gradio_api/file=https:/127.0.0.1/x.png",
        "gradio_api/file/http://127.0.0.1:9/x.png",
        "gradio_api/vibe-code/",
        "gradio_api/dev/reload",
        "gradio_api/component_server",
        "gradio_api/runs",
        "gradio_api/stream/a/b/c/playlist.m3u8",
        "monitoring",
        "monitoring/summary",
        "docs",
        "nothing",
    ],
)
def test_what_the_page_does_not_need_is_not_there(web, path):
    worded(web.get(path), 404)


def test_a_deep_link_opens_the_plain_page(web, studio):
    folder = os.path.join(os.environ["GRADIO_TEMP_DIR"], "deep_links", "abc")
    os.makedirs(folder)
    config = web.get("config").json()
    shown = next(each for each in config["components"] if each["type"] == "html")
    planted = [{**each, "props": {**each["props"], "value": "PLANTED"}} if each is shown else each for each in config["components"]]
    with open(os.path.join(folder, "state.json"), "w") as file:
        json.dump(planted, file)
    for path in ("?deep_link=abc", "?x=1&deep_link=abc", "config?deep_link=abc", "?deep%5Flink=abc"):
        answer = web.get(path)
        assert answer.status_code == 200 and "PLANTED" not in answer.text


@pytest.mark.parametrize("endpoint", ["text", "canny_map", "canny", "restore"])
def test_too_few_values_are_said_in_words(address, endpoint, capfd):
    said = call_raw(address, endpoint)
    assert "event: error" in said and "takes" in said and '"error": null' not in said
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/x.png", "https://example.com/x.png", "file:///etc/passwd", "//example.com/x", "data:image/png;base64,AA"],
)
@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_an_address_as_a_file_is_refused_and_never_fetched(address, url, meta, capfd):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.2)
        given = url.format(port=listening.getsockname()[1])
        said = call_raw(address, "restore", {"path": given, "url": given, **meta})
        with pytest.raises(TimeoutError):
            listening.accept()
    assert ("Nothing is fetched from an address" if "://" in url else "was not uploaded here") in said and given not in said
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_is_refused_before_it_is_kept(address, page, tmp_path, capfd):
    folder = os.path.join(page.folder, "a-folder")
    os.makedirs(folder, exist_ok=True)
    for given in (folder, str(page.folder), "/etc", "/etc/passwd"):
        said = call_raw(address, "restore", {"path": given, "meta": {"_type": "gradio.FileData"}})
        assert "was not uploaded here" in said
        assert not any(given in names for names in page.temp_file_sets)
    page.clear_temporary(older_than_s=3600)  # goes on


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "5",
        "null",
        '{"data": 5}',
        '{"data": [1',
        '{"data": [' + "9" * 5000 + "]}",
        "[" * 5000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
)
@pytest.mark.parametrize("path", ["call/text", "queue/join", "run/text", "cancel", "call/nonsense", "call/v2/nonsense"])
def test_a_body_that_is_nothing_is_refused_in_words(web, path, body, capfd):
    answer = web.post(f"gradio_api/{path}", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code <= 500
    worded(answer, answer.status_code)
    assert len(answer.content) < 1000
    assert "Traceback" not in capfd.readouterr().err


def test_an_endpoint_of_no_known_name_is_not_there(web):
    worded(web.post("gradio_api/call/nope", json={"data": []}), 404)
    worded(web.post("gradio_api/run/nope", json={"data": []}), 404)


@pytest.mark.parametrize("index", [9999, -1])
def test_an_event_that_does_not_exist_is_said_in_words(web, index, capfd):
    worded(web.post("gradio_api/queue/join", json={"data": [], "fn_index": index, "session_hash": "a"}), 500)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_limit(web, chunked):
    content = b'{"data": ["' + b"a" * MAX_JSON + b'"]}'
    worded(
        web.post("gradio_api/call/text", content=iter([content]) if chunked else content, headers={"content-type": "application/json"}), 413
    )


def test_the_longest_prompt_fits_however_it_is_escaped(web):
    prompt = json.dumps("\U0001f600" * 10_000)  # twelve bytes a character
    answer = web.post(
        "gradio_api/call/text", content=f'{{"data": [{prompt}, "1x1", "", null, null]}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200


def left_behind(page):
    return [name for name in os.listdir(page.folder) if name.startswith("tmp")]


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_has_a_limit_and_leaves_nothing(web, page, chunked):
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    pieces = [head, *[b"x" * 2**20] * (MAX_UPLOAD // 2**20 + 1), b"\r\n--b--\r\n"]
    answer = web.post(
        "gradio_api/upload",
        content=iter(pieces) if chunked else b"".join(pieces),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert "32 MiB" in worded(answer, 413)
    assert left_behind(page) == []


def test_an_upload_has_few_files_and_leaves_nothing(web, page):
    files = [("files", (f"{number}.png", b"x")) for number in range(MAX_FILES + 1)]
    assert web.post("gradio_api/upload", files=files[:-1]).status_code == 200
    assert str(MAX_FILES) in worded(web.post("gradio_api/upload", files=files), 413)
    assert left_behind(page) == []


def test_a_body_that_comes_too_slowly_is_cut_off(here, page, monkeypatch):
    monkeypatch.setattr("flux_demo.ui.guard.CHUNK_TIMEOUT_S", 0.3)
    name, _, port = here.partition(":")
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {here}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n".encode()
            + b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
        )
        assert connection.recv(20).split()[1] == b"408"
    assert left_behind(page) == []


def test_an_address_uploads_few_at_once(here, page):
    name, _, port = here.partition(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {here}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
    )
    held = [socket.create_connection((name, int(port)), timeout=20) for _ in range(9)]
    try:
        for connection in held:  # the next one comes when this one has its place, and its body is waited for
            connection.sendall(head.encode())
            assert connection.recv(20).split()[1] == (b"429" if connection is held[-1] else b"100")
    finally:
        for connection in held:
            connection.close()
    statuses = []

    def is_taken():
        statuses.append(httpx.post(f"http://{here}/gradio_api/upload", files={"files": b"x"}, trust_env=False).status_code)
        return statuses[-1] != 429

    wait_until(is_taken)
    assert statuses[-1] == 200  # the places are given back


def test_what_goes_past_gradios_queue_is_refused_in_our_own_words(web, page):
    number, fn = next(
        (number, fn) for number, fn in page.fns.items() if not fn.queue and fn.fn and fn.inputs and not {*fn.inputs} & {*page.typed}
    )
    body = {"data": ["a" * 25_000] * len(fn.inputs), "fn_index": number, "session_hash": "of-a-test"}
    answer = web.post("gradio_api/run/predict", json=body)
    assert (answer.status_code, answer.json()["error"]) == (500, "A text of 25,000 characters is too long. Shorten it to 20,000.")
    page.state_holder.session_data.pop("of-a-test", None)
