"""What the line under a map says of it."""

from typing import NamedTuple

from PIL import ImageChops

from flux_demo.request import ControlMap
from flux_demo.studio import EMPTY
from flux_demo.ui import html
from flux_demo.ui.files import Look

NEARLY_NONE, NEARLY_ALL = 0.005, 0.4  # shares of pixels of which a map says little
DARK = 24  # of 255: greys up to here look black
NEARLY_GREY = 12  # of 255, between two colours of a pixel; JPEG makes about that of a grey
SAME_SHAPE = 0.01  # a difference of one hundredth is rounding, not a crop


class Facts(NamedTuple):
    """What is known of a photo without a size or options."""

    width: int
    height: int
    looks_like: str | None
    carries_recipe: bool


def described(facts: Facts, control: ControlMap, fit: str, as_map: bool, look: Look | None) -> str:
    """Size, how the photo was fitted, what estimated the depth, and whether the photo looks like a map already."""
    ratio = facts.width / facts.height
    parts = [f"{html.spoken(control.size)}, {_shape_note(ratio, control.size.width / control.size.height, fit)}."]
    if control.estimator:
        parts.append(f"Depth estimated by {'the mini' if control.estimator == 'mini' else control.estimator}.")
    if control.is_empty:
        parts.append(EMPTY)
    elif as_map:
        parts += _unlike(facts, control)
    elif control.kind == "canny":
        parts.append(_edge_note(control))
    elif _share_above(control, DARK) < NEARLY_NONE:
        parts.append(f"Nearly all black: {'lower the near clip' if control.options.get('invert') else 'raise the far clip'}.")
    if look:
        parts.append(f"This photo looks like a map already{', in black on white' if look == 'inverted' else ''}.")
    if facts.carries_recipe:
        parts.append("It was generated here; “Load settings from PNG” restores its settings.")
    return " ".join(parts)


def _edge_note(control: ControlMap) -> str:
    """The per cent of edge pixels, and what to do when the map is nearly empty or nearly full."""
    share = _share_above(control, 0)
    said = f"{share:.1%} edge pixels."
    if share < NEARLY_NONE:
        return f"{said} Nearly no edges: lower both thresholds."
    return f"{said} Nearly all edges: raise both thresholds." if share > NEARLY_ALL else said


def _unlike(facts: Facts, control: ControlMap) -> list[str]:
    """A word about a ready-made map that does not look like one. It is followed all the same."""
    if control.kind == "canny":
        return (
            [] if facts.looks_like == "canny" else ["It is followed as it is, but it does not look like an edge map: white lines on black."]
        )
    return [] if _is_grey(control) else ["It is followed as it is, but it does not look like a depth map: greys, the near ones lighter."]


def _is_grey(control: ControlMap) -> bool:
    red, *others = control.image.split()
    return all(ImageChops.difference(red, other).point(lambda value: value > NEARLY_GREY and 255).getbbox() is None for other in others)


def _share_above(control: ControlMap, level: int) -> float:
    """The share of the map's pixels that are brighter than this, of 0 to 255."""
    histogram = control.image.getchannel(0).histogram()
    return sum(histogram[level + 1 :]) / max(sum(histogram), 1)


def _shape_note(photo: float, picture: float, fit: str) -> str:
    wider = photo / picture
    if abs(wider - 1) <= SAME_SHAPE:
        return "the whole photo"
    if fit == "crop":
        cut, where = (1 - 1 / wider, "left and right") if wider > 1 else (1 - wider, "top and bottom")
        return f"{cut:.0%} cropped {where}"
    if fit == "pad":
        return f"the whole photo, black {'above and below' if wider > 1 else 'left and right'}"
    return f"{max(wider, 1 / wider) - 1:.0%} {'taller' if wider > 1 else 'wider'} than the photo"
