"""Making the mini FLUX, stage by stage: `python -m flux_demo.mini.train`. Stop it at any time; run it again, and it goes on.

Each stage leaves a checkpoint `STAGE.pt` in the work folder, which is outside the repository, and pictures to look at in
`looks/`. A stage that has had its steps is passed over; with `--more` it starts a new round of steps from where its weights
are. The last stage, `export`, puts the weights into `assets/mini`. The same command on CPU and CUDA.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch

from flux_demo.mini import data, export, judges, latents, stage_draw, stage_estimator, stage_text, stage_vae, together
from flux_demo.mini.schedules import SCHEDULES, Schedule

DEFAULT_WORK = Path.home() / ".cache" / "flux_demo" / "train"
ASSETS = Path(__file__).parents[2] / "assets" / "mini"
# Rates for Muon and for Adam.
FIRST, LATER, LAST = (0.02, 2e-3), (0.008, 8e-4), (0.004, 4e-4)
# stage: mode, the stages that it may start from, diet, rates, whether it distils
DRAWING = {
    "base": ("text", (), "half", FIRST, False),
    "base_real": ("text", ("base",), "real", LATER, False),
    # One transformer for both maps first; then each goes on alone.
    "control": ("control", ("base_real", "base"), "real", LATER, False),
    "distil_text": ("text", ("base_real", "base"), "real", LAST, True),
    "distil_control": ("control", ("control",), "real", LAST, True),
    "canny": ("canny", ("control", "base_real"), "both", LATER, False),
    "depth": ("depth", ("control", "base_real"), "both", LATER, False),
    "distil_canny": ("canny", ("canny",), "both", LAST, True),
    "distil_depth": ("depth", ("depth",), "both", LAST, True),
}


def stages(work: Path, schedule: Schedule, device: str, target: Path) -> dict[str, Callable[[], None]]:
    """Every stage by name, in the order in which they follow from each other."""
    steps, batch = schedule.steps, schedule.batch

    def drawing(name: str) -> Callable[[], None]:
        mode, start, diet, rates, distil = DRAWING[name]
        return lambda: stage_draw.train(work, name, mode, start, diet, steps[name], rates, device, distil=distil, wider=schedule.wider)

    def encode(*kinds: str) -> Callable[[], None]:
        return lambda: latents.make(work, kinds, schedule.encoded, device)

    return {
        "data": lambda: data.render_all(work, schedule.scenes, device, workers=os.cpu_count() or 1),
        "vae": lambda: stage_vae.train(work, steps["vae"], batch["vae"], device),
        "text": lambda: stage_text.train(work, steps["text"], batch["text"], device),
        "estimator": lambda: stage_estimator.train(work, steps["estimator"], batch["estimator"], device),
        "latents": encode("picture"),
        "base": drawing("base"),
        "base_real": drawing("base_real"),
        "latents_canny": encode("canny", "drawing", "drawing_edges"),
        "latents_depth": encode("depth", "estimated"),
        "control": drawing("control"),
        "distil_text": drawing("distil_text"),
        "distil_control": drawing("distil_control"),
        "canny": drawing("canny"),
        "depth": drawing("depth"),
        "distil_canny": drawing("distil_canny"),
        "distil_depth": drawing("distil_depth"),
        "vae_decoder": lambda: stage_vae.train(work, steps["vae_decoder"], batch["vae"], device, only_decoder=True),
        "judge": lambda: judges.train(work, steps["judge"], batch["judge"], device),
        "export": lambda: export.export(work, target),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="by default all, in order")
    parser.add_argument("--schedule", choices=SCHEDULES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="for checkpoints and rendered scenes")
    parser.add_argument("--target", type=Path, default=ASSETS, help="where `export` puts the weights")
    parser.add_argument("--steps", type=int, help="instead of the schedule's, for each stage named")
    parser.add_argument("--more", action="store_true", help="begin a new round of steps from the stages' own weights")
    arguments = parser.parse_args()
    schedule = SCHEDULES[arguments.schedule]
    if arguments.steps:
        schedule.steps.update(dict.fromkeys(schedule.steps, arguments.steps))
    together.join()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known = stages(arguments.work, schedule, device, arguments.target)
    for name in arguments.stages or known:
        if name not in known:
            parser.error(f"There is no stage {name}. Choose from: {', '.join(known)}.")
        if arguments.more and together.rank() == 0:
            again(arguments.work / f"{name}.pt")
        together.wait()
        known[name]()


def again(path: Path) -> None:
    """Set a checkpoint's step back to 0, so that its weights are a beginning."""
    if path.exists():
        kept = torch.load(path, map_location="cpu", weights_only=True)
        torch.save(kept | {"step": 0}, path)


if __name__ == "__main__":
    main()
