"""What the service on Ray Serve adds to an image, and what a second replica of the models brings, with the mini.

    python -m benchmarks.serve

Own time is what the client waits less what the replica says that it worked. Two replicas are compared with one by how many images come in the
same time from as many clients as there are replicas; each has one thread, so two need two idle processors. A Studio that uses the service is
compared with one that runs the mini itself, with one thread as a replica has, taking turns. Medians. Writes benchmarks/results/serve.json.
"""

import os
import socket
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import torch

from benchmarks.record import record
from flux_demo.request import GenerationRequest, Size
from flux_demo.serve import deploy, start
from flux_demo.serve_schema import Options
from flux_demo.settings import Settings
from flux_demo.studio import Studio

ROUNDS = 20
STEPS = 8
ASKED = {"prompt": "a red cube on grass", "width": 256, "height": 256, "steps": STEPS}


def main() -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    start(Options("mini", "1", public=False), "127.0.0.1", port, cpus=2)
    with httpx.Client() as client:  # kept, as any client does: making one takes longer than the service's own work
        infer(client, url, 1)
        rows = [infer(client, url, seed) for seed in range(1, ROUNDS + 1)]
    own = statistics.median(waited - worked for waited, worked in rows)
    share = statistics.median((waited - worked) / worked for waited, worked in rows)
    added = through_a_studio(url)
    one = images_a_second(url, 1)
    deploy(Options("mini", "2", public=False))
    images_a_second(url, 2)  # each replica has its first image behind it
    two = images_a_second(url, 2)
    record(
        "serve",
        {
            "steps": STEPS,
            "own_ms_per_request": round(own * 1000, 1),
            "own_share_of_an_image": round(share, 3),
            "studio_through_it_adds_ms": round(added * 1000, 1),
            "two_replicas_over_one": round(two / one, 2),
            "load_average": os.getloadavg()[0],
        },
    )


def infer(client: httpx.Client, url: str, seed: int) -> tuple[float, float]:
    """Seconds that the client waited, and that the replica worked."""
    began = time.perf_counter()
    answer = client.post(f"{url}/v1/infer", json=ASKED | {"seed": seed}, timeout=300)
    answer.raise_for_status()
    return time.perf_counter() - began, float(answer.headers["x-flux-demo-seconds"])


def images_a_second(url: str, clients: int) -> float:
    with httpx.Client() as client, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        list(pool.map(lambda seed: infer(client, url, seed), range(1, ROUNDS + 1)))
        return ROUNDS / (time.perf_counter() - began)


def through_a_studio(url: str) -> float:
    """Seconds that an image takes longer through the service than in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        there = Studio.from_settings(Settings(backend="nim", nim_url=url, outputs=folder))
        here = Studio.from_settings(Settings(backend="mini", outputs=folder))
        differences = []
        for seed in range(1, ROUNDS + 2):
            request = GenerationRequest("text", ASKED["prompt"], seed=seed, steps=STEPS, size=Size(256, 256))
            seconds = []
            for studio in (there, here):
                began = time.perf_counter()
                studio.generate(request)
                seconds.append(time.perf_counter() - began)
            differences.append(seconds[0] - seconds[1])
        there.close()
    return statistics.median(differences[1:])


if __name__ == "__main__":
    main()
