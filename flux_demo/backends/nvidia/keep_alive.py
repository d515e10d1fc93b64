"""TCP keep-alive for connections over which nothing is sent for minutes, while a service generates an image."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

OPTIONS = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,
}  # seconds, and probes; each where the system has it


async def keep_alive(event: str, info: Mapping[str, Any]) -> None:
    """An httpx ``trace``: turns keep-alive on when a connection is made, with or without a proxy.

    Routers do not forget such a connection, and one whose other end has vanished ends with an error.
    """
    if event == "connection.connect_tcp.complete":
        connected = info["return_value"].get_extra_info("socket")
        with contextlib.suppress(OSError):  # the image is generated without it too
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in OPTIONS.items():
                if hasattr(socket, name):
                    connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
