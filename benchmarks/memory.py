"""How much of a GPU's memory each plan takes, counted without a GPU: FLUX at full size on a stand-in that has shapes and no values.

    python -m benchmarks.memory

Counts every tensor that is on the device at the same time while one 1024x1024 image is generated from a map, as torch's own operations
create them. A real card also holds the CUDA context and the kernels' workspaces; the plans allow for both.
`python -m benchmarks.engine --cap 24` measures on a GPU.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks.record import RESULTS, record
from benchmarks.subjects import files
from benchmarks.subjects import flux as flux_subject
from flux_demo.backends.local import CONTEXT_BYTES
from flux_demo.engine import memory
from flux_demo.engine.pipeline import generate
from flux_demo.engine.placement import set_tiling
from flux_demo.engine.sizes import sizes_of
from flux_demo.modes import MODES
from flux_demo.progress import Phase, Status
from flux_demo.request import ControlMap, GenerationRequest, Size
from stand_ins.gpu import Gpu

SIDES = (1024, 1024)
STEPS = 2  # from the second on, streamed blocks are prefetched
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
MAIN_MEMORIES = (64, 32, 16)
QUANTISED = ((8, "Q4_0"), (12, "Q8_0"), (16, "Q8_0"))  # cards, and the GGUF files that their owners run
PHASES = {Phase.ENCODING: "reading", Phase.DENOISING: "denoising", Phase.DECODING: "decoding"}  # names in the results


def main() -> None:
    counted = {key(plan): count(plan) for _, plan in (*rows(), *quantised_rows())}
    record("memory", {"size": SIDES[0], "stock_gib": count_stock(), "plans": counted})


def rows() -> Iterator[tuple[int, memory.Plan]]:
    """Each card with each plan that it gets with much or with little main memory."""
    for card in CARDS:
        free_bytes = card * memory.GIB - CONTEXT_BYTES
        plans = {key(plan): plan for main in MAIN_MEMORIES if (plan := memory.plan(free_bytes, main * memory.GIB))}
        yield from ((card, plan) for plan in plans.values())


def quantised_rows() -> Iterator[tuple[int, memory.Plan]]:
    for card, kind in QUANTISED:
        if plan := memory.plan(card * memory.GIB - CONTEXT_BYTES, MAIN_MEMORIES[0] * memory.GIB, sizes=sizes(kind)):
            yield card, plan


@cache
def sizes(kind: str) -> memory.WeightSizes:
    with TemporaryDirectory() as folder:
        return sizes_of(files.model_files(Path(folder), kind))


def key(plan: memory.Plan) -> str:
    """The plan's name in the results."""
    tiles = "tiled" if plan.sizes.quantised and plan.tiles(SIDES[0] * SIDES[1]) else ""
    parts = (plan.sizes.kind if plan.sizes.quantised else "", plan.name, str(plan.kept_shares or ""), tiles)
    return "-".join(part for part in parts if part)


def count(plan: memory.Plan) -> dict[str, float]:
    """GiB on the device: the weights between runs, and the most beside them in each phase of a run that follows a map."""
    with Gpu() as gpu:
        subject = flux_subject.build("flux", plan, tuple(MODES)[-plan.modes :], gpu.device)
        weights, peaks, phases = gpu.live, [], []

        def on_status(status: Status) -> None:  # a phase begins, so the one before it is over; before the first is loading
            peaks.append(gpu.peak - weights)
            phases.append(PHASES[status.phase])
            gpu.begin()

        control = ControlMap("depth", Image.new("RGB", SIDES))
        request = GenerationRequest("depth", "a red cube", 1, STEPS, flux_subject.GUIDANCE, Size(*SIDES), control)
        pipeline = subject.engine("depth")
        set_tiling(pipeline.shared.vae, tiled=plan.tiles(SIDES[0] * SIDES[1]))
        generate(pipeline, request, lambda *_: None, on_status)
        peaks.append(gpu.peak - weights)
    return {name: round(size / memory.GIB, 2) for name, size in zip(("weights", *phases), (weights, *peaks[1:]))}


def count_stock() -> float:
    """The most GiB that the stock text pipeline takes, with everything on the device. The stock control pipeline cannot run
    here: it reads a value from the device."""
    with Gpu() as gpu:
        subject = flux_subject.build("flux", None, ("text",), gpu.device)
        gpu.begin()
        subject.stock("text", "a red cube", SIDES, 1, STEPS, None)
    return round(gpu.peak / memory.GIB, 2)


def table() -> str:
    """The plans for each size of card, for the README."""
    result = json.loads((RESULTS / "memory.json").read_text("utf-8"))
    lines = ["| card | plan | counted at 1024x1024 | allowed for | main memory |", "|---|---|---|---|---|"]
    lines += [f"| {card} GB | {plan.sentence} | {figures(plan, result)} |" for card, plan in rows()]
    ratio = most(result["plans"]["body"]) / result["stock_gib"]
    lines += [
        "",
        f"The stock text pipeline, counted in the same way but without a map, takes {result['stock_gib']:.1f} GiB; the plan for 24 GB takes {ratio:.2f} of that.",
    ]
    return "\n".join(lines)


def quantised_table() -> str:
    """The plans for GGUF files."""
    result = json.loads((RESULTS / "memory.json").read_text("utf-8"))
    lines = ["| card | plan | counted at 1024x1024 | allowed for | main memory |", "|---|---|---|---|---|"]
    lines += [f"| {card} GB | {plan.sentence_for(SIDES[0] * SIDES[1])} | {figures(plan, result)} |" for card, plan in quantised_rows()]
    return "\n".join(lines)


def figures(plan: memory.Plan, result: dict) -> str:
    """The last three cells of a plan's row."""
    tiled = plan.sizes.quantised and plan.tiles(SIDES[0] * SIDES[1])
    allowed, main = (plan.device_bytes + plan.work_bytes(tiled)) / memory.GIB, plan.memory_bytes / memory.GIB
    return f"{most(result['plans'][key(plan)]):.1f} GiB | {allowed:.1f} GiB | {main:.0f} GiB"


def most(counted: dict[str, float]) -> float:
    """GiB of the weights, and of the phase that takes the most beside them."""
    return counted["weights"] + max(size for name, size in counted.items() if name != "weights")


if __name__ == "__main__":
    main()
