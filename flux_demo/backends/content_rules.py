"""What a page may show of FLUX's images: on one that strangers reach, only what the content filter has passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_demo.backends import Refusal
from flux_demo.backends.own_engine import missing_libraries
from flux_demo.errors import ContentRefused
from flux_demo.safety import Filter, installed_filter
from flux_demo.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

NO_FILTER = (
    "Strangers can reach this page, and the filter that FLUX's licence asks for is not here. "
    "Run `python -m flux_demo fetch filter`, or start with --allow-unfiltered (FLUX_DEMO_ALLOW_UNFILTERED=1 where there are no options) if you review what is shown."
)


class ContentRules:
    """What a page with these settings may show."""

    def __init__(self, settings: Settings) -> None:
        self.are_strict = bool(settings.public) and not settings.allow_unfiltered  # nothing is shown that the filter has not passed
        self._filter: Filter | None = None  # kept once its files are here

    @property
    def filter(self) -> Filter | None:
        if self._filter is None:
            self._filter = installed_filter()
        return self._filter

    def refusal(self) -> Refusal | None:
        if self.filter:
            return missing_libraries()
        return Refusal(NO_FILTER, fetch="filter") if self.are_strict else None

    def verdict(self, image: Image) -> str | None:
        """What the filter says of a finished image; None without a filter. Raises ContentRefused for one that may not be shown."""
        if self.filter:
            return str(self.filter.check(image))
        if self.are_strict:  # the files were deleted after the page had started
            raise ContentRefused(f"The image is finished and not shown, because {NO_FILTER[0].lower()}{NO_FILTER[1:]}")
        return None
