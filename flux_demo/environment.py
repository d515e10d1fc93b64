"""The environment as the libraries below us need it, for the page and the command line alike. Called before they are imported.

What a library would end with a stack trace is put in words here, with the variable's name and never its value: proxies hold passwords.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from flux_demo import folders
from flux_demo.errors import InvalidRequest, shortened

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")  # that httpx knows, and httpx2, which Hugging Face's library uses
DEFAULTS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    # Torch's threads wait for each other thousands of times per image. By default they spin for a long time, and where another program has
    # one of two cores, an image of the mini takes thirty times as long (benchmarks/busy.py). Here they soon sleep: at once, or
    # with GNU's OpenMP after a thousand spins, which costs less on a quiet machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
}
# Hugging Face's library takes an empty one for the current folder; here it counts as not set. The first that is set counts.
HUB_FOLDERS = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
ENDPOINT = "HF_ENDPOINT"
# Of each pair it reads the first that is set.
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HUB_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
UNREADABLE = "{} names {}, which the libraries cannot read, so that host is reached through the proxy. Write its network address instead."
# Read with int() when the library is imported.
WHOLE_NUMBERS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
GRADIO_WHOLE_NUMBERS = ("GRADIO_NUM_PORTS", "GRADIO_NODE_NUM_PORTS", "GRADIO_ANALYTICS_MAX_EVENTS")
# Gradio takes each of them for an argument that its launch was not given, or for that of its own command; they are dropped before it can.
GRADIO_DROPPED = (
    "GRADIO_ALLOWED_PATHS",  # the page would serve files of this machine
    "GRADIO_BLOCKED_PATHS",  # it serves its own alone, so that this could only withhold results and uploads
    "GRADIO_DEBUG",  # launch would not return, and would swallow Ctrl+C
    "GRADIO_NUM_WORKERS",  # each would take uploads at a port of its own, without the guard
    "GRADIO_WATCH_DIRS",  # the program's source would be run again, from a thread that fails
    "GRADIO_VIBE_MODE",  # the page would show an editor of that source, for which the guard has no path
)

LIMIT, ROOT = "GRADIO_DEFAULT_CONCURRENCY_LIMIT", "GRADIO_ROOT_PATH"
COMPILED = "TORCHINDUCTOR_CACHE_DIR"  # which torch makes while diffusers is imported, whatever is compiled


def prepare(environ: MutableMapping[str, str] = os.environ, own_hosts: Iterable[str] = ()) -> list[str]:
    """Make the libraries quiet and leave cores to others, check that they can read their proxies, and never use one for this machine's own addresses.

    ``own_hosts`` are further addresses of this program. Returns what the person should know, in sentences. Raises InvalidRequest naming the variable
    that no library could read.
    """
    for name, value in DEFAULTS.items():
        environ.setdefault(name, value)
    for name in (*HUB_FOLDERS, ENDPOINT):
        if not environ.get(name, "x").strip():
            del environ[name]
    _take_system_proxies(environ)
    for name in PROXIES:
        for variable in (name, name.upper()):
            if environ.get(variable):
                environ[variable] = _proxy(variable, environ[variable].strip())
    named = [(name, entry) for name in ("no_proxy", "NO_PROXY") for entry in environ.get(name, "").split(",") if entry.strip()]
    lost = {shortened(entry.strip()): name for name, entry in named if direct_host(entry) is None}
    # Either case is read by some library and not by others, and the lower one hides the upper one: both say the same from here on.
    entries = dict.fromkeys(filter(None, (*(direct_host(entry) for _, entry in named), *LOOPBACK, *own_hosts)))
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(entries)
    _check_whole_numbers(environ, WHOLE_NUMBERS)
    _check_certificates(environ)
    _check_endpoint(environ)
    compiled = environ.get(COMPILED)
    if compiled and not os.path.isdir(compiled) and (why := folders.problem(Path(compiled))):
        raise InvalidRequest(f"{COMPILED} names a folder that cannot be made, because {why}. Correct it, or unset it.")
    proxied = any(environ.get(variable) for name in PROXIES for variable in (name, name.upper()))
    return [UNREADABLE.format(name, entry) for entry, name in lost.items()] if proxied else []


def _take_system_proxies(environ: MutableMapping[str, str]) -> None:
    """Name the proxies of Windows's or macOS's own settings in variables: once ``no_proxy`` is set, libraries no longer look there."""
    if sys.platform not in ("win32", "darwin") or any(environ.get(variable) for name in PROXIES for variable in (name, name.upper())):
        return
    from urllib.request import getproxies

    for scheme, address in getproxies().items():
        if f"{scheme}_proxy" in PROXIES:
            with suppress(InvalidRequest):  # nobody could correct it by the name of a variable
                environ[f"{scheme}_proxy"] = _proxy(f"{scheme}_proxy", address)


def prepare_page(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """What only Gradio reads, before it is imported. Returns what the person should know, in sentences. Raises InvalidRequest naming the variable."""
    dropped = [name for name in GRADIO_DROPPED if environ.pop(name, None)]
    _check_whole_numbers(environ, GRADIO_WHOLE_NUMBERS)
    if environ.get(LIMIT, "").lower() != "none":
        _check_whole_numbers(environ, [LIMIT], least=1)
    root = environ.get(ROOT, "")
    if root and not re.fullmatch(r"(https?://[^\s/?#]+)?(/[^\s?#]*)?", root):
        raise InvalidRequest(
            f"{ROOT} is {shortened(root)}, and it takes a path or an address. Write it as /flux or as https://example.org/flux, or unset it."
        )
    return [f"{name} has no effect on this page. Leave it out." for name in dropped]


def direct_host(entry: str) -> str | None:
    """An entry of ``no_proxy`` as every library reads it; None for what one of them fails at: such a host is reached through the proxy.

    httpx fails at ``münchen.example``, and httpx2 at ``xn--mnchen-3ya.example``. Brackets and the port of an IPv6 address go, and
    ``*.example.org`` becomes ``.example.org``.
    """
    entry = entry.strip()
    entry = bracketed[1] if (bracketed := re.fullmatch(r"\[([^\]]*)\](?::\d+)?", entry)) else entry
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        pass
    entry = entry.removeprefix("*") if entry.startswith("*.") else entry
    if "xn--" in entry.lower():
        return None
    return entry if re.fullmatch(r"\*|[A-Za-z0-9._-]+(?:/\d{1,2}|:\d{1,5})?", entry) else None


def _proxy(variable: str, value: str) -> str:
    """A proxy's address as httpx and httpx2 read it. ``socks://``, which desktops write, means SOCKS 5. Raises InvalidRequest."""
    scheme, has_scheme, rest = value.rpartition("://")
    scheme = scheme.lower() if has_scheme else "http"
    scheme = "socks5" if scheme == "socks" else scheme
    if scheme not in PROXY_SCHEMES:
        raise InvalidRequest(
            f"{variable} names a kind of proxy that cannot be used here ({scheme[:20]}). "
            f"Write it as one of {', '.join(f'{known}://' for known in PROXY_SCHEMES)}, or unset it."
        )
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        usable = parts.hostname and parts.port != 0 and re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname)
    except ValueError:  # a malformed bracket or port
        usable = None
    if not usable or any(not 32 < ord(letter) < 127 for letter in rest):
        raise InvalidRequest(f"{variable} is not the address of a proxy. Write it as {scheme}://HOST:PORT, or unset it.")
    return f"{scheme}://{rest}"


