"""Files between the browser and this program.

A file that comes in must be in Gradio's upload folder: a raw request may name any path of the machine.
A file that goes out is a copy under an unguessable name in that same folder, byte for byte the file itself.
"""

import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from gradio.data_classes import FileData
from gradio.route_utils import API_PREFIX
from gradio.utils import get_upload_folder

from flux_demo import folders
from flux_demo.errors import GenerationFailed, InvalidPicture
from flux_demo.request import ControlMap
from flux_demo.ui.temporary import make_again

ADDRESS = re.compile(rf"[A-Za-z]+://|.*{API_PREFIX}/file=", re.DOTALL)
Look = Literal["map", "inverted", "either"]


class DrawnFrom(NamedTuple):
    """Everything that a map depends on, as the form has it."""

    photo: str | None  # the upload's path; None for a map restored from a recipe
    size: Any
    fit: Any
    as_map: bool
    options: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class ShownMap:
    """The map that the page shows, as a file, and what it was drawn from."""

    path: str
    drawn_from: DrawnFrom
    kind: str
    options: dict
    fit: str | None
    estimator: str | None
    sha256: str
    note: str = ""
    looks_like: Look | None = None  # what the photo looks like already, if that is a map of this kind
    keeps: tuple[float, float, float, float] | None = None  # left, top, width, height that crop keeps of the photo, as shares of it
    painted_on: "ShownMap | None" = None  # what the editor still has under the strokes that this map was painted with
    edited_before: "tuple[ShownMap, ...]" = ()  # what the editor showed before this map, newest first: a last stroke may be on its way


@dataclass(frozen=True)
class AsSent:
    """An output that is already in the form which the browser takes, so that Gradio need not build it."""

    update: dict[str, Any]


def received(value: Any) -> Path:
    """The path of an uploaded file. Raises InvalidPicture for anything that nobody uploaded."""
    path = value.get("path") if isinstance(value, dict) else getattr(value, "path", value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidPicture("No image was given. Add a PNG or JPEG file.")
    try:
        resolved = Path(path).resolve()
        known = resolved.is_relative_to(Path(get_upload_folder()).resolve()) and resolved.is_file()
    except (OSError, RuntimeError, ValueError):
        known = False
    if not known:
        raise InvalidPicture("This image was not uploaded here, or is no longer kept. Upload it again.")
    return resolved


def path_in_address(given: Any) -> Any:
    """The path of the file behind one of this page's own addresses; anything that is not an address is returned unchanged.

    Raises InvalidPicture for any other address: nothing is fetched.
    """
    if not (isinstance(given, str) and ADDRESS.match(given)):
        return given
    with suppress(ValueError):  # the address cannot be parsed
        if path := unquote(urlsplit(given).path).partition("/file=")[2]:
            return path
    raise InvalidPicture("Nothing is fetched from an address that is not this page's own. Download the image and upload the file.")


def still_kept(path: str | None) -> str | None:
    """The path again if it is an upload that is still there."""
    try:
        return str(received(path))
    except InvalidPicture:
        return None


def served_again(path: str | None, kept: Path | None) -> str | None:
    """The path that a page had once, or a copy of the file that was kept for it: a restart of the program empties the temporary folder."""
    return path and (still_kept(path) or (publish(kept) if kept else None))


def publish(source: Path, name: str | None = None) -> str:
    """Copy a file to where the browser may fetch it; only whoever knows the name can."""
    path = new_file(name or source.name)
    shutil.copyfile(source, path)
    return str(path)


def unpublish(path: str | None) -> None:
    """Delete a copy that the browser could fetch. Where a system does not delete what is being downloaded, the clearing finds it later."""
    if served := still_kept(path):
        with suppress(OSError):
            os.unlink(served)


def publish_kept(image: Path) -> str:
    """``publish`` for an image in the gallery. Raises GenerationFailed saying where it is, when the temporary folder takes no copy."""
    try:
        return publish(image)
    except OSError as error:
        why = "The image is finished and kept in the outputs folder as {name}, but it cannot be shown: the temporary folder cannot be written to ({why}). {advice}"
        reason, advice = folders.reason(error), folders.advice(error, "Set GRADIO_TEMP_DIR to another folder.")
        raise GenerationFailed(why, name=image.name, why=reason, advice=advice) from error


def keep_map(control: ControlMap, drawn_from: DrawnFrom, note: str = "") -> ShownMap:
    """Write the map once; this file is what the page shows and what is sent."""
    path = new_file(f"{control.kind}-map.png")
    control.image.save(path, format="PNG", compress_level=1)
    return ShownMap(str(path), drawn_from, control.kind, dict(control.options), control.fit, control.estimator, control.sha256, note)


def map_to_send(shown: ShownMap) -> ControlMap:
    """The map in the shown file, as FLUX follows it. Raises InvalidPicture when the file is gone."""
    from flux_demo.maps.photo import open_photo

    image = open_photo(received(shown.path))
    return ControlMap(shown.kind, image, shown.options, shown.fit, shown.estimator)


def address(path: str, mime_type: str) -> dict[str, Any]:
    """A file of the page's own as Gradio tells the browser of it; Gradio itself would ask the disk a dozen times whether it may."""
    url = f"{API_PREFIX}/file={quote(path)}"
    return FileData(path=path, url=url, orig_name=Path(path).name, mime_type=mime_type).model_dump()


def new_file(name: str) -> Path:
    """A path of that name which the browser may fetch and nobody can guess."""
    folder = Path(get_upload_folder())
    make_again(folder)
    folder /= secrets.token_urlsafe(24)
    folder.mkdir()
    return folder / name
