"""What of a tab depends on where its mode runs: the same values build the tab, and dress it anew after a fetch."""

import re
from typing import Any

from flux_demo.backends import Refusal, Route
from flux_demo.errors import BackendUnavailable, FluxDemoError
from flux_demo.modes import MODES, SIZES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import html

FITS = (("Crop what is too much", "crop"), ("Add black borders", "pad"), ("Stretch", "stretch"))
PRESETS = {
    "exact": "exact: the pictures that diffusers draws, bit for bit",
    "faithful": "faithful: the same up to rounding, faster",
    "fast": "fast: eight-bit arithmetic",
    "turbo": "turbo: fast, and some steps reused",
    "small": "small: four-bit weights, for little memory",
}
FETCH = re.compile(r"flux_demo fetch (text|canny|depth|estimator)")


def route_of(studio: Studio, mode: Mode) -> tuple[Route | None, FluxDemoError | None]:
    """The mode's route, or why there is none."""
    try:
        return studio.route(mode.name), None
    except BackendUnavailable as error:
        return None, error


def looks(studio: Studio, mode: Mode) -> dict[str, dict[str, Any]]:
    """By component name the keyword arguments that follow from the route."""
    route, refusal = route_of(studio, mode)
    dials = route.dials if route else None
    own_photos = dials is None or dials.own_photos
    presets = dials.presets if dials else ()
    sizes = [(html.shape(size), str(size)) for size in (dials.sizes if dials else SIZES)]
    if mode.control:
        sizes = [("The photo's own shape", "match"), *sizes]
    low, high = dials.guidance_range if dials else (1, 100)
    if dials and dials.guidance_open:
        low += 0.1
    missing = what_to_fetch(studio, mode)
    values: dict[str, dict[str, Any]] = {
        "where": {"value": where(studio, mode)},
        "run": {"visible": route is not None},
        "stop": {"visible": route is not None},
        "refusal": {"value": html.refusal(refusals(studio, mode)) if refusal else "", "visible": refusal is not None},
        "fetch": {"value": f"Fetch FLUX for {mode.title.lower()}", "visible": missing is not None},
        "size": {"choices": sizes, "value": sizes[0][1]},
        "steps": {
            "minimum": dials.step_range[0] if dials else 1,
            "maximum": dials.step_range[-1] if dials else 100,
            "value": dials.steps if dials else mode.steps,
            "info": f"More take longer. {dials.quality_steps} for the best picture."
            if dials and dials.quality_steps
            else "More take longer.",
        },
        "guidance": {"minimum": low, "maximum": high, "value": dials.guidance if dials else mode.guidance},
        "preset": {
            "choices": [(PRESETS.get(name, name), name) for name in presets],
            "value": presets[0] if presets else None,
            "visible": len(presets) > 1,
        },
    }
    values |= {f"send_{other.name}": {"visible": _takes_photos(studio, other)} for other in MODES.values() if other.control}
    if mode.control:
        count = dials.sample_pictures if dials else 0
        values |= {
            "own": {"visible": own_photos},
            "drawing": {"visible": own_photos},
            "map_note": {
                "value": map_note(mode) if own_photos else html.says("The service draws the map of its sample and does not show it.")
            },
            "sample": {
                "choices": [(f"Picture {n}", n) for n in range(count)],
                "value": 0 if count else None,
                "visible": not own_photos,
            },
            "sample_note": {"value": _sample_note(count), "visible": not own_photos},
        }
    return values


def where(studio: Studio, mode: Mode, loading: str | None = None) -> str:
    """The line that says where the mode runs, and what is being loaded there."""
    route, _ = route_of(studio, mode)
    return html.where(route, mode, studio.reason(mode.name), loading) if route else html.where(None, mode)


def map_note(mode: Mode) -> str:
    """What stands under an empty map."""
    assert mode.control
    return html.says(f"{mode.control.sees}.")


def refusals(studio: Studio, mode: Mode) -> list[Refusal]:
    """Why each backend that comes before the route's cannot run the mode; every one when there is no route."""
    route, _ = route_of(studio, mode)
    if route:
        return list(route.passed_over)
    return [Refusal(each.name, each.title, reason) for each in studio.backends if (reason := each.refusal(mode))]


def what_to_fetch(studio: Studio, mode: Mode) -> str | None:
    """What local FLUX asks to be fetched, in the words of the command that its refusal names; None if nothing."""
    reasons = (each.reason for each in refusals(studio, mode) if each.backend == "local")
    found = next(filter(None, map(FETCH.search, reasons)), None)
    return found[1] if found else None


def _takes_photos(studio: Studio, mode: Mode) -> bool:
    route, _ = route_of(studio, mode)
    return route is None or route.dials.own_photos


def _sample_note(count: int) -> str:
    return (
        '<p class="explains">NVIDIA\'s hosted service follows only its own sample pictures, so a photo of yours cannot go there and none '
        f"is sent. Choose one of the {count}; the service draws its map.</p>"
    )
