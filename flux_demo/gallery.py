"""Where images are kept: PNG files that carry their recipe."""

from __future__ import annotations

import datetime
import html
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flux_demo import display, folders
from flux_demo.errors import GenerationFailed, InvalidRequest
from flux_demo.recipe import CHUNK, PARAMETERS, Recipe, recipe_of
from flux_demo.request import BackendOutput, GenerationRequest
from flux_demo.texts import Text
from flux_demo.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

XMP = "XML:com.adobe.xmp"  # the chunk in which readers of PNG look for XMP

# The file's statement of its origin, in the IPTC's vocabulary, which platforms read.
ORIGIN = {
    "Software": f"flux_demo {VERSION}",
    XMP: """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""",
}
PART = ".flux_demo-*.part"  # the name of an unfinished file
STALE_S = 3600  # no image takes an hour to write
BYTES_PER_PIXEL = 4  # of a PNG that cannot be made smaller, with its recipe


@dataclass(frozen=True)
class GeneratedImage:
    """An image in the gallery, and all that is needed to generate it again."""

    path: Path  # the PNG, with its recipe inside
    request: GenerationRequest  # complete: with the seed that was used
    recipe: Recipe
    seconds: float  # of the run itself, without waiting in the queue
    notes: tuple[str, ...] = ()  # sentences for the person about this run

    @property
    def image(self) -> Image:
        """The image, RGB, read from its file. Raises OSError where that is gone or damaged."""
        from PIL import Image as PIL_Image

        try:
            with PIL_Image.open(self.path) as image:
                return image.convert("RGB")
        except SyntaxError as error:  # what Pillow says of a damaged chunk
            raise OSError(str(error)) from error

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; None where the file is gone or damaged, as ``_repr_html_`` says there."""
        try:
            return display.png(self.image)
        except OSError:
            return None

    def _repr_html_(self) -> str:
        made, shown = self.recipe, self._repr_png_()
        if shown is None:
            return f"The file {html.escape(self.path.name)} is gone or damaged. Generate its <code>request</code> again for the same image."
        caption = f"{made.prompt} ({made.width}x{made.height}, seed {made.seed}, {self.seconds:.1f} s)"
        return display.figure(shown, caption, "Recipe", made.to_dict())


class Gallery:
    """A folder of images, made when the first one is kept. It stays the same one when the process changes its working directory."""

    def __init__(self, folder: Path, named_by: str = "FLUX_DEMO_OUTPUTS"):
        self.folder = folder
        with suppress(OSError):  # the working directory was deleted; ``check`` says that no image can be kept there
            self.folder = folder.absolute()
        self._named_by = named_by  # the variable or option that a person chooses it with
        self._swept = False

    def check(self, pixels: int = 0) -> None:
        """Raise InvalidRequest if an image of that many pixels could not be kept. Called before it is generated; creates nothing."""
        why = folders.problem(self.folder)
        if not why and (free := folders.free_bytes(self.folder)) is not None and free < pixels * BYTES_PER_PIXEL:
            why = Text("its disk is full")
        if why:
            sentence = "Images cannot be kept in the outputs folder: {why}. Choose another one with {option}."
            raise InvalidRequest(sentence, why=why, option=self._named_by)

    def save(self, output: BackendOutput, request: GenerationRequest, backend: str, seconds: float) -> GeneratedImage:
        """Keep an image with its recipe inside, under a name of its own. Raises GenerationFailed when the disk refuses."""
        if output.seed is not None:
            request = replace(request, seed=output.seed)
        now = datetime.datetime.now(datetime.UTC)
        recipe = recipe_of(request, output, backend, seconds, now.isoformat(timespec="seconds"), VERSION)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            stem = "-".join([f"{now:%Y%m%d-%H%M%S}", request.mode, *([str(recipe.seed)] if recipe.seed is not None else [])])
            texts = {CHUNK: recipe.to_json(), PARAMETERS: recipe.parameters()} | ORIGIN
            path = write_new(self.folder, stem, lambda file: write_png(output.image, file, texts))
        except OSError as error:
            raise self._failed("The image is finished but cannot be kept: {why}. {advice}", error) from error
        return GeneratedImage(path, request, recipe, seconds, output.notes)

    def adopt(self, png: Path, name: str) -> Path:
        """Copy a PNG with its recipe inside into the folder; its new path. Raises GenerationFailed when the disk refuses."""
        now = datetime.datetime.now(datetime.UTC)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return write_new(self.folder, f"{now:%Y%m%d-%H%M%S}-{name}", lambda file: file.write(png.read_bytes()))
        except OSError as error:
            raise self._failed("The image cannot be kept: {why}. {advice}", error) from error

    def _failed(self, sentence: str, error: OSError) -> GenerationFailed:
        advice = folders.advice(error, "Choose another folder with {option}.", option=self._named_by)
        return GenerationFailed(sentence, why=folders.reason(error), advice=advice)

    def _sweep(self) -> None:
        """Remove, once, what a killed program left half written."""
        if not self._swept:
            self._swept = True
            for left in self.folder.glob(PART):
                with suppress(OSError):  # somebody else's, or gone meanwhile
                    if time.time() - left.stat().st_mtime > STALE_S:
                        left.unlink()


def write_png(image: Image, file: BinaryIO, texts: Mapping[str, str] | None = None) -> None:
    """Write a PNG with text chunks. Latin-1 text goes into tEXt, other text and XMP into iTXt."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for keyword, text in (texts or {}).items():
        (chunks.add_itxt if keyword == XMP else chunks.add_text)(keyword, text)
    # Level 3: level 6, the default, takes three times as long for 5 % less.
    image.save(file, format="PNG", pnginfo=chunks, compress_level=3)


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through ``fill(file)``, over an older one of that name, or over a link's target; it appears whole or not at all. Raises OSError."""
    path = Path(os.path.realpath(path))
    with _temporary(path.parent) as part:
        with part.open("wb") as file:
            fill(file)
        os.replace(part, path)


def write_new(folder: Path, stem: str, fill: Callable[[BinaryIO], object]) -> Path:
    """Write a PNG file through ``fill(file)`` under a name that no other file has: ``stem.png``, then ``stem-2.png``; whole or not at all.

    Raises OSError; FileExistsError when the names have run out.
    """
    with _temporary(folder) as part:
        with part.open("wb") as file:
            fill(file)
        return _give_name(part, folder, stem)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """An empty hidden file, with the permissions of any new file. It is gone afterwards, unless it was given another name."""
    part = folder / PART.replace("*", secrets.token_hex(8))
    part.touch(exist_ok=False)  # not mkstemp, whose files only their owner may read
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _give_name(part: Path, folder: Path, stem: str) -> Path:
    """Move a finished file to an unused name, even if another process does the same at that moment."""
    for number in range(1, 10_000):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            os.link(part, path)
        except FileExistsError:
            continue
        except OSError:  # a disk without links, such as a USB stick
            if not _move(part, path):
                continue
        return path
    raise FileExistsError(f"{stem} has too many namesakes")


def _move(part: Path, path: Path) -> bool:
    """Move without a link: a hidden file reserves the name first. False if another process has reserved it."""
    taken = path.with_name(f".{path.name}.taken")
    try:
        taken.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        if path.exists():
            return False
        os.replace(part, path)
        return True
    finally:
        taken.unlink()
