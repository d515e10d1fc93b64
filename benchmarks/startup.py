"""What starting costs: importing the package, ``--help``, and the time until the page answers, against bare Python and a bare Gradio page.

    python -m benchmarks.startup

The runs are interleaved, so that a busy machine slows both sides alike; the numbers are medians.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.record import record

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"import_extra_seconds": 0.05, "help_seconds": 0.3, "page_ratio": 1.3}
BARE_PAGE = """
import gradio
with gradio.Blocks(analytics_enabled=False) as page:
    prompt = gradio.Textbox(label="Prompt")
    gradio.Button("Run").click(str.upper, prompt, gradio.Textbox(label="Result"))
_, address, _ = page.launch(server_port={port}, prevent_thread_lock=True, quiet=True)
print("Running on", address, flush=True)
page.block_thread()
"""


def seconds_of(*arguments: str) -> float:
    """How long a Python process takes from start to end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_until_it_answers(*arguments: str) -> float:
    """How long it takes until a started page answers a request."""
    started = time.perf_counter()
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "127.0.0.1,localhost"}
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            address = next(found[1] for found in map(re.compile(r"Running on (http\S+)").search, server.stdout) if found)
            urllib.request.urlopen(address, timeout=30).read()
            return time.perf_counter() - started
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--port", type=int, default=7990)
    asked = parser.parse_args()
    short: dict[str, list[float]] = {"python": [], "import": [], "help": []}
    pages: dict[str, list[float]] = {"bare": [], "ours": []}
    seconds_of("-m", "flux_demo", "--help")  # compiles the bytecode
    for _ in range(2 * asked.rounds):
        short["python"].append(seconds_of("-c", "pass"))
        short["import"].append(seconds_of("-c", "import flux_demo"))
        short["help"].append(seconds_of("-m", "flux_demo", "--help"))
    with tempfile.TemporaryDirectory() as outputs:
        for number in range(asked.rounds + 1):
            bare = seconds_until_it_answers("-c", BARE_PAGE.format(port=asked.port))
            ours = seconds_until_it_answers("app.py", "--backend", "mini", "--port", str(asked.port + 1), "--outputs", outputs)
            if number:  # the first of each warms the disk's cache
                pages["bare"].append(bare)
                pages["ours"].append(ours)
    medians = {name: statistics.median(values) for name, values in (short | pages).items()}
    result = {
        "rounds": asked.rounds,
        "python_seconds": round(medians["python"], 4),
        "import_extra_seconds": round(medians["import"] - medians["python"], 4),
        "help_seconds": round(medians["help"], 4),
        "bare_page_seconds": round(medians["bare"], 3),
        "page_seconds": round(medians["ours"], 3),
        "page_ratio": round(medians["ours"] / medians["bare"], 3),
        "limits": LIMITS,
    }
    record("startup", result)


if __name__ == "__main__":
    main()
