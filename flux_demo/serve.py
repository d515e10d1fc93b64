"""FLUX as a service for many users, on Ray Serve, with an NVIDIA NIM's API: ``make serve`` on one machine, ``serve deploy`` on a cluster.

``serve_ingress`` takes the requests, and ``serve_generator`` holds the models, once in each replica. The page and the command line use the service
through FLUX_DEMO_NIM_URL like any NIM.
"""

import argparse
import logging
import os
import queue
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from io import StringIO
from pkgutil import resolve_name
from typing import Any

import ray
from ray import serve

from flux_demo import background, streams
from flux_demo.backends.machine import processors
from flux_demo.errors import BackendUnavailable, FluxDemoError
from flux_demo.exit_codes import DONE, INTERRUPTED, REFUSED
from flux_demo.listening import is_loopback, read_host, read_port, to_open
from flux_demo.modes import MODES
from flux_demo.safety import ACCEPTED
from flux_demo.serve_generator import Generator
from flux_demo.serve_ingress import LOADING_TIMEOUT_S, Ingress
from flux_demo.serve_schema import SERVED, Options
from flux_demo.settings import ASSETS, BACKENDS, Settings

Event = int | Future[None]  # a signal, or the end of what one began

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAME = "flux_demo"  # of the application on Ray Serve
OBJECT_STORE = 256 * 2**20  # bytes of shared memory; a picture has a few million
HEALTH_CHECK_PERIOD_S = 3.0  # between two checks whether a replica is alive; a dead one is replaced after the next check
MAX_FAILED_STARTS = 3  # of a replica, before a deployment fails; Ray's own is three for each replica, with longer and longer waits
IDLE_S = 0.3  # between two checks, by a replica that is shutting down, whether its image is finished
DRAIN_S = 600.0  # that an image under way has to finish when its replica, or the service, is shut down
ONLY_GPUS = "FLUX_DEMO_DEVICE is cpu, and each replica of FLUX takes a GPU. Leave that setting out, or choose --backend mini."
NOT_STARTED = "Ray could not start on this machine ({}). Fix that, and try again."
NOT_FINISHED = "Images that were under way may be lost: they took more than ten minutes, or the service no longer answered."
NOT_DEPLOYED = (
    "Ray could not deploy the service. Its logs say why, by default those in /tmp/ray/session_latest/logs: fix that, and try again."
)


def application(options: Mapping[str, Any]) -> serve.Application:
    """The whole as one Ray Serve application; ``options`` are the fields of Options, also from a config's ``args``."""
    chosen = Options(**options)
    low, high = chosen.replica_range
    amount: dict[str, Any] = {"num_replicas": high}
    if low != high:
        amount = {"autoscaling_config": {"min_replicas": low, "max_replicas": high, "target_ongoing_requests": 1}}
    generator = serve.deployment(
        Generator,
        name="Generator",
        ray_actor_options={"num_gpus": 1} if chosen.backend == "local" else {"num_cpus": 1},
        max_ongoing_requests=1,
        graceful_shutdown_timeout_s=DRAIN_S,
        graceful_shutdown_wait_loop_s=IDLE_S,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        max_constructor_retry_count=MAX_FAILED_STARTS,
        **amount,
    )
    ingress = serve.deployment(
        Ingress,
        name="Ingress",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=DRAIN_S,
        graceful_shutdown_wait_loop_s=IDLE_S,
    )
    return ingress.bind(generator.bind(chosen.to_dict()), chosen.queue)


def start(options: Options, host: str = "127.0.0.1", port: int = 8000, cpus: int | None = None) -> None:
    """Start Ray and the service on this machine, and wait until its models are loaded or cannot be. Raises BackendUnavailable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    # Ray would start workers without the replicas' environment, and none of them could become a replica.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    # At Ray's default of 15, replicas get only the processor time that every other program leaves.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray.init(
            "local",  # its own Ray, whatever runs here already and whatever RAY_ADDRESS says
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            runtime_env={"env_vars": {"PYTHONPATH": str(ASSETS.parent)}},  # replicas find this program from whatever folder it was started
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray's own errors, Python's and the system's
        raise BackendUnavailable(NOT_STARTED.format((str(error) or type(error).__name__).partition("\n")[0][:200].rstrip("."))) from error
    check_gpus(options)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # at each start it says that the options below "will not be applied"
    serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR", "enable_access_log": False})
    deploy(options)


def check_gpus(options: Options) -> None:
    """Raise BackendUnavailable where Ray has fewer GPUs than the service would start with: it would wait for them, without a word."""
    gpus, fewest = int(ray.cluster_resources().get("GPU", 0)), options.replica_range[0]
    if options.backend == "local" and fewest > gpus:
        raise BackendUnavailable(
            f"Each replica takes a GPU of its own, and Ray finds {gpus} here for {fewest}. "
            "Ask for no more with --replicas, or for --backend mini, which needs none."
        )


def deploy(options: Options, name: str = NAME, route_prefix: str = "/") -> None:
    """Deploy the service, or redeploy it while the old replicas finish what they have. Says on standard error what cannot run there.

    Raises BackendUnavailable.
    """
    try:
        ingress = serve.run(application(options.to_dict()), name=name, route_prefix=route_prefix)
        refused: dict[str, str] = ingress.refused.remote().result(timeout_s=2 * LOADING_TIMEOUT_S)
    except Exception as error:  # Ray's own errors, and a RuntimeError with stack traces where no replica could be started
        raise BackendUnavailable(NOT_DEPLOYED) from error
    for reason in dict.fromkeys(refused.values()):
        modes = ", ".join(sorted(mode for mode in refused if refused[mode] == reason))
        print(f"Cannot run {modes}: {reason} Then start the service again, or send it SIGHUP.", file=sys.stderr, flush=True)


def finish() -> None:
    """Let the service take no more requests, and wait until those that it took are answered, for DRAIN_S at most: Ray's own shutdown waits for none."""
    ingress, until = serve.get_app_handle(NAME), time.monotonic() + DRAIN_S
    # Where the ingress is being replaced, the old one has requests of its own, and the new one has not been asked.
    while not ingress.finish.remote().result(timeout_s=until - time.monotonic()) or _ingress_replicas().get("STOPPING"):
        pass


