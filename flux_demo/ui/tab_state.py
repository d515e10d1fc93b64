"""The parts of a tab that depend on where its mode runs: the same values build the tab, and update it after a fetch."""

from typing import Any

from gradio.i18n import I18nData

from flux_demo.backends import NoRoute, Route
from flux_demo.modes import DEFAULT_SIZES, MATCH, MODES, Mode
from flux_demo.studio import Studio
from flux_demo.ui import examples, html

EXAMPLE_PROMPTS = ("prompt_1", "prompt_2", "prompt_3")
EXAMPLE_PHOTOS = {"mini_photos": True, "flux_photos": False}  # and whether they are for the mini


def find_route(studio: Studio, mode: Mode) -> Route | NoRoute:
    """The mode's route, or the error that says why there is none."""
    try:
        return studio.route(mode.name)
    except NoRoute as error:
        return error


def takes_photos(studio: Studio, mode: Mode) -> bool:
    """Whether a mode with a control draws the maps of one's own photos; where nothing runs it, to be previewed."""
    route = find_route(studio, mode)
    return not isinstance(route, Route) or route.dials.own_photos


def tab_state(studio: Studio, mode: Mode) -> dict[str, dict[str, Any]]:
    """By component name the properties that follow from the routes."""
    route, lacking = find_route(studio, mode), what_to_fetch(studio, mode)
    dials = route.dials if isinstance(route, Route) else None
    values: dict[str, dict[str, Any]] = {
        "where": {"value": route_line_of(studio, mode, route)},
        "run": {"visible": dials is not None},
        "stop": {"visible": dials is not None},
        "refusal": {"value": "" if dials else html.refusal(route.passed_over, may_check(studio)), "visible": dials is None},
        "fetch": {
            "value": str(I18nData("Fetch the content filter" if lacking == "filter" else f"Fetch FLUX for {mode.title.lower()}")),
            "visible": lacking is not None,
        },
        **settings_state(route, mode),
    }
    for_mini = not isinstance(route, Route) or route.runs_mini(mode)
    values |= {name: {"value": prompt} for name, prompt in zip(EXAMPLE_PROMPTS, examples.prompts(mode, for_mini), strict=True)}
    values |= {f"send_{other.name}": {"visible": takes_photos(studio, other)} for other in MODES.values() if other.control}
    if mode.control is None:
        return values
    values |= {name: {"visible": which is for_mini and bool(examples.photos(which))} for name, which in EXAMPLE_PHOTOS.items()}
    return values | _map_state(mode, dials.sample_pictures if dials else 0, dials is None or dials.own_photos)


def settings_state(route: Route | NoRoute, mode: Mode) -> dict[str, dict[str, Any]]:
    """By component name the choices, ranges and defaults of what a person sets. Looks at no file."""
    dials = route.dials if isinstance(route, Route) else None
    presets = dials.presets if dials else ()
    sizes = offered_sizes(route, mode)
    low, high = dials.guidance_range if dials else (1, 100)
    if dials and dials.guidance_open:
        low += 0.1
    steps_info = f"{dials.quality_steps} for best quality" if dials and dials.quality_steps else "more steps take longer"
    values: dict[str, dict[str, Any]] = {
        "size": {"choices": sizes, "value": sizes[0][1]},
        "steps": {
            "minimum": dials.step_range[0] if dials else 1,
            "maximum": dials.step_range[-1] if dials else 100,
            "value": dials.steps if dials else mode.steps,
            "info": str(I18nData(steps_info)),  # also when it is sent anew
        },
        "guidance": {"minimum": low, "maximum": high, "value": dials.guidance if dials else mode.guidance},
        "preset": {"choices": html.presets(presets), "value": presets[0] if presets else None, "visible": len(presets) > 1},
    }
    if mode.control:
        samples = dials.sample_pictures if dials else 0
        values["sample"] = {
            "choices": [(f"{I18nData('Sample image')} {number + 1}", number) for number in range(samples)],
            "value": 0 if samples else None,
            "visible": dials is not None and not dials.own_photos,
        }
    return values


def offered_sizes(route: Route | NoRoute, mode: Mode) -> list[tuple[str, str]]:
    """Choices of the size field: words and value."""
    sizes = [(html.shape(size), str(size)) for size in (route.dials.size_limits.sizes if isinstance(route, Route) else DEFAULT_SIZES)]
    return [("Match photo", MATCH), *sizes] if mode.control else sizes


def route_line_of(studio: Studio, mode: Mode, route: Route | NoRoute, loading: str | None = None) -> str:
    """The line that says where the mode runs, and what is being loaded there."""
    if not isinstance(route, Route):
        return html.route_line(None, mode, may_check(studio))
    return html.route_line(route, mode, may_check(studio), studio.reason(mode.name), loading)


def may_check(studio: Studio) -> bool:
    """Whether who uses the page may have the backends checked again; strangers may not."""
    return not studio.settings.public


def map_note(mode: Mode) -> str:
    """The line under an empty map."""
    assert mode.control
    return html.script_says(mode.control.sees)


def what_to_fetch(studio: Studio, mode: Mode) -> str | None:
    """What can be fetched so that an earlier backend runs the mode, as ``fetch`` names it. None if nothing, and for strangers."""
    if studio.settings.public:
        return None
    return next((each.refusal.fetch for each in find_route(studio, mode).passed_over if each.refusal.fetch), None)


def _map_state(mode: Mode, samples: int, own_photos: bool) -> dict[str, dict[str, Any]]:
    note = map_note(mode) if own_photos else html.script_says("The service draws the map of its sample and does not show it.")
    return {
        "own": {"visible": own_photos},
        "drawing": {"visible": own_photos},
        "view": {"visible": own_photos},
        "compare": {"visible": own_photos},
        "map_note": {"value": note},
        "sample_note": {"value": html.sample_note(samples), "visible": not own_photos},
    }
