"""Making the mini FLUX, stage by stage: `python -m training.train`. Stop it at any time; run it again, and it goes on.

Each stage leaves a checkpoint `STAGE.pt` in the work folder, which is outside the repository, and pictures to look at in
`looks/`. A stage that has had its steps is passed over; with `--more` it starts a new round of steps from where its weights
are. The last stage, `export`, puts the weights into `assets/mini`; `shipped`, which only runs when it is named, takes them up
from there into an empty work folder, so that training can go on from what others made. The same command on CPU and CUDA.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch

from training import data, distributed, export, judges, latents, loop, stage_draw, stage_estimator, stage_text, stage_vae
from training.schedules import SCHEDULES, Schedule

DEFAULT_WORK = Path.home() / ".cache" / "flux_demo" / "train"
ASSETS = Path(__file__).parents[1] / "assets" / "mini"
# Rates for Muon and for Adam.
FIRST, LATER, LAST = (0.02, 2e-3), (0.008, 8e-4), (0.004, 4e-4)
# stage: modes, the stages that it may start from, diet, rates, whether it distils
DRAWING = {
    "base": (stage_draw.ALL, ("shipped",), "half", FIRST, False),
    "base_real": (stage_draw.ALL, ("base",), "real", LATER, False),
    "distil_text": (("text",), ("base_real", "base"), "both", LAST, True),
    "distil_canny": (("canny",), ("base_real", "base"), "both", LAST, True),
    "distil_depth": (("depth",), ("base_real", "base"), "both", LAST, True),
}


def stages(work: Path, schedule: Schedule, device: str, target: Path) -> dict[str, Callable[[], None]]:
    """Every stage by name, in the order in which they follow from each other."""
    steps, batch = schedule.steps, schedule.batch

    def drawing(name: str) -> Callable[[], None]:
        modes, start, diet, rates, distil = DRAWING[name]
        return lambda: stage_draw.train(work, name, modes, start, diet, steps[name], rates, device, distil=distil, wider=schedule.wider)

    return {
        "shipped": lambda: export.take_up(target, work, steps),
        "data": lambda: data.render_all(work, schedule.scenes, device, workers=os.cpu_count() or 1),
        "vae": lambda: stage_vae.train(work, steps["vae"], batch["vae"], device),
        "text": lambda: stage_text.train(work, steps["text"], batch["text"], device),
        "estimator": lambda: stage_estimator.train(work, steps["estimator"], batch["estimator"], device),
        "latents": lambda: latents.make(work, schedule.encoded, device),
        **{name: drawing(name) for name in DRAWING},
        "vae_decoder": lambda: stage_vae.train(work, steps["vae_decoder"], batch["vae"], device, only_decoder=True),
        "judge": lambda: judges.train(work, steps["judge"], batch["judge"], device),
        "export": lambda: export.export(work, target),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="by default all but `shipped`, in order")
    parser.add_argument("--schedule", choices=SCHEDULES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="for checkpoints and rendered scenes")
    parser.add_argument("--target", type=Path, default=ASSETS, help="where `export` puts the weights")
    parser.add_argument("--steps", type=int, help="instead of the schedule's, for each stage named")
    parser.add_argument("--minutes", type=float, help="for each stage at the most; its learning rate falls in this time")
    parser.add_argument("--more", action="store_true", help="begin a new round of steps from the stages' own weights")
    arguments = parser.parse_args()
    schedule = SCHEDULES[arguments.schedule]
    if arguments.steps:
        schedule.steps.update(dict.fromkeys(schedule.steps, arguments.steps))
    loop.minutes = arguments.minutes
    distributed.join()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known = stages(arguments.work, schedule, device, arguments.target)
    for name in arguments.stages or [name for name in known if name != "shipped"]:
        if name not in known:
            parser.error(f"There is no stage {name}. Choose from: {', '.join(known)}.")
        if arguments.more and distributed.rank() == 0:
            again(arguments.work / f"{name}.pt")
        distributed.wait()
        known[name]()


def again(path: Path) -> None:
    """Set a checkpoint's step back to 0, so that its weights are a beginning."""
    if path.exists():
        kept = torch.load(path, map_location="cpu", weights_only=True)
        torch.save(kept | {"step": 0}, path)


if __name__ == "__main__":
    main()
