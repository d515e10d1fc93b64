"""The stock pipeline beside another program that keeps half of the cores busy, with torch's threads as torch has them and as we do.

    python -m benchmarks.busy

The same pipeline with the mini's weights runs both times, in processes of their own in turns; the numbers are medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.record import record
from flux_demo import environment

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"quiet_ratio": 1.2, "busy_ratio": 1.0}
IMAGES = """
import time
import torch
from diffusers import FluxPipeline

pipe = FluxPipeline.from_pretrained("assets/mini", dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
for _ in range(3):
    started = time.perf_counter()
    pipe("a red sphere", width=256, height=256, num_inference_steps=4, guidance_scale=3.5, max_sequence_length=64)
    print(time.perf_counter() - started)
"""

SPIN = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"  # until this program has ended, in whatever way


def seconds_of(environ: dict[str, str]) -> list[float]:
    """Seconds per image, without the first, which is a warm-up."""
    done = subprocess.run([sys.executable, "-c", IMAGES], cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()][1:]


@contextmanager
def busy(cores: int):
    """Keep `cores` cores busy with another program."""
    with ExitStack() as stack:
        for _ in range(cores):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN, str(os.getpid())], start_new_session=True))
            stack.callback(other.kill)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    asked = parser.parse_args()
    stock = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    ours = dict(stock)
    environment.prepare(ours)
    cores = max(1, (os.cpu_count() or 1) // 2)
    result: dict[str, object] = {"busy_cores": cores}
    for name, count in (("quiet", 0), ("busy", cores)):
        seconds: dict[str, list[float]] = {"stock": [], "ours": []}
        with busy(count):
            rounds = max(1, asked.rounds // (1 + count))  # stock torch is very slow on a busy machine
            for _ in range(rounds):
                seconds["stock"] += seconds_of(stock)
                seconds["ours"] += seconds_of(ours)
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        result[f"{name}_rounds"] = rounds
        result |= {f"{name}_{side}_seconds": round(value, 3) for side, value in medians.items()}
        result[f"{name}_ratio"] = round(medians["ours"] / medians["stock"], 3)
    record("busy", result | {"limits": LIMITS})


if __name__ == "__main__":
    main()
