"""What each plan takes of a GPU, counted without one: FLUX at its full size on a stand-in that keeps shapes and no values.

    python -m benchmarks.memory

Counted is every tensor that is on the device at once, by torch's own operations, while one 1024x1024 picture is made, its map read
before it. A card has the CUDA context beside this, and what kernels take for themselves; the plans allow for both.
`python -m benchmarks.engine --cap 24` measures it on a GPU.
"""

import json
from collections.abc import Iterator

from PIL import Image

from benchmarks.record import RESULTS, record
from benchmarks.subjects import flux as flux_subject
from flux_demo.backends.local import CONTEXT_BYTES
from flux_demo.engine import memory
from flux_demo.engine.pipeline import generate
from flux_demo.engine.placement import tile
from flux_demo.progress import Phase, Status
from flux_demo.request import ControlMap, GenerationRequest, Size
from stand_ins.gpu import Gpu

SIDES = (1024, 1024)
STEPS = 2  # from the second on, what is streamed comes ahead of time
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
MAIN_MEMORIES = (64, 32, 16)
PHASES = {Phase.ENCODING: "reading", Phase.DENOISING: "denoising", Phase.DECODING: "decoding"}  # names in the results


def main() -> None:
    counted = {key(plan): count(plan) for _, plan in rows()}
    record("memory", {"size": SIDES[0], "stock_gib": count_stock(), "plans": counted})


def rows() -> Iterator[tuple[int, memory.Plan]]:
    """Cards, and the different plans that they have with more and with less main memory."""
    for card in CARDS:
        free_bytes = card * memory.GIB - CONTEXT_BYTES
        plans = {key(plan): plan for main in MAIN_MEMORIES if (plan := memory.plan(free_bytes, main * memory.GIB))}
        yield from ((card, plan) for plan in plans.values())


def key(plan: memory.Plan) -> str:
    return f"{plan.name}-{plan.kept}" if plan.kept else plan.name


def count(plan: memory.Plan) -> dict[str, float]:
    """GiB on the device: the weights between pictures, and the most beside them in each phase of a picture that follows a map."""
    with Gpu() as gpu:
        subject = flux_subject.build("flux", plan, tuple(flux_subject.SEEN)[-plan.modes :], gpu.device)
        weights, peaks, phases = gpu.live, [], []

        def on_status(status: Status) -> None:  # a phase begins and the one before it is over; before the first is the loading
            peaks.append(gpu.peak - weights)
            phases.append(PHASES[status.phase])
            gpu.begin()

        picture_map = ControlMap("depth", Image.new("RGB", SIDES))
        request = GenerationRequest("depth", "a red cube", 1, STEPS, flux_subject.GUIDANCE, Size(*SIDES), picture_map)
        flux = subject.engine("depth")
        tile(flux.shared.vae, tiled=plan.tiles(SIDES[0] * SIDES[1]))
        generate(flux, request, lambda *_: None, on_status)
        peaks.append(gpu.peak - weights)
    return {part: round(size / memory.GIB, 2) for part, size in zip(("weights", *phases), (weights, *peaks[1:]))}


def count_stock() -> float:
    """GiB that the stock text pipeline takes at most, everything on the device. The one for maps asks the device for a value."""
    with Gpu() as gpu:
        subject = flux_subject.build("flux", None, ("text",), gpu.device)
        gpu.begin()
        subject.stock("text", "a red cube", SIDES, 1, STEPS, None)
    return round(gpu.peak / memory.GIB, 2)


def table() -> str:
    """The plans for each size of card, for the README."""
    result = json.loads((RESULTS / "memory.json").read_text("utf-8"))
    lines = ["| card | plan | counted at 1024x1024 | allowed for | main memory |", "|---|---|---|---|---|"]
    for card, plan in rows():
        counted = most(result["plans"][key(plan)])
        allowed, main = ((plan.device_bytes + plan.work_bytes()) / memory.GIB, plan.memory_bytes / memory.GIB)
        lines.append(f"| {card} GB | {plan.sentence} | {counted:.1f} GiB | {allowed:.1f} GiB | {main:.0f} GiB |")
    ratio = most(result["plans"]["body"]) / result["stock_gib"]
    lines += ["", f"In the same count the stock pipeline comes to {result['stock_gib']:.1f} GiB; the plan for 24 GB is {ratio:.2f} of it."]
    return "\n".join(lines)


def most(counted: dict[str, float]) -> float:
    """GiB of the weights and of the phase that takes the most beside them."""
    return counted["weights"] + max(size for part, size in counted.items() if part != "weights")


if __name__ == "__main__":
    main()
