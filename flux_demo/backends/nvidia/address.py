"""Addresses of NVIDIA's services: whether one can be used, and the addresses derived from it."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from flux_demo.listening import is_loopback
from flux_demo.settings import HOSTED_URL

POLL_URL = "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status"  # followed by the request's id


def poll_url(url: str) -> str:
    """Where to poll for an image that was not finished at once: NVIDIA's own host, or the origin of the address that was set."""
    if url == HOSTED_URL:
        return POLL_URL
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "/v2/nvcf/pexec/status", "", ""))


def base_url(url: str) -> str:
    """A NIM's address without the path of an endpoint, which people tend to copy with it."""
    return url.rstrip("/").removesuffix("/v1/infer").removesuffix("/v1").rstrip("/")


def address_problem(variable: str, url: str) -> str | None:
    """Why an address cannot be used; None if it can. The address is never quoted, because it may contain a password."""
    example = "http://localhost:8000" if variable.endswith("NIM_URL") else HOSTED_URL
    remedy = f"Set it to an address such as {example}."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{variable} is not a valid address: its host or port cannot be read. {remedy}"
    if parts.scheme not in ("http", "https"):
        return f"{variable} does not begin with http:// or https://. {remedy}"
    if not host or port == 0 or not url.isprintable() or " " in url:
        return f"{variable} is not a valid address: its host or port cannot be read. {remedy}"
    if parts.username is not None or parts.query or parts.fragment:
        return f"{variable} contains a login, a ? or a #, which are not supported. {remedy}"
    return None


def clear_text_problem(url: str) -> str | None:
    """Why the key must not be sent to the address; None if it may."""
    if urlsplit(url).scheme == "https" or url_is_loopback(url):
        return None
    return "FLUX_DEMO_HOSTED_URL begins with http://, and your key would cross the network unencrypted. Use an https:// address."


def url_is_loopback(url: str) -> bool:
    """Whether the address is this machine's own: no proxy is needed to reach it, and plain HTTP leaks nothing."""
    host = urlsplit(url).hostname or ""
    return host.endswith(".localhost") or is_loopback(host)
