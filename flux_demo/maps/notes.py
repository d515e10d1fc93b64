"""What is said about a map and about the photo that it was drawn from. The page translates these texts; values stand in them in braces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flux_demo.request import ControlMap, Size
from flux_demo.texts import Number, Text

if TYPE_CHECKING:
    from PIL.Image import Image

SAME_SHAPE = 0.01  # a difference of one hundredth is rounding, not a crop
SEVERAL = "several frames"  # among the ``info`` of a photo that was opened: its file has more than the one that was taken

EMPTY = "The map has the same colour everywhere, so the image follows nothing. Draw it with other settings, or choose another photo."
FIRST_OF_SEVERAL = "The file has several frames or pages, and only the first is used."
BY_MINI, ESTIMATED_BY = "Depth estimated by the mini.", "Depth estimated by {estimator}."
SIZE_AND_FIT, TO_FIT = "{size}, {fit}.", "To fit {size}: {fit}."
WHOLE = "the whole photo"
CROPPED_SIDES, CROPPED_ENDS = "{share} cropped left and right", "{share} cropped top and bottom"
BLACK_ENDS, BLACK_SIDES = "the whole photo, black above and below", "the whole photo, black left and right"
TALLER, WIDER = "{share} taller than the photo", "{share} wider than the photo"


def shape_note(photo: float, picture: float, fit: str) -> tuple[str, Mapping[str, str]]:
    """How a photo came to another shape, each as width divided by height: the text, and its values."""
    wider = photo / picture
    if abs(wider - 1) <= SAME_SHAPE:
        return WHOLE, {}
    if fit == "crop":
        sentence, share = (CROPPED_SIDES, 1 - 1 / wider) if wider > 1 else (CROPPED_ENDS, 1 - wider)
        return sentence, {"share": Number(f"{share:.0%}")}
    if fit == "pad":
        return (BLACK_ENDS if wider > 1 else BLACK_SIDES), {}
    return (TALLER if wider > 1 else WIDER), {"share": Number(f"{max(wider, 1 / wider) - 1:.0%}")}


def estimator_note(estimator: str) -> Text:
    """What a depth map was estimated by, as ``ControlMap.estimator`` has it."""
    return Text(BY_MINI) if estimator == "mini" else Text(ESTIMATED_BY, estimator=estimator)


def photo_notes(photo: Image, size: Size, fit: str) -> tuple[str, ...]:
    """What the person may not expect of a photo, as ``open_photo`` gives it, that is brought to that size."""
    frames = (FIRST_OF_SEVERAL,) if photo.info.get(SEVERAL) else ()
    text, values = shape_note(photo.width / photo.height, size.width / size.height, fit)
    return frames if text == WHOLE else (*frames, Text(TO_FIT, size=size, fit=Text(text, **values)))


def map_notes(control: ControlMap | None) -> tuple[str, ...]:
    """What belongs to an image that follows this map."""
    return (*control.notes, *([EMPTY] if control.is_empty else [])) if control else ()
