"""Where the page listens: the address that is checked is the one that is used."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from flux_demo.errors import InvalidRequest

HOST, PORT = "127.0.0.1", 7860  # Gradio's own, where nobody says anything
PORTS_TRIED = 100  # from 7860 up, where nobody names one, as Gradio does
ALL = {"0.0.0.0": "localhost", "::": "::1"}  # what one opens in a browser for "all addresses"
BLOCKED = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # such as IPv6 where it is turned off


def read_host(host: str | None, name: str = "--host") -> str:
    """An address without brackets. ``name`` is where it comes from. Raises InvalidRequest for one that this machine does not have."""
    host = without_brackets(host)
    try:
        _addresses(host, 0)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{host[:80]!r} is not an address of this machine. Give {name} 127.0.0.1, or 0.0.0.0 for all addresses."
        ) from error
    return host


def without_brackets(host: str | None) -> str:
    """An address as people write it; Gradio's own where they write none."""
    host = (host or "").strip() or HOST
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def read_port(host: str, port: int | str | None, name: str) -> int:
    """A port that is free: the one that is named, else the first from 7860 up. ``name`` is where it comes from. Raises InvalidRequest."""
    if port is None or port == "":
        for tried in range(PORT, PORT + PORTS_TRIED):
            if _is_free(host, tried):
                return tried
        raise InvalidRequest(
            f"The ports from {PORT} to {PORT + PORTS_TRIED - 1} are all taken. Name another with --port, or stop a program that has one."
        )
    if not str(port).strip().isdecimal() or not 0 < int(port) < 65536:
        raise InvalidRequest(f"{str(port)[:40]!r} is not a valid port. Give {name} a number from 1 to 65535.")
    port = int(port)
    if not _is_free(host, port):
        raise InvalidRequest(f"Port {port} is taken by another program. Give another {name}, or stop that program.")
    return port


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address, as far as the address itself says."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def in_url(host: str) -> str:
    """An address as a URL has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def to_open(host: str, port: int) -> str:
    """The URL at which this machine's browser finds the page."""
    return f"http://{in_url(ALL.get(host, host))}:{port}/"


def _is_free(host: str, port: int) -> bool:
    # Gradio asks 127.0.0.1 for the port too, whatever the host.
    places = {*_addresses(host, port), *_addresses(HOST, port)}
    try:
        for family, address in places:
            with _bound(family, address):
                pass
    except PermissionError as error:
        if port >= 1024:  # Windows keeps some for Hyper-V
            return False
        raise InvalidRequest(f"This user may not use port {port}. Give --port a number from 1024 up.") from error
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise _not_here(host) from error
        return False
    return True


def _addresses(host: str, port: int) -> list[tuple[int, tuple]]:
    """Family and socket address of everything that the host's name stands for and this machine has. Raises InvalidRequest."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _not_here(host) from error
    ours: list[tuple[int, tuple]] = []
    for family, _, _, _, address in found:
        try:
            with _bound(family, (address[0], 0, *address[2:])):
                ours.append((family, address))
        except OSError as error:
            if error.errno not in BLOCKED:
                raise _not_here(host) from error
    if not ours:
        raise _not_here(host)
    return ours


@contextmanager
def _bound(family: int, address: tuple) -> Iterator[None]:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # as the server does; without it a port just left counts as taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)
        yield


def _not_here(host: str) -> InvalidRequest:
    return InvalidRequest(f"{host[:80]!r} is not an address of this machine. Give --host 127.0.0.1, or 0.0.0.0 for all addresses.")
