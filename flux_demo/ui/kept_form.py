"""A form is kept as it is filled in, so that a page that opens later has it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any

from flux_demo.errors import InvalidPicture
from flux_demo.modes import Mode
from flux_demo.ui.blocks import is_too_long
from flux_demo.ui.files import received, served_again
from flux_demo.ui.services import Services
from flux_demo.ui.tab import fields_of
from flux_demo.ui.visitor_store import is_key


def kept_form(services: Services, visitor: str, mode: Mode) -> dict[str, Any]:
    """What was kept of a form. An emptied number comes back as the default: Gradio would turn it into the minimum."""
    record, names = services.visitors.record(visitor, mode.name), fields_of(mode)
    kept = {name: value for name, value in record.items() if name in names and value is not None}
    if "photo" in kept:
        kept["photo"] = served_again(kept["photo"], services.visitors.file(visitor, f"photo-{mode.name}"))
    return kept


def keep_form(services: Services, visitor: Any, mode: Mode, fields: Mapping[str, Any], saved_fields: dict[str, Any]) -> bool:
    """Keep those fields of a form that are not as this page found or left them: another window may have changed the others meanwhile.

    Returns whether there were any. ``saved_fields``, how the page found or left each of them, is changed in place, since each answer
    makes Gradio's image panel report its photo as changed again.
    """
    nothing = (None, "")
    new = {
        name: value
        for name, value in fields.items()
        if name in fields_of(mode)
        and value != saved_fields[name]
        and not (value in nothing and saved_fields[name] in nothing)
        and not is_too_long(value)
    }
    if new and is_key(visitor):
        services.visitors.update_record(visitor, mode.name, new)
        if "photo" in new:
            _keep_photo(services, visitor, mode, new["photo"])
        saved_fields.update(new)
    return bool(new)


def keeping_form(
    services: Services, mode: Mode, handler: Callable[..., Iterator[dict[str, Any]]]
) -> Callable[..., Iterator[dict[str, Any]]]:
    """A handler that keeps the form first: the browser may tell of the last change before a click only after the click."""

    @wraps(handler)
    def keep_and_handle(**fields: Any) -> Iterator[dict[str, Any]]:
        keep_form(services, fields["visitor"], mode, photo_as_path(fields), fields["saved_fields"])
        yield from handler(**fields)

    return keep_and_handle


def photo_as_path(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they are kept, with the photo's path in place of what the browser sends for it."""
    photo = fields.get("photo")
    return dict(fields) | ({"photo": photo.get("path")} if isinstance(photo, dict) else {})


def _keep_photo(services: Services, visitor: str, mode: Mode, photo: Any) -> None:
    """Keep a photo for after a restart. A full disk is no reason to bother the person with it."""
    with suppress(InvalidPicture, OSError):
        services.visitors.keep_file(visitor, f"photo-{mode.name}", received(photo) if photo else None)
