"""The names under which the page is reached: what a browser may put into Host and Origin."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.settings import Settings

NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
SPACES = (".hf.space",)
FRAMED_BY_SPACES = "https://huggingface.co https://*.huggingface.co https://*.hf.space"


@dataclass(frozen=True)
class Hosts:
    """Which Host and which Origin belong to this page."""

    names: frozenset[str]  # lower case, without a port
    on_spaces: bool

    @classmethod
    def of(cls, settings: Settings, share_url: str | None) -> "Hosts":
        """What the settings and the public link say. Raises InvalidRequest for a name that no browser sends."""
        said = [address for address in (settings.root_path, share_url) if address and "://" in address]
        for names in (settings.hosts, settings.space_host):
            said += (names or "").replace(",", " ").split()
        return cls(frozenset(map(_named, said)), bool(settings.space_host))

    def serves(self, host: str, listened_on: str | None) -> bool:
        """Whether a request with this Host header may have come for this page.

        ``listened_on`` is the local address of the connection. A site that points its own name to this machine (DNS rebinding) sends
        that name; an address, on the other hand, cannot be anybody else's.
        """
        name = _name(host)
        if not name:
            return False
        if name in self.names or (self.on_spaces and name.endswith(SPACES)):
            return True
        if (address := _address(name)) is not None:
            return _is_own(address) or not _is_own(_address(listened_on or ""))
        return name in own_names(_is_own(_address(listened_on or "")))

    def takes(self, origin: str, host: str) -> bool:
        """Whether a page of this Origin may call: this page itself, under the address that its Host says, or under another of its names."""
        parts = _split(origin)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        if parts.hostname in self.names:
            return True
        default = {"http": 80, "https": 443}[parts.scheme]
        own = _split(f"{parts.scheme}://{host}")
        return own is not None and (parts.hostname, parts.port or default) == (own.hostname, own.port or default)

    def address_of(self, request: Any) -> str:
        """The network address that a request came from; on Spaces the one that its proxy names. For IPv6 it is the /64 network, because
        a machine there can take any of its addresses."""
        client = getattr(request, "client", None)
        address = getattr(client, "host", None) or ""
        if self.on_spaces:
            forwarded = str(request.headers.get("x-forwarded-for", ""))
            address = forwarded.rpartition(",")[2].strip()[:64] or address
        found = _address(address)
        if found is None or found.version == 4 or found.is_loopback or found.is_link_local:
            return address
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))

    @property
    def framed_by(self) -> str:
        """The value of the policy's ``frame-ancestors``."""
        return FRAMED_BY_SPACES if self.on_spaces else "'none'"


@lru_cache(maxsize=2)
def own_names(loopback: bool) -> frozenset[str]:
    """The names of this machine: localhost alone where only this machine can connect."""
    machine = "" if loopback else socket.gethostname().lower()
    return frozenset({"localhost"} | ({machine, f"{machine.partition('.')[0]}.local"} if machine else set()))


def _split(address: str) -> Any:
    """The parts of an address; None if it is malformed. Reading ``port`` raises as well, so it is read here."""
    try:
        parts = urlsplit(address)
        return parts if (parts.port or 1) and not (parts.path or parts.query or parts.fragment or parts.username) else None
    except ValueError:
        return None


def _name(host: str) -> str:
    """The name in a Host header, lower case; empty when there is none."""
    parts = _split(f"//{host.strip()}")
    return (parts.hostname or "").rstrip(".") if parts else ""


def _named(entry: str) -> str:
    """The name in an entry of the settings, which may be an address with a path."""
    name = _name(entry.rpartition("://")[2].partition("/")[0])
    if not _address(name) and not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{shortened(entry)} is not a name under which a browser can reach the page. "
            "Write FLUX_DEMO_HOSTS as studio.example.org, and GRADIO_ROOT_PATH as /flux or https://example.org/flux."
        )
    return name


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_own(address: Any) -> bool:
    """Loopback, or the unspecified address, which reaches loopback."""
    return address is not None and (address.is_loopback or address.is_unspecified)
