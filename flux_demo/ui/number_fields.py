"""Number fields that a person cleared."""

from collections.abc import Mapping
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.texts import Text


def check_not_empty(numbers: Mapping[str, Any]) -> None:
    """Raise InvalidRequest unless each number, by its field's label, is there: a field that was cleared means neither the default nor the minimum."""
    for label, value in numbers.items():
        if value in (None, ""):
            raise InvalidRequest("The {label} field is empty. Type a number, or reload the page for the default.", label=Text(label))
