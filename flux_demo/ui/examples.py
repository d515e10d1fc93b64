"""Examples to click: prompts that the route's model knows, and the photos in assets/examples."""

from pathlib import Path

from flux_demo.modes import Mode
from flux_demo.settings import ASSETS

# By the kind of map that is followed; None where there is none.
MINI_PROMPTS: dict[str | None, tuple[str, ...]] = {
    None: (
        "a red cube on a wooden floor at sunset",
        "a yellow ball next to a blue cube on grass",
        "a blue cone next to a white cylinder on snow at night",
    ),
    "canny": ("a green cube on sand", "a purple sphere on a wooden floor at sunset", "a red cone on snow at night"),
    "depth": ("an orange sphere on grass", "a white cube on a wooden floor", "a blue cylinder on sand at sunset"),
}
FLUX_PROMPTS: dict[str | None, tuple[str, ...]] = {
    None: (
        "a lighthouse on a rocky shore at dawn, long exposure, soft mist over the water",
        "a watchmaker's bench seen from above, brass gears, warm lamp light",
        "a letterpress poster that says “SLOW DOWN”, deep blue ink on cotton paper",
    ),
    "canny": ("a charcoal drawing on rough paper", "a scene of folded paper, studio light", "an autumn morning, golden light, 35mm film"),
    "depth": ("a snowy forest at dusk", "a room built of porcelain, soft shadows", "a street market in the rain at night, neon signs"),
}


def prompts(backend: str | None, mode: Mode) -> tuple[str, ...]:
    """Prompts to click, for the model that runs the mode; those of the mini where nothing does."""
    known = MINI_PROMPTS if backend in ("mini", None) else FLUX_PROMPTS
    return known.get(mode.control.kind if mode.control else None, known[None])


def photos() -> list[Path]:
    """The example photos, at most four; none if the folder has none."""
    folder = ASSETS / "examples"
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:4]
