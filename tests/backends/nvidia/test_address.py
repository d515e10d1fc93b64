"""Addresses that a person sets: which of them can be used, and what follows from them."""

from dataclasses import replace

import pytest

from flux_demo.backends.nvidia import Hosted, Nim
from flux_demo.backends.nvidia.address import address_problem, base_url, poll_url, url_is_loopback
from flux_demo.errors import BackendUnavailable, GenerationFailed, Unreachable
from flux_demo.modes import MODES
from flux_demo.settings import HOSTED_URL
from stand_ins.nvidia import GOOD_KEY, HOSTED_PATH


def test_polling_goes_to_nvidias_own_host_or_to_the_origin_that_was_set():
    assert poll_url(HOSTED_URL) == "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status"
    assert poll_url("http://127.0.0.1:8900/v1/genai/x") == "http://127.0.0.1:8900/v2/nvcf/pexec/status"
    assert poll_url("https://[::1]:1/a/b") == "https://[::1]:1/v2/nvcf/pexec/status"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://:8000",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://[::1",
        "http://a b",
        "x",
    ]
    + ["http://user:secret@host", "http://host?key=secret", "http://host/#secret", "http://ho\u200bst"],
)
@pytest.mark.parametrize("service", [Hosted, Nim])
def test_an_invalid_address_is_refused_without_repeating_it(settings, service, url):
    backend = service(replace(settings, nvidia_api_key="nvapi-x", hosted_url=url, nim_url=url))
    refusal = backend.refusal(MODES["text"]).reason
    variable = "FLUX_DEMO_NIM_URL" if service is Nim else "FLUX_DEMO_HOSTED_URL"
    assert variable in refusal and "Set it to" in refusal and "secret" not in refusal


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "https://nim.example.com/flux", "http://10.0.0.5:8000/", "http://[::1]:8000", HOSTED_URL]
)
def test_a_valid_address_is_accepted(url):
    assert address_problem("FLUX_DEMO_NIM_URL", url) is None


def test_a_name_that_no_host_can_have_is_a_worded_error(settings, open_backend, generate):
    refusal = open_backend(Nim, replace(settings, nim_url="http://xn--a:8000")).refusal(MODES["text"])
    assert "Nothing answers at FLUX_DEMO_NIM_URL" in refusal.reason
    hosted = open_backend(Hosted, replace(settings, nvidia_api_key="nvapi-x", hosted_url="https://xn--a:8000/x"))
    with pytest.raises(Unreachable, match="cannot be reached. Correct FLUX_DEMO_HOSTED_URL"):
        generate(hosted)


def test_the_key_does_not_cross_a_network_unencrypted(settings):
    def refusal(url):
        return Hosted(replace(settings, nvidia_api_key="nvapi-x", hosted_url=url)).refusal(MODES["text"])

    assert "unencrypted" in refusal("http://proxy.example.com/flux").reason
    assert [refusal(url) for url in ("http://127.0.0.1:8900/x", "https://proxy.example.com/flux", HOSTED_URL)] == [None] * 3


@pytest.mark.parametrize(
    ("url", "here"),
    [("http://localhost:1", True), ("http://127.3.2.1", True), ("http://[::1]:1", True), ("http://a.localhost", True)]
    + [("http://10.0.0.1", False), ("http://localhost.example.com", False), ("http://127.0.0.1.example.com", False), ("x", False)],
)
def test_this_machine_is_recognised_by_its_addresses(url, here):
    assert url_is_loopback(url) is here


def test_a_path_copied_along_with_the_address_is_cut_off():
    assert {base_url(f"http://host:8000/nim{tail}") for tail in ("", "/", "/v1", "/v1/infer", "/v1/infer/")} == {"http://host:8000/nim"}


@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "nonsense://proxy"), ("HTTPS_PROXY", "http://[::1"), ("SSL_CERT_FILE", "/nowhere/at/all.pem")]
)
def test_a_wrongly_configured_network_is_a_refusal_and_not_a_crash(settings, generate, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    nim = Nim(replace(settings, nim_url="http://nim.invalid:8000"))
    assert "proxy or certificates" in nim.refusal(MODES["text"]).reason
    hosted = Hosted(replace(settings, nvidia_api_key="nvapi-x", hosted_url="https://hosted.invalid/flux"))
    with pytest.raises(BackendUnavailable, match="proxy or certificates"):
        generate(hosted)


def test_a_proxy_does_not_stand_between_this_machine_and_itself(stand_in, hosted, generate, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    generate(hosted())


def test_the_key_goes_out_only_when_the_certificate_is_verified(stand_in, settings, generate, open_backend, certificate, monkeypatch):
    stand_in.speak_tls(*certificate)
    url = stand_in.hosted_url.replace("http://", "https://")
    backend = open_backend(Hosted, replace(settings, backend="hosted", nvidia_api_key=GOOD_KEY, hosted_url=url))
    with pytest.raises(Unreachable, match="cannot be verified"):
        generate(backend)
    assert stand_in.requests == []
    backend.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    generate(backend)
    with pytest.raises(GenerationFailed, match="link"):  # it leads from TLS to plain HTTP
        generate(backend, prompt="__large__")
    assert {request.path for request in stand_in.requests} == {HOSTED_PATH}
