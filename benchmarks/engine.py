"""The engine against the stock diffusers pipelines: the same weights, the same pictures, in turns in one process.

    python -m benchmarks.engine                   on an NVIDIA GPU FLUX at its full size with random weights, elsewhere the mini
    python -m benchmarks.engine --weights mini    the mini on the CPU
    python -m benchmarks.engine --table           the README's table, from the results that were recorded

Random weights cost as much time and memory as the real ones, and say nothing of how pictures look. Ratios are stock / engine: above 1 the engine is faster.
Where other programs keep the processors busy ("load" in the results), the ratio of processor seconds says more than that of the clock.
Memory is measured in a process of its own for each, because in turns they share their weights.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.record import RESULTS, record
from benchmarks.subjects import flux as flux_subject
from flux_demo.engine import memory
from flux_demo.engine.model_cache import free_memory
from flux_demo.engine.pipeline import generate
from flux_demo.engine.preview import estimate
from flux_demo.request import ControlMap, GenerationRequest, Size

MODES = ("text", "canny", "depth")
PARTS = ("text", "map", "decode")  # what is timed beside the whole; the rest is the loop


class Stopwatch:
    """Adds up the seconds that calls of some methods take, the device's own work included."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def on(self, owner: object, method: str, part: str) -> None:
        inner = getattr(owner, method)

        def timed(*args, **kwargs):
            started = now()
            result = inner(*args, **kwargs)
            self.seconds[part] += now() - started
            return result

        setattr(owner, method, timed)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", choices=("flux", "mini"), default="flux" if torch.cuda.is_available() else "mini")
    parser.add_argument("--size", type=int, help="pixels of a side; default 1024, the mini 256")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--cap", type=int, help="GB of GPU memory to do with: runs the plan for such a card and measures its memory only")
    parser.add_argument("--memory", choices=("stock", "engine"), help="measure one of them alone, in this process, and print it")
    parser.add_argument("--table", action="store_true", help="print the README's table from the recorded results")
    given = parser.parse_args()
    given.size = given.size or (256 if given.weights == "mini" else 1024)
    if given.table:
        print(table())
    elif given.memory:
        print(json.dumps(measure_memory(given)))
    elif given.cap:
        record(f"engine-{given.cap}gb", {"cap_gb": given.cap, "memory": run_alone(given, "engine")})
    else:
        record(f"engine-{given.weights}", measure(given))


def measure(given: argparse.Namespace) -> dict:
    result = {
        "weights": given.weights,
        "device": device_name(),
        "size": given.size,
        "steps": given.steps,
        "rounds": given.rounds,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # programs that want a processor, this one included
        "modes": {},
    }
    for mode in MODES:  # one at a time: all three with the stock pipelines' modulation are more than an 80 GB card holds
        subject = flux_subject.build(given.weights, modes=(mode,))
        result["modes"][mode] = measure_mode(subject, mode, given)
        if mode == "text":
            result["preview_share_of_step"] = preview_share(subject, given, result["modes"]["text"]["engine"]["loop"] / given.steps)
        del subject
        free_memory()
    if given.weights == "flux":
        result["memory"] = {which: run_alone(given, which) for which in ("stock", "engine")}
    return result


def measure_mode(subject: flux_subject.Subject, mode: str, given: argparse.Namespace) -> dict:
    """Rounds of stock and engine in turns, who begins changing, each with a prompt that neither has read; then the same prompt with another seed."""
    runs = {which: runner(subject, mode, given, which) for which in ("stock", "engine")}
    fresh: dict[str, list[dict[str, float]]] = {"stock": [], "engine": []}
    again: dict[str, list[float]] = {"stock": [], "engine": []}
    for count in range(given.warm_ups + given.rounds):
        order = ("stock", "engine") if count % 2 else ("engine", "stock")
        prompt = f"a red cube before a blue wall, take {count} of {mode}"
        timed = {which: runs[which](prompt, count) for which in order}
        assert timed["stock"].pop("picture") == timed["engine"].pop("picture"), f"{mode}: the two pictures differ"
        repeated = {which: runs[which](prompt, count + 1)["whole"] for which in order}
        if count >= given.warm_ups:
            for which in order:
                fresh[which].append(timed[which])
                again[which].append(repeated[which])
    ratios = [stock["whole"] / engine["whole"] for stock, engine in zip(fresh["stock"], fresh["engine"])]
    repeated_ratios = [stock / engine for stock, engine in zip(again["stock"], again["engine"])]
    processor_ratios = [stock["processor"] / engine["processor"] for stock, engine in zip(fresh["stock"], fresh["engine"])]
    return {
        **{which: {part: round(statistics.median(row[part] for row in rows), 4) for part in rows[0]} for which, rows in fresh.items()},
        "ratio": spread(ratios),
        "ratio_same_prompt": spread(repeated_ratios),
        "ratio_processor_seconds": spread(processor_ratios),
    }


