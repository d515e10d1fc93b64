"""Stands in for a ZeroGPU Space of Hugging Face on any machine: the real ``spaces`` package, a device API on loopback, and no GPU.

    python -m stand_ins.zerogpu [options of app.py]

In the parent ``spaces`` claims a GPU, as there, and CUDA that it does not intercept raises an error. A call forks a worker, in which the
packed tensors are read back into main memory, so "cuda" is the CPU there. ``GET /calls`` of the API lists what it was asked;
``POST /next`` sets the next answer to ``/schedule``: its status, headers and content.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LENT = {"status": 200, "headers": {}, "content": {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "t"}}


class DeviceApi(ThreadingHTTPServer):
    """Lends the one GPU to whoever asks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[dict[str, Any]] = []
        self.next: dict[str, Any] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: DeviceApi

    def do_GET(self) -> None:
        self._answer(200, {}, self.server.calls)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = urlsplit(self.path)
        if where.path == "/next":
            self.server.next = json.loads(content)
            return self._answer(200, {}, {})
        self.server.calls.append({"path": where.path} | dict(parse_qsl(where.query)))
        answer: dict[str, Any] = {"status": 200, "headers": {}, "content": {}}
        if where.path == "/schedule":
            answer, self.server.next = self.server.next or LENT, None
        self._answer(answer["status"], answer["headers"], answer["content"])

    def _answer(self, status: int, headers: dict[str, str], content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def install(url: str, folder: str) -> None:
    """Make this process a ZeroGPU Space's, before anything imports torch. ``folder`` takes the packed tensors."""
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": url,
        "ZEROGPU_OFFLOAD_DIR": f"{folder}/tensors",
        "ZEROGPU_MMAP_AUTOPRUNE_PATTERN": f"{folder}/none",  # a Space deletes from the Hub's cache what it has packed; this machine does not
    }
    import torch

    torch.version.cuda = "12.8"
    torch._C._cuda_init = _no_cuda
    torch.cuda._is_in_bad_fork = _in_no_bad_fork
    os.O_DIRECT = 0  # not every file system of a temporary folder has it

    import spaces.zero
    import spaces.zero.torch.packing as packing

    packing.VM_MAX_SIZE = 2**28  # bytes that are set aside for each tensor; there it is half of the main memory
    spaces.zero.torch.init = lambda uuid: None
    spaces.zero.torch.move = _move


def _in_no_bad_fork() -> bool:  # at the top of the module, because spaces pickles it
    return False


def _no_cuda() -> None:
    raise RuntimeError("No CUDA here")


def _move(callback: Any = None) -> None:
    """What is on the GPU in a real worker, in main memory."""
    from spaces.zero.torch import patching

    for fake, original in patching.cuda_aliases.items():
        if original is not None:
            fake.data = original
    for pack in patching.tensor_packs:
        with open(pack.path(), "rb") as file:
            for tensor, size, aligned in [*(row for batch in pack.batches for row in batch), *pack.big_tensors]:
                _give_back(pack.fakes[tensor], tensor, file.read(aligned)[:size])


def _give_back(fakes: Any, tensor: Any, content: bytes) -> None:
    import torch

    storage = torch.frombuffer(bytearray(content), dtype=torch.uint8).clone().untyped_storage() if content else torch.UntypedStorage(0)
    value = torch.tensor([], dtype=tensor.dtype).set_(storage, 0, tensor.shape, tensor.stride())
    for fake in fakes:
        fake.data = value


def main() -> int:
    api = DeviceApi()
    threading.Thread(target=api.serve_forever, daemon=True).start()
    print(f"Device API on {api.url}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        install(api.url, folder)
        import app

        return app.main(sys.argv[1:])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
