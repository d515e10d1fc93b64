"""Where pictures are kept: PNG files that carry their recipe, and the maps they followed. The only writer of pictures."""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.errors import GenerationFailed
from flux_demo.recipe import CHUNK, PARAMETERS, recipe_of
from flux_demo.request import DrawnImage, GeneratedImage, GenerationRequest
from flux_demo.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image


class Gallery:
    """A folder of pictures, made when the first one is kept."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(self, picture: DrawnImage, request: GenerationRequest, backend: str, seconds: float) -> GeneratedImage:
        """Keep a picture with its recipe inside, under a name of its own. Raises GenerationFailed when the disk refuses."""
        now = datetime.datetime.now(datetime.UTC)
        recipe = recipe_of(request, picture, backend, seconds, now.isoformat(timespec="seconds"), VERSION)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = _take_name(self.folder, f"{now:%Y%m%d-%H%M%S}-{request.mode}-{request.seed}")
            try:
                write_png(picture.image, path, {CHUNK: recipe.to_json(), PARAMETERS: recipe.parameters()})
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise GenerationFailed(
                f"The picture is drawn but cannot be kept: {error.strerror or 'the folder refuses it'}. "
                "Free some space, or choose another folder with --outputs or FLUX_DEMO_OUTPUTS."
            ) from error
        return GeneratedImage(path, request, recipe, seconds)


def write_png(image: Image, path: Path, texts: dict[str, str] | None = None) -> None:
    """Write a PNG with text chunks; the file appears whole or not at all. Latin-1 text goes into tEXt, other text into iTXt."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for keyword, text in (texts or {}).items():
        chunks.add_text(keyword, text)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            image.save(file, format="PNG", pnginfo=chunks, compress_level=3)  # 6, the default, takes thrice as long for 5 % less
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
