"""This visitor's images as the page shows them; where they are kept is in visitor_store.py."""

import io
import logging
import os
import shutil
import threading
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from flux_demo import folders
from flux_demo.errors import GenerationFailed
from flux_demo.gallery import Gallery, GeneratedImage
from flux_demo.modes import MODES
from flux_demo.progress import Step
from flux_demo.recipe import Recipe
from flux_demo.ui import html
from flux_demo.ui.files import AsSent, DrawnFrom, ShownMap, address, new_file, publish_kept, received, still_kept, unpublish
from flux_demo.ui.translation import IMAGE_OF, PREVIEW, translate
from flux_demo.ui.visitor_store import StoredImage, VisitorStore

NOT_LISTED = (
    "The image is finished and kept in the outputs folder as {name}, but it cannot be added to the history: the disk cannot be written to ({why}). "
    "{advice} Then drop the image here."
)
NOT_DELETED = "An image cannot be deleted: the outputs folder refuses it ({why}). Make the folder writable, then delete the image again."
log = logging.getLogger("flux_demo.ui")

MANY = 500  # entries; where there are more, those whose file is gone are dropped
THUMB = 176  # pixels of a thumbnail's longer side, twice what the page shows
PANEL = ["box", "large"]  # the classes of a tab's image


def actions() -> tuple[str, ...]:
    """The buttons under an image."""
    return ("reuse_seed", "random_seed", "reuse_settings", "delete", *(f"send_{mode.name}" for mode in MODES.values() if mode.control))


@dataclass(frozen=True)
class Entry:
    """An image as the page shows it, and what is needed to return to it."""

    path: str  # the served copy
    recipe: Recipe
    title: str  # of the backend
    shown: ShownMap | None = None  # the map it followed
    photo: str | None = None  # the upload that the map was drawn from
    name: str | None = None  # the gallery's file; None for one that is not kept: restored from a file, or partial
    thumb: str | None = None


class History:
    """Every visitor's images. A file is copied to where its browser may fetch it only once, and the copy goes with the image."""

    def __init__(self, gallery: Gallery, visitors: VisitorStore, titles: dict[str, str]) -> None:
        self.visitors = visitors
        self._gallery, self.titles = gallery, titles
        self._entries: dict[tuple[str, str], Entry] = {}  # by visitor and file name
        self._too_many = MANY
        self._lock = threading.Lock()

    def add(self, visitor: str, made: GeneratedImage, shown: ShownMap | None) -> None:
        """Keep a new image for a visitor, and remember the map and the photo that are on the page. Raises GenerationFailed."""
        self._list(visitor, made.path, made.recipe, shown)
        entry = self._entry(StoredImage(made.path, made.recipe, None))
        self._remember(visitor, replace(entry, shown=shown, photo=shown.drawn_from.photo if shown else None))

    def entries(self, visitor: str) -> list[Entry]:
        """The visitor's images, newest first."""
        found = []
        for kept in self.visitors.images(visitor):
            with self._lock:
                entry = self._entries.get((visitor, kept.path.name))
            if entry is None or not all(path is None or os.path.exists(path) for path in (entry.path, entry.thumb)):
                try:
                    entry = self._entry(kept)
                except (
                    OSError,
                    SyntaxError,
                    ValueError,
                    GenerationFailed,
                ) as error:  # deleted in this moment, or damaged: the others are still there
                    log.warning("%s cannot be shown in the history: %s", kept.path.name, error)
                    continue
                self._remember(visitor, entry)
            found.append(entry)
        return found

    def remove(self, visitor: str, names: list[str]) -> None:
        """Delete images of this visitor: the files, and the copies that were given to the browser. Raises GenerationFailed where one cannot be."""
        refused = None
        try:
            self.visitors.remove(visitor, names)
        except OSError as error:
            refused = error
        self._drop_archive(visitor)
        for name in names:
            with self._lock:
                entry = self._entries.pop((visitor, name), None)
            for path in (entry.path, entry.thumb) if entry else ():
                unpublish(path)
        if refused:
            raise GenerationFailed(NOT_DELETED, why=folders.reason(refused)) from refused

    def keep(self, visitor: str, entry: Entry) -> None:
        """Keep a partial image: it goes to the gallery and to the visitor's images. Raises GenerationFailed, InvalidPicture."""
        path = self._gallery.adopt(received(entry.path), f"{entry.recipe.mode}-{entry.recipe.seed}-partial")
        self._list(visitor, path, entry.recipe, entry.shown)

    def archive(self, visitor: str) -> str:
        """A zip of the visitor's images with their maps and recipes, as a file that the browser may fetch, in place of the one before."""
        self._drop_archive(visitor)
        path = new_file("flux-images.zip")
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as archive:  # PNGs are compressed already; a date before 1980 becomes 1980
            for kept in self.visitors.images(visitor, most=-1):
                archive.write(kept.path, kept.path.name)
                archive.writestr(f"{kept.path.stem}.json", kept.recipe.to_json())
                if kept.map_path:
                    archive.write(kept.map_path, f"{kept.path.stem}-map.png")
        self.visitors.save_record(visitor, "archive", {"path": str(path)})
        return str(path)

    def _drop_archive(self, visitor: str) -> None:
        unpublish(self.visitors.record(visitor, "archive").get("path"))

    def _list(self, visitor: str, image: Path, recipe: Recipe, shown: ShownMap | None) -> None:
        try:
            self.visitors.add(visitor, image, recipe, Path(shown.path) if shown else None)
        except OSError as error:
            why, advice = folders.reason(error), folders.advice(error, "Make it writable.")
            raise GenerationFailed(NOT_LISTED, name=image.name, why=why, advice=advice) from error

    def _remember(self, visitor: str, entry: Entry) -> None:
        assert entry.name
        with self._lock:
            self._entries[visitor, entry.name] = entry
            if len(self._entries) > self._too_many:  # of visitors who have gone: their copies have been cleared away
                self._entries = {each: kept for each, kept in self._entries.items() if still_kept(kept.path)}
                self._too_many = max(MANY, 2 * len(self._entries))

    def _entry(self, kept: StoredImage) -> Entry:
        path = publish_kept(kept.path)
        shown = map_beside(kept.recipe, kept.map_path)
        title = self.titles.get(kept.recipe.backend, kept.recipe.backend)
        return Entry(path, kept.recipe, title, shown, None, kept.path.name, _thumbnail(Path(path)))