def runner(subject: flux_subject.Subject, mode: str, given: argparse.Namespace, which: str) -> Callable[[str, int], dict]:
    """``run(prompt, seed)`` -> seconds of the whole, of its parts, and the picture's bytes."""
    sides = (given.size, given.size)
    picture_map = None if mode == "text" else flux_subject.stripes(sides)

    def run(prompt: str, seed: int) -> dict:
        watch = Stopwatch()
        undo = [(owner, method, getattr(owner, method)) for owner, method, _ in subject.parts(mode, which)]
        for owner, method, part in subject.parts(mode, which):
            watch.on(owner, method, part)
        started, began = now(), time.process_time()
        if which == "stock":
            image = subject.stock(mode, prompt, sides, seed, given.steps, picture_map)
        else:
            control = ControlMap(mode, picture_map) if picture_map else None
            request = GenerationRequest(mode, prompt, seed, given.steps, flux_subject.GUIDANCE, Size(*sides), control)
            image = generate(subject.engine(mode), request, ignore, ignore)
        whole, processor = now() - started, time.process_time() - began
        for owner, method, inner in undo:
            setattr(owner, method, inner)
        return {
            "whole": whole,
            "processor": processor,
            **watch.seconds,
            "loop": whole - sum(watch.seconds.values()),
            "picture": image.tobytes(),
        }

    return run


def preview_share(subject: flux_subject.Subject, given: argparse.Namespace, step_seconds: float) -> float:
    """What the preview's arithmetic takes of a step."""
    flux = subject.engine("text")
    device = flux.shared.device
    latents = torch.randn(1, (given.size // 16) ** 2, flux.transformer.config.in_channels, device=device)
    sigma = torch.tensor(0.5, device=device)
    for _ in range(10):
        estimate(latents, latents, sigma, flux.shared.colours, given.size, given.size)
    started = now()
    for _ in range(100):
        estimate(latents, latents, sigma, flux.shared.colours, given.size, given.size)
    return round((now() - started) / 100 / step_seconds, 5)


def measure_memory(given: argparse.Namespace) -> dict:
    """GiB that one picture of a mode takes at most, by torch's count and by the driver's."""
    free, total = torch.cuda.mem_get_info()
    plan = memory.plan(min(free, given.cap * memory.GIB) if given.cap else free, 0)
    if given.memory == "engine" and not given.cap:
        plan = next(row for row in memory.PLANS if row.name == "body")  # the plan for 24 GB: the leanest that keeps the model on the card
    if given.cap:
        torch.cuda.set_per_process_memory_fraction(min(1.0, given.cap * memory.GIB / total))
    subject = flux_subject.build("flux", plan if given.memory == "engine" else None, modes=("text",))
    run = runner(subject, "text", given, given.memory)
    run("a red cube", 1)
    torch.cuda.reset_peak_memory_stats()
    run("a blue ball", 2)
    driver = total - torch.cuda.mem_get_info()[0]
    return {
        "plan": plan.name if given.memory == "engine" and plan else None,
        "allocated_gib": round(torch.cuda.max_memory_allocated() / memory.GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / memory.GIB, 2),
        "driver_gib": round(driver / memory.GIB, 2),
    }


def run_alone(given: argparse.Namespace, which: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.engine", "--memory", which, "--size", str(given.size), "--steps", "4"]
    done = subprocess.run([*command, *(["--cap", str(given.cap)] if given.cap else [])], capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def ignore(*_: object) -> None:
    """For what the engine tells of its steps."""


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def table() -> str:
    """What was measured, as far as it was, for the README."""
    rows = [
        "| weights, device | mode | stock | engine | stock / engine | same prompt again | processor seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("engine-flux", "engine-mini"):
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text("utf-8"))
        what = f"{result['weights']}, {result['device']}, {result['size']}x{result['size']}, {result['steps']} steps"
        for mode, row in result["modes"].items():
            keys = ("ratio", "ratio_same_prompt", "ratio_processor_seconds")
            ratios = [f"{row[key]['median']:.2f} ({row[key]['least']:.2f} to {row[key]['most']:.2f})" for key in keys]
            rows.append(f"| {what} | {mode} | {row['stock']['whole']:.2f} s | {row['engine']['whole']:.2f} s | {' | '.join(ratios)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
