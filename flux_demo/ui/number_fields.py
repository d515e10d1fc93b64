"""Numbers that a person emptied."""

from collections.abc import Mapping
from typing import Any

from flux_demo.errors import InvalidRequest


def check_not_empty(numbers: Mapping[str, Any]) -> None:
    """Raise InvalidRequest unless each number, by its field's label, is there: an emptied field is not a wish for the default, nor for the least that there is."""
    for label, value in numbers.items():
        if value in (None, ""):
            raise InvalidRequest(f"The field {label} is empty. Type a number, or reload the page for the default.")
