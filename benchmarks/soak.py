"""Many clients at once for some minutes: is every image its asker's own, and does the page hold no more afterwards than before?

    python -m benchmarks.soak [--minutes 5] [--clients 20] [--port 7995]

Starts the page with the mini as people start it. Each client asks for images with a prompt and a seed of its own, draws maps, reads recipes and the status,
sends what is refused, and leaves in the middle of a run now and then. Ends with an error, after recording, where something is over its limit.
"""

import argparse
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.record import record
from flux_demo.errors import InvalidRequest
from flux_demo.request import Size

ROOT = Path(__file__).resolve().parent.parent
SIZE, IMPOSSIBLE = "128x128", "100x100"
SETTLE_S = 20.0  # after the last client has left
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white")
SHAPES = ("cube", "sphere", "cone", "cylinder")
LIMITS = {
    "crossed": 0,  # images that were another client's
    "problems": 0,
    "clients_that_hang": 0,
    "temporary_files_after_the_end": 0,
    # What the page holds more afterwards than before. Threads wait in pools for more work, and each keeps some memory.
    "memory_mib": 200,
    "handles": 10,
    "threads": 40,
}


class Page:
    """The page as a process of its own."""

    def __init__(self, port: int, outputs: str, temporary: str) -> None:
        environment = os.environ | {"GRADIO_TEMP_DIR": temporary, "NO_PROXY": "127.0.0.1,localhost"}
        words = ["app.py", "--backend", "mini", "--port", str(port), "--outputs", outputs]
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        self.address = next(found[1] for found in map(re.compile(r"Running on (http\S+)").search, self.process.stdout) if found)
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout or ()), daemon=True).start()
        self._seen = psutil.Process(self.process.pid)
        self._outputs, self._temporary = Path(outputs), Path(temporary)

    def state(self) -> dict[str, int]:
        """What the process holds now."""
        with self._seen.oneshot():
            return {
                "memory_mib": round(self._seen.memory_info().rss / 2**20),
                "handles": self._seen.num_fds() if hasattr(self._seen, "num_fds") else self._seen.num_handles(),
                "threads": self._seen.num_threads(),
                "temporary_files": sum(path.is_file() for path in self._temporary.rglob("*")),
                "outputs": len(list(self._outputs.glob("*.png"))),
            }

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


