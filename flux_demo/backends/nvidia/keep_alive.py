"""TCP keep-alive for connections over which nothing is sent for minutes, while a service generates an image."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

# Seconds, and probes; each where the system has it.
OPTIONS = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


async def keep_alive(event: str, info: Mapping[str, Any]) -> None:
    """An httpx ``trace``: turns keep-alive on when a connection is made, with or without a proxy.

    It keeps routers from dropping an idle connection, and turns a peer that has vanished into an error.
    """
    if event != "connection.connect_tcp.complete":
        return
    connected: socket.socket | None = info["return_value"].get_extra_info("socket")
    if connected is None:
        return
    settings = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    settings += [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in OPTIONS.items() if hasattr(socket, name)]
    for setting in settings:
        with contextlib.suppress(OSError):  # the image is generated without it too
            connected.setsockopt(*setting)
