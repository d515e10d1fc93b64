"""The connection to a service, opened when it is first needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flux_demo.backends.nvidia.address import url_is_loopback
from flux_demo.backends.nvidia.errors import Service
from flux_demo.backends.nvidia.pace import Pace

if TYPE_CHECKING:
    from flux_demo.backends.nvidia.client import Connection


class LazyConnection:
    """Opened late because httpx takes a while to import; a forked process opens its own."""

    def __init__(self, service: Service, url: str, pace: Pace) -> None:
        self._service, self._url, self._pace = service, url, pace
        self._connection: Connection | None = None
        self._process = 0

    def connection(self) -> Connection:
        if self._connection is None or self._process != os.getpid():  # the connection's thread does not survive a fork
            from flux_demo.backends.nvidia.client import Connection

            self._connection = Connection(self._service, self._pace, proxies=not url_is_loopback(self._url))
            self._process = os.getpid()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
