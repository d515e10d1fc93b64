"""Records what a measurement found, and on what it ran."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "gradio", "opencv-python-headless", "pillow", "numpy")


def record(name: str, result: dict) -> None:
    """Print the result and save it as benchmarks/results/NAME.json."""
    whole = {
        **result,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "libraries": {library: metadata.version(library) for library in LIBRARIES},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    json.dump(whole, sys.stdout, indent=2)
    print()