def _check_whole_numbers(environ: Mapping[str, str], names: Iterable[str], least: int = 0) -> None:
    for name in names:
        value = environ.get(name, "")
        try:
            usable = not value or int(value) >= least
        except ValueError:
            usable = False
        if not usable:
            raise InvalidRequest(f"{name} is {value[:40]!r}, and it takes a whole number from {least} up. Correct it, or unset it.")


def _check_endpoint(environ: Mapping[str, str]) -> None:
    if (value := environ.get(ENDPOINT)) is None:
        return
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and value.isprintable() and " " not in value
    except ValueError:  # a malformed bracket or port
        usable = False
    if not usable:
        raise InvalidRequest(f"{ENDPOINT} is not the address of a server. Write it as https://HOST, or unset it.")


def _check_certificates(environ: MutableMapping[str, str]) -> None:
    """httpx and httpx2 load these at their first use; httpx's is Gradio's import."""
    if not (environ.get("SSL_CERT_FILE") or environ.get("SSLKEYLOGFILE")):
        return
    import ssl  # 50 ms

    try:
        name = "SSL_CERT_FILE"
        if environ.get(name):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=environ[name])
        name = "SSLKEYLOGFILE"
        if environ.get(name):
            with open(environ[name], "ab"):
                pass
    except OSError as error:  # ssl.SSLError is one, whose words are OpenSSL's own
        why = "it holds no certificates" if isinstance(error, ssl.SSLError) else (error.strerror or "it cannot be read").lower()
        raise InvalidRequest(f"{name} names a file that cannot be used ({why}). Correct it, or unset it.") from error


