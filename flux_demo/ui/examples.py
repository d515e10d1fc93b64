"""Examples to click: prompts that the route's model knows, and the photos in assets/examples."""

from pathlib import Path

from flux_demo.modes import Mode
from flux_demo.settings import ASSETS

# By the kind of map that is followed; None where there is none.
MINI_PROMPTS: dict[str | None, tuple[str, ...]] = {
    None: (
        "a red sphere on a wooden floor at sunset",
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
    "canny": (  # each for one of the photographs, in their order: a cat, a cup of coffee, a rocket
        "a red fox with amber eyes, soft window light, 85mm portrait",
        "a bowl of tomato soup on a slate table, fresh basil, editorial food photo",
        "a lighthouse in a winter storm, waves breaking white, oil painting",
    ),
    "depth": (
        "a lioness resting in tall grass at golden hour, wildlife photo",
        "a small pond with water lilies seen from above, morning mist",
        "a waterfall in a dark forest canyon, long exposure, moonlight",
    ),
}


def prompts(mode: Mode, for_mini: bool) -> tuple[str, ...]:
    """Prompts to click, for the model that runs the mode."""
    known = MINI_PROMPTS if for_mini else FLUX_PROMPTS
    return known.get(mode.control.kind if mode.control else None, known[None])


def photos(for_mini: bool) -> list[tuple[Path, str]]:
    """Pictures to click and what is in them, at most four: photographs for FLUX, rendered scenes for the mini; none if the folder has none."""
    folder = ASSETS / "examples" / ("" if for_mini else "photos")
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:4]
    return [(path, path.stem.replace("-", " ")) for path in paths]
