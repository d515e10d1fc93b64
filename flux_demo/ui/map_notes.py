"""What the line under a map says about it."""

from typing import NamedTuple

from PIL import ImageChops

from flux_demo.maps.notes import EMPTY, FIRST_OF_SEVERAL, SIZE_AND_FIT, estimator_note, shape_note
from flux_demo.request import ControlMap
from flux_demo.texts import Number, join_sentences
from flux_demo.ui import html
from flux_demo.ui.files import Look
from flux_demo.ui.translation import translate

NEARLY_NONE, NEARLY_ALL = 0.005, 0.4  # shares of non-black pixels below and above which a map says little
DARK = 24  # of 255: greys up to here look black
NEARLY_GREY = 12  # of 255, between two colours of a pixel; JPEG turns a grey into colours about that far apart

EDGE_PIXELS = "{share} edge pixels."
NO_EDGES, ALL_EDGES = "Almost no edges: lower both thresholds.", "Almost all edges: raise both thresholds."
BLACK, BLACK_INVERTED = "Almost all black: raise the far clip.", "Almost all black: lower the near clip."
LOOKS_LIKE_A_MAP, LOOKS_INVERTED = "This photo looks like a map already.", "This photo looks like a map already, in black on white."
GENERATED_HERE = "It was generated here; “Load settings from PNG” restores its settings."
UNLIKE_EDGES = "It is followed as it is, but it does not look like an edge map: white lines on black."
UNLIKE_DEPTH = "It is followed as it is, but it does not look like a depth map: greys, the near ones lighter."


class Facts(NamedTuple):
    """What is known of a photo without a size or options."""

    width: int
    height: int
    looks_like: str | None
    carries_recipe: bool
    several: bool = False  # frames or pages, of which it is the first


def photo_note(facts: Facts, control: ControlMap, fit: str, as_map: bool, look: Look | None) -> str:
    """Size, how the photo was fitted, what estimated the depth, and whether the photo looks like a map already."""
    ratio = facts.width / facts.height
    how, values = shape_note(ratio, control.size.width / control.size.height, fit)
    parts = [translate(SIZE_AND_FIT, size=html.size_text(control.size), fit=translate(how, **values))]
    if facts.several:
        parts.append(translate(FIRST_OF_SEVERAL))
    if control.estimator:
        parts.append(translate(estimator_note(control.estimator)))
    if control.is_empty:
        parts.append(translate(EMPTY))
    if as_map:
        parts += _unlike(facts, control)
    elif control.is_empty:
        pass
    elif control.kind == "canny":
        parts.append(_edge_note(control))
    elif _share_above(control, DARK) < NEARLY_NONE:
        parts.append(translate(BLACK_INVERTED if control.options.get("invert") else BLACK))
    if look:
        parts.append(translate(LOOKS_INVERTED if look == "inverted" else LOOKS_LIKE_A_MAP))
    if facts.carries_recipe:
        parts.append(translate(GENERATED_HERE))
    return translate(join_sentences(*parts))


def _edge_note(control: ControlMap) -> str:
    """The percentage of edge pixels, and what to do when the map is nearly empty or nearly full."""
    share = _share_above(control, 0)
    counted = translate(EDGE_PIXELS, share=Number(f"{share:.1%}"))
    if share < NEARLY_NONE:
        return translate(join_sentences(counted, translate(NO_EDGES)))
    return translate(join_sentences(counted, translate(ALL_EDGES))) if share > NEARLY_ALL else counted


def _unlike(facts: Facts, control: ControlMap) -> list[str]:
    """A word about a ready-made map that does not look like one. It is followed all the same."""
    if control.kind == "canny":
        return [] if facts.looks_like == "canny" else [translate(UNLIKE_EDGES)]
    return [] if _is_grey(control) else [translate(UNLIKE_DEPTH)]


def _is_grey(control: ControlMap) -> bool:
    red, *others = control.image.split()
    return all(ImageChops.difference(red, other).point(lambda value: value > NEARLY_GREY and 255).getbbox() is None for other in others)


def _share_above(control: ControlMap, level: int) -> float:
    """The share of the map's pixels that are brighter than this, of 0 to 255."""
    histogram = control.image.getchannel(0).histogram()
    return sum(histogram[level + 1 :]) / max(sum(histogram), 1)
