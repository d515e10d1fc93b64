"""Making the mini FLUX, stage by stage: `python -m flux_demo.mini.train`. Stop it at any time; run again, and it goes on.

Stages: data, vae, text, base, canny, depth, estimator, distil, export. The same command on CPU and CUDA.
"""

import argparse
from pathlib import Path

import torch

from flux_demo.mini import data, latents, scenes, stage_draw, stage_text, stage_vae

DEFAULT_WORK = Path.home() / ".cache" / "flux_demo" / "train"
SQUARE = (256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work, steps, batch = arguments.work, arguments.steps, arguments.batch
    for stage in arguments.stages:
        if stage == "data":
            counts = {size: 8000 if size == SQUARE else 1000 for size in scenes.SIZES}
            data.render_all(work, counts, device, workers=2)
        elif stage == "text":
            stage_text.train(work, steps, batch, device)
        elif stage == "vae":
            stage_vae.train(work, steps, batch, device)
        elif stage == "vae_decoder":
            stage_vae.train(work, steps, batch, device, only_decoder=True)
        elif stage == "latents_half":
            latents.make(work, ("picture",), {latents.HALF: 8000}, device)
        elif stage == "base":
            stage_draw.train(work, "base", "text", (), "half", steps, (0.02, 2e-3), device)


if __name__ == "__main__":
    main()
