"""How long each stage runs, as data. `cpu` is for two cores and some hours, `gpu` for one large GPU, `quick` for the tests."""

from dataclasses import dataclass

from training.latents import HALF
from training.scenes import SIZES, SQUARE

OTHERS = tuple(size for size in SIZES if size != SQUARE)


@dataclass(frozen=True)
class Schedule:
    scenes: dict[tuple[int, int], int]  # how many are rendered, by size
    clutter: int  # how many cluttered scenes are rendered
    encoded: dict[tuple[int, int], int]  # how many of these become latents, each also mirrored
    steps: dict[str, int]  # by stage
    batch: dict[str, int]  # by stage, but for the transformers'; of prefer_text, pairs; of order_text, images
    preferences: int  # how many prompts the stage of this name generates images for
    batch_factor: int = 1  # multiplies the transformers' batches, see batches.Share; 0 for batches of two


def _counts(square: int, other: int) -> dict[tuple[int, int], int]:
    return {SQUARE: square} | dict.fromkeys(OTHERS, other)


SCHEDULES = {
    "quick": Schedule(
        scenes={SQUARE: 16, (336, 192): 8},
        clutter=6,
        encoded={HALF: 16, (336, 192): 8},
        batch_factor=0,
        steps=dict.fromkeys(
            (
                "vae",
                "text",
                "estimator",
                "base",
                "base_real",
                "distil_text",
                "distil_canny",
                "distil_depth",
                "refine_text",
                "prefer_text",
                "order_text",
                "vae_decoder",
                "judge",
            ),
            2,
        ),
        batch={"vae": 2, "text": 2, "estimator": 2, "judge": 2, "prefer_text": 2, "order_text": 2},
        preferences=1,
    ),
    "cpu": Schedule(
        scenes=_counts(5750, 1000),
        clutter=12000,
        encoded={HALF: 4000} | _counts(400, 64),
        steps={
            "vae": 2600,
            "text": 450,
            "base": 2400,
            "base_real": 1000,
            "estimator": 5000,
            "distil_text": 120,
            "distil_canny": 90,
            "distil_depth": 90,
            "refine_text": 1500,
            "prefer_text": 700,
            "order_text": 500,
            "vae_decoder": 1500,
            "judge": 1750,
        },
        batch={"vae": 8, "text": 48, "estimator": 8, "judge": 16, "prefer_text": 6, "order_text": 16},
        preferences=800,
    ),
    "gpu": Schedule(
        scenes=_counts(12000, 1000),
        clutter=30000,
        encoded={HALF: 12000} | _counts(12000, 1000),
        batch_factor=8,
        steps={
            "vae": 12000,
            "text": 2000,
            "base": 12000,
            "base_real": 12000,
            "estimator": 12000,
            "distil_text": 2000,
            "distil_canny": 1500,
            "distil_depth": 1500,
            "refine_text": 1500,
            "prefer_text": 700,
            "order_text": 500,
            "vae_decoder": 6000,
            "judge": 3000,
        },
        batch={"vae": 32, "text": 128, "estimator": 64, "judge": 128, "prefer_text": 48, "order_text": 128},
        preferences=4000,
    ),
}