def main(arguments: list[str] | None = None) -> int:
    """``make serve``: the service on this machine until Ctrl+C or a termination signal; a second one ends it at once. Returns the exit code.

    SIGHUP redeploys it, one replica after another: with other weights, or a filter that was fetched meanwhile. Where it was ignored before,
    as under nohup, it stays so.
    """
    args = _parser().parse_args(arguments)
    try:
        host = read_host(args.host)
        settings = Settings.from_env()
        chosen = args.backend or (settings.backend if settings.backend in SERVED else None)
        backend = chosen or ("mini" if _why_not_local() else "local")
        if backend == "local" and (reason := _why_not_local()):
            raise BackendUnavailable(reason)
        public = not is_loopback(host) if settings.public is None else settings.public
        unfiltered = settings.allow_unfiltered or args.allow_unfiltered
        options = Options(backend, args.replicas, args.queue, public, unfiltered)
        port = read_port(host, args.port, "--port")  # Ray would share it with another service of its own
        # Under nohup SIGHUP is ignored, and means that the terminal was closed.
        redeploys = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        start(options, host, port, None if backend == "local" else max(processors(), options.replica_range[1]))
    except FluxDemoError as error:
        print(error, file=sys.stderr, flush=True)
        ray.shutdown()
        return REFUSED
    except (KeyboardInterrupt, SystemExit):  # while the models load, which takes minutes; Ray's handler of SIGTERM raises the second
        ray.shutdown()
        return INTERRUPTED
    # Only now: Ray sets handlers of its own when it starts.
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    for number in (*STOP_SIGNALS, *([signal.SIGHUP] if redeploys else [])):
        signal.signal(number, lambda number, frame: events.put(number))
    if options.public and options.allow_unfiltered and backend == "local":
        print(ACCEPTED, flush=True)
    print(f"Running on {to_open(host, port)} with {backend}. Set FLUX_DEMO_NIM_URL to that for the page.", flush=True)
    deployer = ThreadPoolExecutor(1)
    while (event := _next(events)) not in STOP_SIGNALS:
        if not isinstance(event, Future):
            deployer.submit(deploy, options).add_done_callback(events.put)
        elif failed := event.exception():
            print(failed, file=sys.stderr, flush=True)  # what runs goes on
        else:
            print("Redeployed", flush=True)
    print("Finishing the images that are under way; another Ctrl+C ends the service at once", flush=True)
    with redirect_stdout(StringIO()):  # where Ray says of its own calls that they failed, because it has ended what they asked
        return _end(events, deployer)


def _end(events: queue.SimpleQueue[Event], deployer: ThreadPoolExecutor) -> int:
    """End the service, at the next signal at once. Returns the exit code."""

    def end() -> None:
        try:
            finish()
        finally:
            serve.shutdown()
            deployer.shutdown(cancel_futures=True)  # what is asked of Ray after its end would start it again

    ending = background.start(end, "ending")
    ending.add_done_callback(events.put)
    while (event := _next(events)) is not ending:
        if event in STOP_SIGNALS:
            ray.shutdown()
            return INTERRUPTED
    if lost := ending.exception() is not None:
        print(NOT_FINISHED, file=sys.stderr, flush=True)
    ray.shutdown()
    return REFUSED if lost else DONE


def _next(events: queue.SimpleQueue[Event]) -> Event:
    """The next event. Looks every second, because a signal that reached another thread of Ray's does not wake this one."""
    while True:
        with suppress(queue.Empty):
            return events.get(timeout=1)


def _ingress_replicas() -> Mapping[str, int]:
    """How many replicas of the ingress are in each of Serve's states."""
    return serve.status().applications[NAME].deployments["Ingress"].replica_states


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flux_demo.serve", description="Serve FLUX to many users with a NIM's API, on Ray Serve.", allow_abbrev=False
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for other machines too (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    parser.add_argument("--replicas", default="1", help="replicas of the models: 2, or 1-4 as the queue calls for (default: 1)")
    parser.add_argument(
        "--backend", choices=SERVED, help="what runs (default: FLUX_DEMO_BACKEND if it is one of them, else local where it can, else mini)"
    )
    parser.add_argument(
        "--queue", type=int, default=16, help="requests that may wait; further ones are answered with HTTP 429 (default: 16)"
    )
    parser.add_argument("--allow-unfiltered", action="store_true", help="let strangers have FLUX's images without the content filter")
    return parser


def _why_not_local() -> str | None:
    """Why the service can run no mode of ``local`` on this machine; None if it can run one."""
    settings = Settings.from_env()
    if settings.device == "cpu":
        return ONLY_GPUS
    local = resolve_name(BACKENDS["local"])(settings)
    refusals = [local.refusal(mode) for mode in MODES.values()]
    return refusals[0].reason if all(refusals) else None


if __name__ == "__main__":
    from flux_demo.serve import main as importable  # Ray names classes by their module, and __main__ is another one on each machine

    streams.exit_now(importable())
