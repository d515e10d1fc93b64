"""Examples to click: prompts that the route's model knows, and the photos in assets/examples."""

from pathlib import Path

from flux_demo.settings import ASSETS

MINI_PROMPTS = {
    "text": (
        "a red cube on a wooden floor at sunset",
        "two yellow spheres on grass",
        "a blue cone next to a white cylinder on snow at night",
    ),
    "canny": ("a green cube on sand", "a purple sphere on a wooden floor at sunset", "a red cone on snow at night"),
    "depth": ("an orange sphere on grass", "a white cube on a wooden floor", "a blue cylinder on sand at sunset"),
}
FLUX_PROMPTS = {
    "text": (
        "a lighthouse on a rocky shore at dawn, long exposure, soft mist over the water",
        "a watchmaker's bench seen from above, brass gears, warm lamp light",
        "a letterpress poster that says “SLOW DOWN”, deep blue ink on cotton paper",
    ),
    "canny": ("a charcoal drawing on rough paper", "a scene of folded paper, studio light", "an autumn morning, golden light, 35mm film"),
    "depth": ("a snowy forest at dusk", "a room built of porcelain, soft shadows", "a street market in the rain at night, neon signs"),
}


def prompts(backend: str | None, mode: str) -> tuple[str, ...]:
    return (MINI_PROMPTS if backend in ("mini", None) else FLUX_PROMPTS)[mode]


def photos() -> list[Path]:
    """The example photos, at most four; none if the folder has none."""
    folder = ASSETS / "examples"
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:4]
