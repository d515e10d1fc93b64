"""Twelve cells of a grid with one prompt on the mini, against twelve calls of ``generate``, in turns in one process.

    python -m benchmarks.grid

Both keep their images; the grid is planned, looks for what is there already, and draws no sheet.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.record import record
from flux_demo import GenerationRequest, Settings, Studio

LIMIT = 1.02
CELLS = 12
PROMPT = "a red cube and a blue ball on grass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=28)
    asked = parser.parse_args()
    wall: dict[str, list[float]] = {"generate": [], "grid": []}
    processor: dict[str, list[float]] = {"generate": [], "grid": []}
    with tempfile.TemporaryDirectory() as folder:
        studios = {name: Studio.from_settings(Settings(backend="mini", outputs=str(Path(folder) / name))) for name in wall}

        def run(name: str, first: int) -> None:
            seeds = range(first, first + CELLS)
            studio = studios[name]
            if name == "grid":
                assert not any(cell.reused or cell.error for cell in studio.grid("text", PROMPT, {"seed": seeds}, steps=asked.steps))
            else:
                for seed in seeds:
                    studio.generate(GenerationRequest("text", PROMPT, seed=seed, steps=asked.steps))

        for name in wall:
            studios[name].generate(GenerationRequest("text", PROMPT, seed=0, steps=1))  # both with their models in memory
        for i in range(asked.rounds):
            for name in sorted(wall, reverse=bool(i % 2)):
                began, work = time.perf_counter(), time.process_time()
                run(name, 1 + i * CELLS)
                wall[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - work)
    ratios = [grid / plain for grid, plain in zip(processor["grid"], processor["generate"])]
    result = {
        "cells": CELLS,
        "steps": asked.steps,
        "rounds": asked.rounds,
        "generate_seconds": round(statistics.median(wall["generate"]), 2),
        "grid_seconds": round(statistics.median(wall["grid"]), 2),
        "wall_ratio": round(statistics.median(wall["grid"]) / statistics.median(wall["generate"]), 3),
        "ratio": round(statistics.median(ratios), 3),  # of processor seconds: other programs do not disturb these
        "limit": LIMIT,
    }
    record("grid", result)


if __name__ == "__main__":
    main()
