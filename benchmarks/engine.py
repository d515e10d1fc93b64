"""The engine against the stock diffusers pipelines: the same weights, the same images, in turns in one process.

    python -m benchmarks.engine                   FLUX at full size with random weights on an NVIDIA GPU; without one, the mini
    python -m benchmarks.engine --weights mini    the mini on the CPU
    python -m benchmarks.engine --table           the README's table, from the recorded results

Random weights take as much time and memory as the real ones, and say nothing about how images look. Ratios are stock / engine: above 1 the
engine is faster. Where other programs keep the processors busy ("load" in the results), the ratio of processor seconds is more reliable
than that of wall-clock seconds. Memory is measured for each in a process of its own, because in one process they share their weights.
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
from flux_demo.backends.local import CONTEXT_BYTES
from flux_demo.engine import memory
from flux_demo.engine.allocators import free_memory
from flux_demo.engine.pipeline import generate
from flux_demo.engine.preview import estimate
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest, Size

STAGES = ("text", "map", "decode")  # timed separately; the rest of a run is the loop


class Stopwatch:
    """Adds up the seconds that calls of some methods take, including the device's work."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def on(self, owner: object, method: str, stage: str) -> None:
        inner = getattr(owner, method)

        def timed(*args, **kwargs):
            started = now()
            result = inner(*args, **kwargs)
            self.seconds[stage] += now() - started
            return result

        setattr(owner, method, timed)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", choices=("flux", "mini"), default="flux" if torch.cuda.is_available() else "mini")
    parser.add_argument("--size", type=int, help="pixels of a side; by default 1024, and 256 for the mini")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--cap", type=int, help="limit GPU memory to CAP GB: run the plan for such a card, and measure only its memory")
    parser.add_argument("--memory", choices=("stock", "engine"), help="measure only this one's memory, in this process, and print it")
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
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # programs that compete for a processor, this one included
    result = {
        "weights": given.weights,
        "device": device_name(),
        "size": given.size,
        "steps": given.steps,
        "rounds": given.rounds,
        "load": round(load, 1) if load is not None else None,
        "modes": {},
    }
    for mode in MODES:  # one at a time: with the stock pipelines' modulation, all three do not fit an 80 GB card
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
    """Rounds of stock and engine, taking turns to go first, each with a prompt that is new to both; then the same prompt with another seed."""
    runs = {which: runner(subject, mode, given, which) for which in ("stock", "engine")}
    fresh: dict[str, list[dict[str, float]]] = {"stock": [], "engine": []}
    again: dict[str, list[float]] = {"stock": [], "engine": []}
    for count in range(given.warm_ups + given.rounds):
        order = ("stock", "engine") if count % 2 else ("engine", "stock")
        prompt = f"a red cube in front of a blue wall, take {count} of {mode}"
        timed = {which: runs[which](prompt, count) for which in order}
        assert timed["stock"].pop("image") == timed["engine"].pop("image"), f"{mode}: the two images differ"
        repeated = {which: runs[which](prompt, count + 1)["whole"] for which in order}
        if count >= given.warm_ups:
            for which in order:
                fresh[which].append(timed[which])
                again[which].append(repeated[which])
    ratios = [stock["whole"] / engine["whole"] for stock, engine in zip(fresh["stock"], fresh["engine"])]
    repeated_ratios = [stock / engine for stock, engine in zip(again["stock"], again["engine"])]
    processor_ratios = [stock["processor"] / engine["processor"] for stock, engine in zip(fresh["stock"], fresh["engine"])]
    return {
        **{which: {stage: round(statistics.median(row[stage] for row in rows), 4) for stage in rows[0]} for which, rows in fresh.items()},
        "ratio": spread(ratios),
        "ratio_same_prompt": spread(repeated_ratios),
        "ratio_processor_seconds": spread(processor_ratios),
    }


def runner(subject: flux_subject.Subject, mode: str, given: argparse.Namespace, which: str) -> Callable[[str, int], dict]:
    """``run(prompt, seed)`` -> the seconds of the whole run and of its stages, and the image's bytes."""
    sides = (given.size, given.size)
    follows = MODES[mode].control
    control_image = flux_subject.stripes(sides) if follows else None

    def run(prompt: str, seed: int) -> dict:
        watch = Stopwatch()
        undo = [(owner, method, getattr(owner, method)) for owner, method, _ in subject.stages(mode, which)]
        for owner, method, stage in subject.stages(mode, which):
            watch.on(owner, method, stage)
        started, began = now(), time.process_time()
        if which == "stock":
            image = subject.stock(mode, prompt, sides, seed, given.steps, control_image)
        else:
            control = ControlMap(follows.kind, control_image) if follows and control_image else None
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
            "image": image.tobytes(),
        }

    return run


def preview_share(subject: flux_subject.Subject, given: argparse.Namespace, step_seconds: float) -> float:
    """The share of a step that the preview's arithmetic takes."""
    pipeline = subject.engine("text")
    device = pipeline.shared.device
    latents = torch.randn(1, (given.size // 16) ** 2, pipeline.transformer.config.in_channels, device=device)
    sigma = torch.tensor(0.5, device=device)
    for _ in range(10):
        estimate(latents, latents, sigma, pipeline.shared.colours, given.size, given.size)
    started = now()
    for _ in range(100):
        estimate(latents, latents, sigma, pipeline.shared.colours, given.size, given.size)
    return round((now() - started) / 100 / step_seconds, 5)


def measure_memory(given: argparse.Namespace) -> dict:
    """The most GiB that one image takes, by torch's count and by the driver's."""
    free, total = torch.cuda.mem_get_info()
    plan = plan_for(given.cap, free) if given.memory == "engine" else None
    if given.cap:
        torch.cuda.set_per_process_memory_fraction(min(1.0, room(given.cap) / total))
    subject = flux_subject.build("flux", plan, modes=("text",))
    run = runner(subject, "text", given, given.memory)
    run("a red cube", 1)
    torch.cuda.reset_peak_memory_stats()
    run("a blue ball", 2)
    driver = total - torch.cuda.mem_get_info()[0]
    return {
        "plan": plan.name if plan else None,
        "allocated_gib": round(torch.cuda.max_memory_allocated() / memory.GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / memory.GIB, 2),
        "driver_gib": round(driver / memory.GIB, 2),
    }


def plan_for(card: int | None, free_bytes: int) -> memory.Plan:
    """The plan of a card of so many GB, for which so much is free here; without one that for 24 GB: the leanest that keeps the model on the card."""
    if card is None:
        return next(row for row in memory.PLANS if row.name == "body")
    available = min(free_bytes, room(card))
    return memory.plan(available, 0) or sys.exit(memory.why_none(available, 0))


def room(card: int) -> int:
    """Bytes that a card of so many GB has for torch and for the plan, as ``local`` counts them: what CUDA itself takes is not theirs."""
    return card * memory.GIB - CONTEXT_BYTES


def run_alone(given: argparse.Namespace, which: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.engine", "--memory", which, "--size", str(given.size), "--steps", "4"]
    done = subprocess.run([*command, *(["--cap", str(given.cap)] if given.cap else [])], capture_output=True, text=True)
    if done.returncode:  # nothing is recorded then
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        sys.exit(f"The memory of {which} was not measured: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def ignore(*_: object) -> None:
    """For the engine's callbacks."""


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def table() -> str:
    """The README's table, of the results that have been recorded."""
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