def cuda_visible_devices(environ: Mapping[str, str] = os.environ) -> str | None:
    """Which GPUs CUDA shows, as the person named them; None: all. An empty value hides all of them."""
    return environ.get("CUDA_VISIBLE_DEVICES")


def cuda_device_order(environ: Mapping[str, str] = os.environ) -> str | None:
    """In which order CUDA numbers them: PCI_BUS_ID, or, by default, the fastest first."""
    return environ.get("CUDA_DEVICE_ORDER")


def hub_cache_variable(environ: Mapping[str, str] = os.environ) -> str | None:
    """Which variable says where Hugging Face's library keeps downloads; None where none is set. The first of them counts."""
    return next((name for name in HUB_FOLDERS if name in environ), None)


def hub_token_variable(environ: Mapping[str, str] = os.environ) -> str | None:
    """Which variable Hugging Face's library takes its token from; None where none is set."""
    return next((name for name in HUB_TOKENS if environ.get(name)), None)


def hub_offline_variable(environ: Mapping[str, str] = os.environ) -> str:
    """Which variable keeps Hugging Face's library off the network, where something does."""
    return next((name for name in HUB_OFFLINE if environ.get(name)), HUB_OFFLINE[0])


def hub_address(environ: Mapping[str, str] = os.environ) -> str | None:
    """Where Hugging Face's library asks, if not at huggingface.co."""
    return environ.get(ENDPOINT)


def through_proxy(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """How an address is reached, as a clause that names the variable with the proxy; empty where it is asked directly."""
    parts = urlsplit(url)
    hosts = (f".{parts.hostname}", f".{parts.netloc.rpartition('@')[2]}")  # an entry may have a port
    direct = [entry for entry in environ.get("no_proxy", "").split(",") if entry]
    if any(entry == "*" or host.endswith(f".{entry.removeprefix('.')}") for entry in direct for host in hosts):
        return ""
    names = (variable for name in (f"{parts.scheme}_proxy", "all_proxy") for variable in (name, name.upper()))
    return next((f" through the proxy in {name}" for name in names if environ.get(name)), "")


def named_compiler(environ: Mapping[str, str] = os.environ) -> str | None:
    """The C++ compiler that torch.compile is told to call, if any."""
    return environ.get("CXX") or None


def keep_compiled_code(folder: str | os.PathLike, environ: MutableMapping[str, str] = os.environ) -> None:
    """Let torch.compile keep what it makes there, if the person has not said where: its own place is emptied at a restart."""
    environ.setdefault(COMPILED, os.fspath(folder))
