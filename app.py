"""The page: ``python app.py``, and what a Hugging Face Space runs. Settings, then studio, then page, then launch."""

from __future__ import annotations

import os

from flux_demo.settings import ON

if os.environ.get("SPACES_ZERO_GPU", "").strip().lower() in ON:  # set by Hugging Face on a ZeroGPU Space
    import spaces  # noqa: F401  before torch, whose CUDA it replaces

import argparse
import signal
import sys
import threading
import time
from dataclasses import replace

from flux_demo import environment, listening
from flux_demo.errors import FluxDemoError
from flux_demo.exit_codes import DONE, INTERRUPTED, REFUSED
from flux_demo.libraries import raise_gc_threshold
from flux_demo.settings import BACKENDS, Settings
from flux_demo.streams import discard_output, exit_now, make_writable

demo = None  # the page, under the name by which Spaces look for it


def main(arguments: list[str] | None = None) -> int:
    """Start the page and run until Ctrl+C or SIGTERM, the normal ways to stop it. Returns the exit code."""
    make_writable()
    raise_gc_threshold()
    args = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        start(args)
        while True:
            time.sleep(3600)
    except FluxDemoError as error:
        return _refuse(str(error))
    except ImportError as error:
        return _refuse(f"{error.name or 'A library'} cannot be imported: {error}. Install what requirements.txt names, or type: make run")
    except KeyboardInterrupt:
        if demo is None or not demo.is_running:
            return INTERRUPTED
        _close(demo)
        return DONE
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        what = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0][:300].rstrip(".")
        return _refuse(f"The page cannot start: an unexpected error occurred ({what}). Run python -X dev app.py to see where.")


def start(args: argparse.Namespace):
    """Build the page, put it on its address, and load the models behind it. Raises FluxDemoError."""
    settings = Settings.from_env(backend=args.backend, outputs=args.outputs, auth=args.auth)
    host, port = _address(args)
    allow_unfiltered = args.allow_unfiltered or settings.allow_unfiltered
    declared, public = settings.public, is_public(args, settings)
    settings = replace(settings, public=public, allow_unfiltered=allow_unfiltered)
    if public and declared is False:
        _print(
            "FLUX_DEMO_PUBLIC=0 has no effect here: strangers can reach a page that has a public link or runs on a Space. "
            "Leave the variable out, or do not share the page.",
            sys.stderr,
        )
    for note in (*environment.prepare(own_hosts=(host,)), *environment.prepare_page()):
        _print(note, sys.stderr)
    from flux_demo.studio import Studio

    studio = Studio.from_settings(settings)
    studio.gallery.check()
    from flux_demo.ui import build, launch_options  # which takes seconds

    global demo
    _prepare(studio)
    page = demo = build(studio)
    try:
        _, _, shared = page.launch(
            server_name=listening.in_url(host),
            server_port=port,
            share=_shares(args),
            auth=settings.login,
            prevent_thread_lock=True,
            quiet=True,
            **launch_options(),
        )
    except OSError as error:
        why = f"{error.filename} {error.strerror}" if error.filename else error.strerror or "its port was taken meanwhile"
        raise FluxDemoError(f"The page cannot start: {why}. Fix that, or choose another --port.") from error
    if _shares(args) and not shared and not settings.space_id:  # to go on would treat its owner's images as strangers', and delete them
        _close(page)
        raise FluxDemoError(
            "No public link could be made, for the reason above. Check the connection, or start without --share or GRADIO_SHARE."
        )
    if settings.login is None and not settings.space_id:
        _say_who_may_enter(host, shared, public)
    _print(f"Running on {listening.to_open(host, port)}")
    if settings.public and settings.allow_unfiltered:
        from flux_demo.safety import ACCEPTED

        _print(ACCEPTED)
    if shared:
        _print(f"Running on {shared} for everybody who has the link")
    if not settings.zero_gpu:
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
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="require this login to open the page (default: FLUX_DEMO_AUTH)")
    return parser


def is_public(args: argparse.Namespace, settings: Settings) -> bool:
    """Whether strangers can reach the page. FLUX_DEMO_PUBLIC overrides what the host implies, but not a public link or a Space."""
    if _shares(args) or settings.space_id:
        return True
    if settings.public is not None:
        return settings.public
    return not listening.is_loopback(listening.without_brackets(_host(args)))


def _shares(args: argparse.Namespace) -> bool:
    """Whether a public link is made: by --share or GRADIO_SHARE, and never because Gradio takes the machine for a hosted notebook."""
    return args.share or os.environ.get("GRADIO_SHARE", "").lower() == "true"


def _host(args: argparse.Namespace) -> str | None:
    return args.host if args.host is not None else os.environ.get("GRADIO_SERVER_NAME")


def _address(args: argparse.Namespace) -> tuple[str, int]:
    """Host and port: the options, else Gradio's own variables, as on Spaces, else Gradio's defaults. Raises InvalidRequest."""
    host = listening.read_host(_host(args), "--host" if args.host is not None else "GRADIO_SERVER_NAME")
    port, name = (args.port, "--port") if args.port is not None else (os.environ.get("GRADIO_SERVER_PORT"), "GRADIO_SERVER_PORT")
    port = listening.read_port(host, port, name)
    # Gradio reads both when it is imported, and asks for a free port by IPv4 only.
    os.environ["GRADIO_SERVER_NAME"] = listening.HOST if ":" in host else host
    os.environ["GRADIO_SERVER_PORT"] = str(port)
    return host, port


def _say_who_may_enter(host: str, shared: str | None, public: bool) -> None:
    """One line for whoever opens the page to others, once."""
    if listening.is_loopback(host) and not shared:
        return
    if shared:
        who = "Everybody who has the link"
    elif public:
        who = "Everybody who can reach this machine over the network"
    else:  # the address is open all the same: whether something else closes it, the program cannot see
        who = f"FLUX_DEMO_PUBLIC=0 makes this page count as yours alone, but it listens on {host}: everybody who can reach that"
    closes = "Set --auth USER:PASSWORD or FLUX_DEMO_AUTH to require a password."
    _print(f"{who} can use this page, and with it this machine and the services that you pay for. {closes}", sys.stderr)


def _print(line: str, file=None) -> None:
    """A line that nothing depends on: the page runs, whether or not it can be said."""
    try:
        print(line, file=file or sys.stdout, flush=True)
    except OSError:
        discard_output()


def _refuse(sentence: str) -> int:
    _print(sentence, sys.stderr)
    return REFUSED


def _prepare(studio) -> None:
    """What has to be done on the main thread, before there is a page."""
    if studio.settings.zero_gpu:  # a Space there needs a function that asks for a GPU, whatever runs
        from flux_demo.backends.zero import ZeroGpu

        if not any(isinstance(backend, ZeroGpu) for backend in studio.backends):
            ZeroGpu(studio.settings)
    for backend in studio.backends:
        backend.prepare()
    if studio.settings.zero_gpu:
        _warm_up(studio)  # not beside the page: a worker is forked at any moment, and inherits the locks of threads that load


def _warm_up(studio) -> None:
    """Load the models of the chosen backends ahead of the first image."""
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
    if "flux_demo.ui" in sys.modules:
        sys.modules["flux_demo.ui"].remove_temporary()
    exit_now(code)
