"""Under which names the page is reached: on this machine, on a network, through a public link, behind a proxy, on Spaces."""

import re
import sys
import threading
import time

import httpx
import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.settings import Settings
from flux_demo.ui import blocks, guard
from flux_demo.ui.hosts import Hosts, own_names
from flux_demo.ui.visitors import client_of
from tests.starting import refusal
from tests.ui.conftest import SMALL

HOME = Hosts.of(Settings(), None)
SPACE = Hosts.of(Settings(space_host="anna-flux.hf.space"), None)
SHARED = Hosts.of(Settings(), "https://0123456789abcdef.gradio.live")
PROXIED = Hosts.of(Settings(hosts="Studio.example.org, other.example.org:8443", root_path="https://third.example.org/flux"), None)
LOOPBACK, NETWORK = "127.0.0.1", "192.168.1.5"


@pytest.mark.parametrize("listened_on", [LOOPBACK, "::1", NETWORK])
@pytest.mark.parametrize("hosts", [HOME, SPACE, SHARED, PROXIED])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "hf.space.evil.example",
        "",
        "a b",
        "[::1",
        "x:y",
        "evil.example/localhost",
        "localhost@evil.example",
    ],
)
def test_a_name_of_somebody_else_is_never_served(hosts, host, listened_on):
    assert not hosts.serves(host, listened_on)


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "0.0.0.0:7860", "[::ffff:127.0.0.1]"])
def test_this_machine_is_served(host):
    assert HOME.serves(host, LOOPBACK) and HOME.serves(host, "::1")


def test_an_address_of_the_network_is_served_where_the_network_is_listened_on():
    assert HOME.serves("192.168.1.5:7860", NETWORK)
    assert not HOME.serves("192.168.1.5:7860", LOOPBACK)
    assert all(HOME.serves(name, NETWORK) for name in own_names(False))


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (SPACE, "anna-flux.hf.space"),
        (SPACE, "anna-flux--dev.hf.space"),
        (SHARED, "0123456789abcdef.gradio.live"),
        (PROXIED, "studio.example.org"),
        (PROXIED, "other.example.org"),
        (PROXIED, "third.example.org:443"),
    ],
)
def test_names_that_were_given_are_served_and_only_where_they_were(hosts, host):
    assert hosts.serves(host, LOOPBACK)
    assert not HOME.serves(host, LOOPBACK)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "[::1]:7860", "localhost:7860", "192.168.1.5:7860"])
def test_a_page_may_call_itself_and_another_may_not(host):
    assert HOME.takes(f"http://{host}", host) and HOME.takes(f"https://{host}", host)
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost",
        "",
        "http://",
        f"ftp://{host}",
        f"http://{host}.evil.example",
        f"http://{host}:1",
    ):
        assert not HOME.takes(origin, host), origin


def test_the_origin_of_a_proxy_belongs_to_its_name():
    assert PROXIED.takes("https://studio.example.org", "127.0.0.1:7860")
    assert PROXIED.takes("https://studio.example.org", "studio.example.org")  # the proxy speaks TLS, we do not
    assert SHARED.takes("https://0123456789abcdef.gradio.live", "0123456789abcdef.gradio.live")
    assert not SHARED.takes("https://another.gradio.live", "0123456789abcdef.gradio.live")
    assert not SPACE.takes("https://another.hf.space", "anna-flux.hf.space")


def test_only_spaces_may_frame_the_page():
    assert HOME.framed_by == SHARED.framed_by == PROXIED.framed_by == "'none'"
    assert "https://huggingface.co" in SPACE.framed_by.split()


class Asked:
    def __init__(self, host, **headers):
        self.client, self.headers = type("Client", (), {"host": host}), headers


def test_a_visitors_address_is_the_proxys_word_only_on_spaces():
    asked = Asked("10.1.1.1", **{"x-forwarded-for": "6.6.6.6, 203.0.113.9"})
    assert HOME.address_of(asked) == "10.1.1.1"
    assert SPACE.address_of(asked) == "203.0.113.9"
    assert SPACE.address_of(Asked("10.1.1.1")) == "10.1.1.1"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::8", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        *((each, each) for each in ("127.0.0.1", "192.0.2.7", "::1", "::ffff:192.0.2.7", "::ffff:127.0.0.1", "fe80::1%eth0", "")),
    ],
)
def test_the_addresses_of_one_ipv6_network_share_limits_and_all_others_have_their_own(address, counted):
    assert HOME.address_of(Asked(address)) == counted
    if address:
        assert SPACE.address_of(Asked("10.1.1.1", **{"x-forwarded-for": f"1.2.3.4, {address}"})) == counted