def map_beside(recipe: Recipe, map_path: Path | None) -> ShownMap | None:
    """The map that was kept beside an image, as the page shows it; its photo is not kept with it."""
    control = recipe.control
    if control is None or map_path is None:
        return None
    path = new_file(f"{control.kind}-map.png")
    shutil.copyfile(map_path, path)
    options = dict(control.options)
    drawn_from = DrawnFrom(None, None, control.fit, not options, tuple(options.items()))
    return ShownMap(str(path), drawn_from, control.kind, options, control.fit, control.estimator, control.sha256)


def _thumbnail(image: Path) -> str | None:
    """A small copy of a served image. None where the image itself stands for it: it is as small, or the temporary folder takes no more."""
    from PIL import Image

    with Image.open(image) as opened:
        if max(opened.size) <= THUMB:
            return None
        opened.thumbnail((THUMB, THUMB))
        small = io.BytesIO()
        opened.convert("RGB").save(small, "WEBP", quality=82, method=2)  # the default, 4, takes twice as long for 3 % less
    path = image.with_name("thumb.webp")
    try:
        path.write_bytes(small.getvalue())
    except OSError:
        path.unlink(missing_ok=True)
        return None
    return str(path)


def thumbnails(history: list[Entry]) -> list[dict[str, Any]]:
    """Images and their alternative texts, as the browser's gallery takes them."""
    files = [address(entry.thumb, "image/webp") if entry.thumb else address(entry.path, "image/png") for entry in history]
    return [{"image": file, "caption": entry.recipe.prompt[:200]} for file, entry in zip(files, history, strict=True)]


def image_components() -> tuple[str, ...]:
    """A tab's components that show an image."""
    return ("picture", "image_head", "caption", "details", "last", "preview", "keep", *actions())


def image_updates(entry: Entry) -> dict[str, Any]:
    """What a tab shows of an image."""
    buttons = dict.fromkeys(actions(), gr.update(interactive=True))
    buttons["delete"] = gr.update(interactive=entry.name is not None)
    return {
        "picture": picture_of(entry),
        "image_head": html.image_head(),
        "caption": html.caption(entry.recipe, entry.title),
        "details": html.details(entry.recipe),
        "last": entry,
        "preview": gr.update(visible=False),
        "keep": gr.update(visible=entry.recipe.stopped_at is not None and entry.name is None),
        **buttons,
    }


def no_image_updates() -> dict[str, Any]:
    """What a tab shows without an image."""
    buttons = dict.fromkeys(actions(), gr.update(interactive=False))
    return {
        "picture": picture_of(None),
        "image_head": html.image_head(),
        "caption": "",
        "details": "",
        "last": None,
        "preview": gr.update(visible=False),
        "keep": gr.update(visible=False),
        **buttons,
    }


def picture_of(entry: Entry | None) -> dict[str, Any]:
    """The image alone; an empty panel without one, or when it was deleted in another window."""
    alt_text = translate(IMAGE_OF, prompt=entry.recipe.prompt[:300]) if entry else translate("The image")
    return gr.update(value=still_kept(entry.path) if entry else None, alt_text=alt_text, elem_classes=PANEL)


def preview_of(step: Step) -> dict[str, Any]:
    """A preview in the image's place. The style sheet hides what belongs to the image before, for as long as the panel has this class.

    Where the temporary folder takes no more, what is there stays: Gradio, if it wrote the preview, would end the event.
    """
    assert step.preview
    try:
        path = new_file("preview.png")
        step.preview.save(path, format="PNG", compress_level=1)
    except OSError:
        return gr.skip()
    return gr.update(value=str(path), alt_text=translate(PREVIEW), elem_classes=[*PANEL, "previewing"])


def history_updates(history: list[Entry]) -> dict[str, Any]:
    """The visitor's images below the tabs."""
    return {"history": history, "gallery": AsSent(gr.update(value=thumbnails(history))), "recent": html.recent_prompts(history)}
