"""A comparison's strip: kept for a reload, and gone with the first of its images that is deleted."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo.ui.files import served_again, unpublish
from flux_demo.ui.visitor_store import VisitorStore


def keep_strip(visitors: VisitorStore, visitor: str, path: str, images: Sequence[str]) -> None:
    """Keep the file of a strip, with the names of the images that it shows. A full disk is no reason to withhold it now."""
    visitors.update_record(visitor, "", {"strip": path, "compared": images})
    with suppress(OSError):
        visitors.keep_file(visitor, "strip", Path(path))


def strip_before(visitors: VisitorStore, visitor: str) -> dict[str, Any]:
    """What a page that opens shows of the strip that an earlier page of this visitor showed."""
    path = served_again(visitors.record(visitor, "").get("strip"), visitors.file(visitor, "strip"))
    return strip_updates(path) if path else {}


def strip_updates(path: str | None) -> dict[str, Any]:
    """The strip below the tabs; nothing there without one."""
    return {"strip": gr.update(value=path, visible=path is not None)}


def strip_without(visitors: VisitorStore, visitor: str, deleted: str) -> dict[str, Any]:
    """What the page shows of the strip after an image was deleted; a strip with that image is deleted too."""
    compared = visitors.record(visitor, "").get("compared", [deleted])  # of an older program's strip, the images are not known
    return delete_strip(visitors, visitor) if deleted in compared else {}


def delete_strip(visitors: VisitorStore, visitor: str) -> dict[str, Any]:
    """Delete the strip, if there is one, and say what the page shows then."""
    path = visitors.record(visitor, "").get("strip")
    visitors.update_record(visitor, "", {"strip": None})
    visitors.keep_file(visitor, "strip", None)
    unpublish(path)
    return strip_updates(None)
