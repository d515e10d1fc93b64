"""The environment as people have it: every library below can read what is left of it, and nothing else is changed."""

import sys
import urllib.request

import httpx
import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_demo import environment
from flux_demo.errors import InvalidRequest


def prepared(own_hosts=(), **variables):
    environ = dict(variables)
    environment.prepare(environ, own_hosts)
    return environ


LIBRARIES = (httpx, httpx2)  # Gradio and NVIDIA's services are asked through one, Hugging Face through the other


def clients_of(monkeypatch, environ):
    """HTTP clients as they are made in that environment."""
    for name in (*environment.PROXIES, "no_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)
            if variable in environ:
                monkeypatch.setenv(variable, environ[variable])
    return [(library, library.Client()) for library in LIBRARIES]


def goes_direct(clients, url):
    """Whether the clients ask the address itself. The first mount that matches decides; None is no proxy."""
    answers = {
        next((transport is None for pattern, transport in client._mounts.items() if pattern.matches(library.URL(url))), True)
        for library, client in clients
    }
    assert len(answers) == 1, "they do not agree"
    return answers.pop()


@pytest.mark.parametrize(
    "proxy", ["socks://127.0.0.1:7897/", "socks5://h:1", "SOCKS5H://u:p@h:1", "http://h:3128", "https://h", "h:3128", "[::1]:80"]
)
@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_proxy_of_every_usual_kind_can_be_read(monkeypatch, name, proxy):
    clients = clients_of(monkeypatch, prepared(**{name: proxy}))
    assert not goes_direct(clients, "https://integrate.example.org/")


@pytest.mark.parametrize(
    "proxy", ["socks4://u:secret@h:1", "quic://h", "http://", "http://[::1", "http://h:port", "http://a b", "secret@h:x"]
)
def test_a_proxy_that_no_library_reads_is_named_and_not_shown(proxy):
    with pytest.raises(InvalidRequest, match="^HTTPS_PROXY ") as refusal:
        prepared(HTTPS_PROXY=proxy)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("entry", ["[::1]", "::1", "[::1]:8000"])
def test_ipv6_in_no_proxy_is_understood_in_every_spelling(monkeypatch, entry):
    clients = clients_of(monkeypatch, prepared(ALL_PROXY="http://proxy:1", no_proxy=entry))
    assert goes_direct(clients, "http://[::1]:7860/")


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_the_proxies_of_the_systems_own_settings_are_kept(monkeypatch, platform):
    """Libraries look for them only where no variable names a proxy or an exception."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(
        urllib.request, "getproxies", lambda: {"https": "http://proxy:8080", "http": "bad address", "ftp": "http://other:1"}
    )
    named = {name: value for name, value in prepared().items() if name.endswith("_proxy") and name != "no_proxy"}
    assert named == ({} if platform == "linux" else {"https_proxy": "http://proxy:8080"})
    assert prepared(HTTP_PROXY="http://mine:1").get("https_proxy") is None


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_either_case_of_no_proxy_says_the_same(monkeypatch, name):
    environ = prepared(HTTP_PROXY="http://proxy:1", **{name: "nim.example.org, *.lan"})
    assert environ["no_proxy"] == environ["NO_PROXY"]
    clients = clients_of(monkeypatch, environ)
    assert goes_direct(clients, "http://nim.example.org:8000/") and goes_direct(clients, "http://gpu.lan/")
    assert not goes_direct(clients, "http://example.com/")


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch):
    clients = clients_of(monkeypatch, prepared(("192.168.7.7", "fd00::7"), HTTP_PROXY="http://proxy:1"))
    for host in ("127.0.0.1", "localhost", "[::1]", "192.168.7.7", "[fd00::7]"):
        assert goes_direct(clients, f"http://{host}:7860/")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@example("münchen.example")
@example(".XN--mnchen-3ya.example")
@settings(max_examples=40)  # each makes two clients, which read all certificates
def test_nothing_in_no_proxy_breaks_the_client(entry):
    with pytest.MonkeyPatch.context() as patch:
        clients_of(patch, prepared(HTTP_PROXY="http://proxy:1", no_proxy=entry))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(max_examples=40)  # each makes two clients, which read all certificates
def test_every_proxy_is_usable_or_refused_in_words(value):
    try:
        environ = prepared(all_proxy=value)
    except InvalidRequest:
        return
    with pytest.MonkeyPatch.context() as patch:
        clients_of(patch, environ)


@pytest.mark.parametrize(
    "variables",
    [
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        {"SSL_CERT_FILE": __file__},
        {"SSLKEYLOGFILE": "/nowhere/keys"},
        {"HF_HUB_ETAG_TIMEOUT": "soon"},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "-1"},
        {"SSL_CERT_FILE": "/"},
        {"HF_ENDPOINT": "foo"},
        {"HF_ENDPOINT": "https://"},
        {"HF_ENDPOINT": "ftp://mirror.example.org"},
        {"HF_ENDPOINT": "http://[::1"},
    ],
    ids=str,
)
def test_what_would_end_a_library_at_its_import_is_a_sentence(variables):
    (name,) = variables
    with pytest.raises(InvalidRequest, match=f"^{name} ") as refusal:
        prepared(**variables)
    said = str(refusal.value)
    assert said.count(". ") == 1 and "_ssl.c" not in said


def test_what_the_person_said_is_not_replaced():
    for name, value in (("TRANSFORMERS_VERBOSITY", "debug"), ("OMP_WAIT_POLICY", "ACTIVE")):
        assert prepared(**{name: value})[name] == value


def test_an_empty_variable_counts_as_not_set():
    empty = dict.fromkeys((*environment.HUB_FOLDERS, "HF_ENDPOINT"), " ")
    assert not prepared(**empty).keys() & empty.keys()


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("entry", ["münchen.example", "xn--mnchen-3ya.example", "a b"])
def test_a_host_that_is_asked_through_the_proxy_although_it_is_named_is_said(entry, variable):
    notes = environment.prepare({"HTTPS_PROXY": "http://proxy:1", variable: f"fine.example,{entry},"})
    assert len(notes) == 1 and notes[0].startswith(f"{variable} names {entry!r}")
    assert environment.prepare({"NO_PROXY": entry}) == []  # nothing is asked through a proxy


@pytest.mark.parametrize(
    ("url", "variables", "said"),
    [
        ("https://a.example/v1", {"HTTPS_PROXY": "p"}, "HTTPS_PROXY"),
        ("https://a.example", {"https_proxy": "p", "ALL_PROXY": "q"}, "https_proxy"),
        ("http://a.example", {"HTTPS_PROXY": "p", "all_proxy": "q"}, "all_proxy"),
        ("http://a.example", {"HTTPS_PROXY": "p"}, None),
        ("https://a.b.example", {"HTTPS_PROXY": "p", "NO_PROXY": ".b.example"}, None),
        ("https://b.example:8", {"HTTPS_PROXY": "p", "NO_PROXY": "b.example:8"}, None),
        ("https://ab.example", {"HTTPS_PROXY": "p", "NO_PROXY": "b.example"}, "HTTPS_PROXY"),
        ("https://[::1]:8", {"HTTPS_PROXY": "p"}, None),
        ("https://a.example", {"HTTPS_PROXY": "p", "no_proxy": "*"}, None),
    ],
)
def test_the_variable_with_the_proxy_is_named_where_one_is_asked(url, variables, said):
    assert environment.through_proxy(url, prepared(**variables)) == (f" through the proxy in {said}" if said else "")


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        (
            "GRADIO_ROOT_PATH",
            ["foo", "foo bar", "https://", "ftp://a.example", "/a b", "/a?b"],
            ["/", "/flux", "https://a.example:8/flux/", "http://a"],
        ),
        ("GRADIO_DEFAULT_CONCURRENCY_LIMIT", ["foo", "1.5", "0"], ["", "2", "None"]),
        ("GRADIO_NUM_PORTS", ["foo"], ["", "7"]),
    ],
)
def test_what_would_end_the_page_in_gradio_is_a_sentence(name, wrong, right):
    for value in wrong:
        with pytest.raises(InvalidRequest, match=f"^{name} is {value!r}".replace("?", "[?]")) as refusal:
            environment.prepare_page({name: value})
        assert str(refusal.value).count(". ") == 1
    for value in right:
        environment.prepare_page({name: value})


@pytest.mark.parametrize("value", ["1", "", "foo"])
@pytest.mark.parametrize("name", environment.GRADIO_DROPPED)
def test_what_gradio_would_take_for_an_argument_of_its_launch_is_dropped_and_said(name, value):
    environ = {name: value, "GRADIO_SHARE": "False"}
    assert environment.prepare_page(environ) == ([f"{name} has no effect on this page. Leave it out."] if value else [])
    assert environ == {"GRADIO_SHARE": "False"}


def test_a_folder_for_compiled_code_that_cannot_be_is_said_and_one_that_can_is_not_made(tmp_path):
    with pytest.raises(InvalidRequest, match="TORCHINDUCTOR_CACHE_DIR names a folder that cannot be made"):
        prepared(TORCHINDUCTOR_CACHE_DIR=__file__)
    prepared(TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
