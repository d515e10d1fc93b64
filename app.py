"""The page: ``python app.py``, and what a Hugging Face Space runs. Settings, then studio, then page, then launch."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace

from flux_demo.backends.nvidia.address import is_loopback
from flux_demo.errors import FluxDemoError, InvalidRequest
from flux_demo.settings import BACKENDS, Settings

LOOPBACK = "127.0.0.1,localhost"
demo = None  # the page, under the name by which Spaces look for it


def main(arguments: list[str] | None = None) -> int:
    """Start the page and stay until Ctrl+C or a termination signal, which are the ordinary ends. Returns the exit code."""
    asked = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    _prepare_libraries()
    page = None
    try:
        page = start(asked)
        while True:
            time.sleep(3600)
    except FluxDemoError as error:
        print(error, file=sys.stderr, flush=True)
        return 3
    except ImportError as error:
        print(
            f"{error.name or 'A library'} cannot be imported: {error}. Install what requirements.txt names, or type: make run",
            file=sys.stderr,
        )
        return 3
    except KeyboardInterrupt:
        if page is None:
            return 130
        _close(page)
        return 0


def start(asked: argparse.Namespace):
    """Build the page, put it on its address, and load the models behind it. Raises FluxDemoError."""
    settings = Settings.from_env()
    chosen = {"backend": asked.backend, "outputs": asked.outputs}
    settings = replace(settings, **{name: value for name, value in chosen.items() if value})
    settings = replace(settings, public=is_public(asked, settings), allow_unfiltered=asked.allow_unfiltered)
    global demo
    _check_address(asked.host, asked.port)
    from flux_demo.studio import Studio
    from flux_demo.ui import build, launch_options

    studio = Studio.from_settings(settings)
    page = demo = build(studio)
    try:
        # None for host and port: Gradio's own variables decide, as on Spaces.
        _, address, shared = page.launch(
            server_name=asked.host,
            server_port=asked.port,
            share=asked.share or None,
            prevent_thread_lock=True,
            quiet=True,
            **launch_options(),
        )
    except OSError as error:
        raise InvalidRequest("The page found no free port. Name one with --port, or stop the program that has it.") from error
    print(f"Running on {address}", flush=True)
    if settings.public and settings.allow_unfiltered:
        from flux_demo.safety import ACCEPTED

        print(ACCEPTED, flush=True)
    if shared:
        print(f"Running on {shared} for everybody who has the link", flush=True)
    threading.Thread(target=_warm_up, args=(studio,), daemon=True).start()
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py", description="Start the page for FLUX.1 [dev], Canny and Depth.", allow_abbrev=False
    )
    parser.add_argument("--backend", choices=("auto", *BACKENDS), help="where to run (default: auto, the first that can)")
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 for other machines too (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio's service")
    parser.add_argument("--outputs", metavar="DIR", help="folder where images are kept (default: outputs)")
    parser.add_argument("--allow-unfiltered", action="store_true", help="let strangers see FLUX's images without the content filter")
    return parser


def is_public(asked: argparse.Namespace, settings: Settings) -> bool:
    """Whether strangers can reach the page."""
    host = (asked.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
    return asked.share or bool(settings.space_id) or not is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}")


def _prepare_libraries() -> None:
    """What libraries read from the environment when they are imported: no telemetry, no chatter, no proxy to ourselves."""
    defaults = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own address whether it is up
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))


def _check_address(host: str | None, port: int | None) -> None:
    """Raise InvalidRequest, in words, for an address that cannot be listened on. Gradio says only that it found no port."""
    if port is None and host is None:
        return
    if port is not None and not 0 < port < 65536:
        raise InvalidRequest(f"{port} is not a valid port. Give --port a number from 1 to 65535.")
    host = (host or "127.0.0.1").strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"{host!r} is not an address of this machine. Give --host 127.0.0.1, or 0.0.0.0 for all addresses.") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does; without it a port just left counts as taken
        try:
            probe.bind(address)
        except PermissionError as error:
            raise InvalidRequest(f"This user may not use port {port}. Give --port a number from 1024 up.") from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidRequest(
                    f"{host!r} is not an address of this machine. Give --host 127.0.0.1, or 0.0.0.0 for all addresses."
                ) from error
            raise InvalidRequest(f"Port {port} is taken by another program. Give another --port, or stop that program.") from error


def _warm_up(studio) -> None:
    """Load the models of the chosen backends once the page is up, so that the first image need not wait for them."""
    from flux_demo.modes import MODES

    for mode in MODES.values():
        try:
            studio.route(mode.name).backend.warm_up(mode)
        except Exception:  # whatever it is, the first run meets it again and says it in words
            continue


def _end(signum, frame) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    raise KeyboardInterrupt


def _close(page) -> None:
    """Free the port and take the public link down; a run that is under way is not waited for."""
    from gradio.tunneling import CURRENT_TUNNELS

    closing = threading.Thread(target=page.close, args=(False,), daemon=True)
    closing.start()
    closing.join(timeout=2)
    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if "flux_demo.ui" in sys.modules:
        sys.modules["flux_demo.ui"].remove_temporary()
    os._exit(code)  # without waiting for the threads of libraries and of a run that is under way