class Tally:
    """What the clients saw, together."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def add(self, name: str, seconds: float | None = None) -> None:
        with self._lock:
            self.counts[name] += 1
            if seconds is not None:
                self.seconds.append(seconds)

    def problem(self, sentence: str) -> None:
        with self._lock:
            self.counts["problems"] += 1
            self.problems.append(sentence[:200])


def refusal() -> str:
    """What the page says of a size that cannot be."""
    try:
        Size.parse(IMPOSSIBLE)
    except InvalidRequest as error:
        return str(error)
    raise AssertionError(f"{IMPOSSIBLE} is a size")


def visit(number: int, address: str, until: float, photo: Path, downloads: str, tally: Tally) -> None:
    """One client, from its first call to its last."""
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    from flux_demo.recipe import read_recipe

    choice = random.Random(number)
    while True:
        try:
            client = Client(address, verbose=False, download_files=downloads)
            break
        except Exception as error:  # all of them come at once
            if time.monotonic() >= until:
                return tally.problem(f"{type(error).__name__}: {error}")
    tally.add("clients")
    for count in itertools.count():
        if time.monotonic() >= until:
            break
        prompt = f"a {choice.choice(COLOURS)} {choice.choice(SHAPES)}"
        seed = number * 100_000 + count
        began = time.monotonic()
        try:
            match choice.randrange(8):
                case 0:
                    client.predict(handle_file(photo), SIZE, "crop", low=choice.randrange(100), api_name="/canny_map")
                    tally.add("maps")
                case 1:
                    client.predict(api_name="/status")
                    tally.add("status", None)
                case 2:
                    try:
                        client.predict(prompt, IMPOSSIBLE, api_name="/text")
                    except AppError as error:
                        if str(error) != refusal():
                            raise
                        tally.add("refused")
                    else:
                        tally.problem("a size that cannot be was taken")
                case 3:
                    job = client.submit(prompt, SIZE, str(seed), 20, api_name="/text")
                    time.sleep(choice.random() * 2)
                    job.cancel()
                    with suppress(CancelledError, KeyError):  # the client looks for a result that a cancelled call does not have
                        job.result(timeout=60)
                    tally.add("cancelled")
                case _:
                    path, recipe = client.predict(prompt, SIZE, str(seed), 4, api_name="/text")
                    tally.add("images", time.monotonic() - began)
                    if (recipe["prompt"], recipe["seed"]) != (prompt, seed) or read_recipe(path).to_dict() != recipe:
                        tally.add("crossed")
        except Exception as error:
            if "images" in str(error) and "waiting" in str(error):
                tally.add("told_to_wait")
                time.sleep(1)
                continue
            tally.problem(f"{type(error).__name__}: {error}")
    client.close()


def soak(minutes: float, clients: int, port: int) -> dict:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        outputs, temporary, downloads = (os.path.join(folder, name) for name in ("outputs", "temporary", "downloads"))
        os.makedirs(temporary)
        photo = Path(folder) / "photo.png"
        Image.radial_gradient("L").resize((320, 240)).convert("RGB").save(photo)
        page, tally = Page(port, outputs, temporary), Tally()
        try:
            visit(0, page.address, time.monotonic() + 20, photo, downloads, Tally())  # loads the models
            time.sleep(SETTLE_S)
            before = page.state()
            until = time.monotonic() + minutes * 60
            threads = [
                threading.Thread(target=visit, args=(number, page.address, until, photo, downloads, tally), daemon=True)
                for number in range(1, clients + 1)
            ]
            for thread in threads:
                thread.start()
            most = before
            while any(thread.is_alive() for thread in threads) and time.monotonic() < until + 180:
                time.sleep(1)
                now = page.state()
                most = {name: max(value, now[name]) for name, value in most.items()}
            still = sum(thread.is_alive() for thread in threads)
            time.sleep(SETTLE_S)
            after = page.state()
        finally:
            page.close()
        left = sum(path.is_file() for path in Path(temporary).rglob("*"))
    waits = sorted(tally.seconds) or [0.0]
    return {
        "minutes": minutes,
        "clients": tally.counts["clients"],
        "load": f"{os.getloadavg()[0]:.1f} on average in the last minute, on {os.cpu_count()} processors that other programs use too",
        "images": tally.counts["images"],
        "crossed": tally.counts["crossed"],
        "other_calls": {name: tally.counts[name] for name in ("maps", "status", "refused", "cancelled", "told_to_wait")},
        "problems": tally.counts["problems"],
        "kinds_of_problems": sorted(set(tally.problems))[:5],
        "clients_that_hang": still,
        "seconds_for_an_image": {"median": round(waits[len(waits) // 2], 1), "longest": round(waits[-1], 1)},
        "before": before,
        "most": most,
        "after": after,
        "temporary_files_after_the_end": left,
        "lines_in_the_log": len(page.lines),
    }


def more(result: dict) -> dict[str, int]:
    """What LIMITS are about, as it was measured."""
    before, after = result["before"], result["after"]
    return {name: after[name] - before[name] if name in after else result[name] for name in LIMITS}


def over(result: dict) -> list[str]:
    """The names of what is over its limit."""
    return [name for name, value in more(result).items() if value > LIMITS[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--port", type=int, default=7995)
    asked = parser.parse_args()
    result = soak(asked.minutes, asked.clients, asked.port)
    record("soak", result | {"limits": LIMITS, "over_limits": over(result)})
    sys.exit(", ".join(over(result)) or None)


if __name__ == "__main__":
    main()