@pytest.mark.parametrize(
    "entry", ["studio.example.org/", "https://studio.example.org/flux/", "STUDIO.example.org:8443/a", "studio.example.org."]
)
def test_a_name_is_read_as_people_write_it(entry):
    assert Hosts.of(Settings(hosts=f"other.example.org, {entry}"), None).serves("studio.example.org", LOOPBACK)


@pytest.mark.parametrize("entry", ["*.example.org", "me@example.org", "https://", "[::1", "a..org", "example.org:port", "http://[::1"])
def test_a_name_that_no_browser_sends_is_refused(entry):
    with pytest.raises(InvalidRequest, match=f"^{re.escape(repr(entry))} is not a name.*FLUX_DEMO_HOSTS as"):
        Hosts.of(Settings(hosts=f"studio.example.org {entry}"), None)
    if "://" in entry:
        with pytest.raises(InvalidRequest, match="GRADIO_ROOT_PATH"):
            Hosts.of(Settings(root_path=entry), None)
    assert not PROXIED.serves(entry, LOOPBACK)


def test_it_is_refused_at_the_start():
    assert "'*.example.org' is not a name" in refusal("--backend", "mini", FLUX_DEMO_HOSTS="*.example.org")


def test_behind_a_proxy_on_this_machine_visitors_are_told_apart(page, address, monkeypatch):
    seen = []
    monkeypatch.setattr(blocks, "client_of", lambda address, *names: seen.append(address) or client_of(address, *names))
    for headers in ({"X-Forwarded-For": "203.0.113.9"}, {}):
        call = f"{address}gradio_api/call/status"
        event = httpx.post(call, json={"data": []}, headers=headers, trust_env=False).json()["event_id"]
        assert "event: complete" in httpx.get(f"{call}/{event}", trust_env=False).text
    assert seen == ["203.0.113.9", "127.0.0.1"]


@pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 is there by default")
def test_on_spaces_each_visitor_has_limits_of_their_own(address, page, studio, photo_file, monkeypatch):
    """All requests come from the proxy there, which names the visitor's address."""
    monkeypatch.setattr(page, "_hosts", (page.share_url, Hosts.of(Settings(space_host="a.hf.space"), None)))
    monkeypatch.setattr(guard, "MAX_WAITING", 1)
    monkeypatch.setitem(guard.MAX_AT_ONCE, "address", 1)
    drawn, preview = threading.Event(), studio.preview
    monkeypatch.setattr(studio, "preview", lambda *given, **options: drawn.wait(60) and preview(*given, **options))
    proxy = httpx.Client(base_url=address, transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=30)
    mine, theirs = ({"x-forwarded-for": f"1.2.3.4, 203.0.113.{number}"} for number in (1, 2))

    def slow():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for headers, status in ((mine, 429), (theirs, 200)):
            assert proxy.post("gradio_api/upload", files={"files": photo_file.read_bytes()}, headers=headers).status_code == status
        yield b"x\r\n--b--\r\n"

    with proxy:
        form = {"content-type": "multipart/form-data; boundary=b"}
        assert proxy.post("gradio_api/upload", content=slow(), headers=mine | form).status_code == 200
        (path,) = proxy.post("gradio_api/upload", files={"files": photo_file.read_bytes()}, headers=mine).json()
        call = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, SMALL, "crop", 50, 200]}
        try:
            taken, deadline = 0, time.monotonic() + 30
            while taken < 3:  # two are drawn at once, and one waits
                taken += proxy.post("gradio_api/call/canny_map", json=call, headers=mine).status_code == 200
                assert time.monotonic() < deadline
            for headers, status in ((mine, 429), (theirs, 200)):
                assert proxy.post("gradio_api/call/canny_map", json=call, headers=headers).status_code == status
        finally:
            drawn.set()
