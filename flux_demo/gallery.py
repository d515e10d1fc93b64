"""Where images are kept: PNG files that carry their recipe. The only writer of images."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flux_demo import display
from flux_demo.errors import GenerationFailed
from flux_demo.recipe import CHUNK, PARAMETERS, Recipe, recipe_of
from flux_demo.request import DrawnImage, GenerationRequest
from flux_demo.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

XMP = "XML:com.adobe.xmp"  # the chunk in which readers of PNG look for XMP

# What the file says of its own origin, in the words that the IPTC gave to it and that platforms read.
ORIGIN = {
    "Software": f"flux_demo {VERSION}",
    XMP: """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""",
}


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
        """The image, RGB, read from its file."""
        from PIL import Image as PIL_Image

        with PIL_Image.open(self.path) as image:
            return image.convert("RGB")

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return display.png(self.image)

    def _repr_html_(self) -> str:
        made = self.recipe
        caption = f"{made.prompt} ({made.width}x{made.height}, seed {made.seed}, {self.seconds:.1f} s)"
        return display.figure(self._repr_png_(), caption, "Recipe", made.to_dict())


class Gallery:
    """A folder of images, made when the first one is kept."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, drawn: DrawnImage, request: GenerationRequest, backend: str, seconds: float) -> GeneratedImage:
        """Keep an image with its recipe inside, under a name of its own. Raises GenerationFailed when the disk refuses."""
        if drawn.seed is not None:
            request = replace(request, seed=drawn.seed)
        now = datetime.datetime.now(datetime.UTC)
        recipe = recipe_of(request, drawn, backend, seconds, now.isoformat(timespec="seconds"), VERSION)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = _take_name(
                self.folder, "-".join([f"{now:%Y%m%d-%H%M%S}", request.mode, *([str(recipe.seed)] if recipe.seed is not None else [])])
            )
            try:
                write_png(drawn.image, path, {CHUNK: recipe.to_json(), PARAMETERS: recipe.parameters()} | ORIGIN)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise GenerationFailed(
                f"The image is finished but cannot be kept: {error.strerror or 'the folder refuses it'}. "
                "Free some space, or choose another folder with --outputs or FLUX_DEMO_OUTPUTS."
            ) from error
        return GeneratedImage(path, request, recipe, seconds, drawn.notes)


def write_png(image: Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write a PNG with text chunks, whole or not at all. Latin-1 text goes into tEXt, other text and XMP into iTXt."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for keyword, text in (texts or {}).items():
        (chunks.add_itxt if keyword == XMP else chunks.add_text)(keyword, text)
    # Level 3: level 6, the default, takes three times as long for 5 % less.
    write_whole(path, lambda file: image.save(file, format="PNG", pnginfo=chunks, compress_level=3))


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file through ``fill(file)``; it appears whole or not at all, with the permissions of any new file. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _take_name(folder: Path, stem: str) -> Path:
    """Take a name that no other file has, also against another process at the same time."""
    for number in range(1, 10_000):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{stem} has too many namesakes")
