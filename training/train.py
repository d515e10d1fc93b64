"""Train the mini FLUX, stage by stage: `python -m training.train`. Stop it at any time; run it again, and it goes on.

Each stage that trains a network leaves a checkpoint `STAGE.pt` in the work folder, which is outside the repository, and most leave images to
judge it by in `samples/`. A stage that has had its steps is skipped; with `--more` it starts a new round of steps from its own weights. The
last stage, `export`, puts the weights into `assets/mini`. `shipped`, which runs only when it is named, goes the other way: it
turns the shipped weights into checkpoints in an empty work folder, so that anyone can train them further. Four more stages run only
when they are named. They go on with the text network alone, for which no base is needed: `refine_text` with rendered scenes,
`preferences` and `prefer_text`, together, with the network's own images, and `order_text`, the last of them, with its own answers to prompts
that say more: before more of the others, remove its checkpoint. For another round on scenes that the networks have not seen, give
`--first-seed` with the stages `data` and `clutter` in a new work folder. The same commands serve CPU and CUDA.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from flux_demo.backends.machine import processors
from flux_demo.exit_codes import INTERRUPTED
from training import (
    Refused,
    data,
    distributed,
    export,
    judges,
    latents,
    loop,
    preferences,
    stage_estimator,
    stage_order,
    stage_preferences,
    stage_text,
    stage_transformer,
    stage_vae,
)
from training.files import remove_parts, write
from training.schedules import SCHEDULES, Schedule

DEFAULT_WORK = Path.home() / ".cache" / "flux_demo" / "train"
ONLY_WHEN_NAMED = ("shipped", "refine_text", "preferences", "prefer_text", "order_text")
ASSETS = Path(__file__).parents[1] / "assets" / "mini"


def stages(
    work: Path, schedule: Schedule, device: str, target: Path, minutes: float | None = None, first_seed: int = 0
) -> dict[str, Callable[[], None]]:
    """Every stage by name, in the order in which they build on each other."""
    batch = schedule.batch

    def run(stage: str) -> loop.Run:
        return loop.Run(work, device, schedule.steps[stage], minutes)

    def transformer(stage: str) -> Callable[[], None]:
        return lambda: stage_transformer.train(run(stage), stage, schedule.batch_factor)

    return {
        "shipped": lambda: export.import_shipped(target, work, schedule.steps),
        "data": lambda: data.render_all(work, schedule.scenes, processors(), first_seed),
        "vae": lambda: stage_vae.train(run("vae"), batch["vae"]),
        "text": lambda: stage_text.train(run("text"), batch["text"]),
        "clutter": lambda: data.render_clutter(work, schedule.clutter, processors(), first_seed),
        "estimator": lambda: stage_estimator.train(run("estimator"), batch["estimator"]),
        "latents": lambda: latents.make(work, schedule.encoded, device, 1 if device == "cpu" else len(latents.KINDS)),
        **{stage: transformer(stage) for stage in stage_transformer.STAGES},
        "preferences": lambda: preferences.make(work, device, schedule.preferences),
        "prefer_text": lambda: stage_preferences.train(run("prefer_text"), batch["prefer_text"]),
        "order_text": lambda: stage_order.train(run("order_text"), batch["order_text"]),
        "vae_decoder": lambda: stage_vae.train(run("vae_decoder"), batch["vae"], only_decoder=True),
        "judge": lambda: judges.train(run("judge"), batch["judge"]),
        "export": lambda: export.export(work, target),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help=f"by default all but {', '.join(ONLY_WHEN_NAMED)}, in order")
    parser.add_argument("--schedule", choices=SCHEDULES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="for checkpoints and rendered scenes")
    parser.add_argument("--target", type=lambda text: Path(text).resolve(), default=ASSETS, help="where `export` puts the weights")
    parser.add_argument("--steps", type=positive(int), help="in place of the schedule's, for each stage that runs")
    parser.add_argument("--minutes", type=positive(float), help="the most that each stage takes; its learning rate falls within this time")
    parser.add_argument(
        "--more", action="store_true", help="start a new round of steps from the stages' own weights; without it a stopped round goes on"
    )
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        metavar="N",
        help=f"the first scene that `data` and `clutter` render, a multiple of {data.CHUNK}",
    )
    arguments = parser.parse_args()
    schedule = SCHEDULES[arguments.schedule]
    if arguments.steps:
        schedule = replace(schedule, steps=dict.fromkeys(schedule.steps, arguments.steps))
    try:
        data.check_first_seed(arguments.first_seed, max(*schedule.scenes.values(), schedule.clutter))
    except ValueError as error:
        parser.error(str(error))
    distributed.init()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    known = stages(arguments.work, schedule, device, arguments.target, arguments.minutes, arguments.first_seed)
    if unknown := [name for name in arguments.stages if name not in known]:
        parser.error(f"{unknown[0]} is not a stage. The stages are {', '.join(known)}.")
    try:
        if distributed.rank() == 0:
            remove_parts(arguments.work)
        for name in arguments.stages or [name for name in known if name not in ONLY_WHEN_NAMED]:
            if arguments.more and distributed.rank() == 0:
                restart(arguments.work, name)
            distributed.barrier()
            known[name]()
    except (Refused, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        if distributed.rank() == 0:
            print(f"Stopped in {name}. Run {name} again, without --more, to go on.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """For argparse: a finite number above 0, of this kind."""

    def parse(text: str) -> float:
        if not 0 < (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
        return value

    parse.__name__ = kind.__name__  # argparse says it where the text is not a number at all
    return parse


def restart(work: Path, stage: str) -> None:
    """Set the step and progress of a stage's checkpoint back, so that its weights are the start of a new round. Stages
    without such a checkpoint are left as they are. Raises Refused where the stage itself would."""
    if stage == "vae":
        stage_vae.check_nothing_encoded(work)
    path = work / f"{stage}.pt"
    kept = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
    if "step" in kept:
        kept.pop("progress", None)
        write(path, partial(torch.save, kept | {"step": 0}))


if __name__ == "__main__":
    main()
