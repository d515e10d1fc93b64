"""What the gallery already has: an image whose recipe is the same is not generated again. Names find candidates, recipes decide."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from flux_demo.backends import Route
from flux_demo.errors import InvalidPicture
from flux_demo.gallery import GeneratedImage
from flux_demo.maps import png
from flux_demo.modes import MODES, find_mode
from flux_demo.recipe import Recipe, read_recipe, recipe_of
from flux_demo.request import BackendOutput, GenerationRequest

# How a run went and what it ran on, not what was asked for. Backend, model and preset are compared on their own: see Backend.is_own and find.
INCIDENTAL = {"version", "created", "seconds", "libraries", "plan", "safety", "backend", "model", "preset", "preset_asked"}


class Finished:
    """The images in a gallery's folder, read where one could be meant, and each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[tuple[str, int], list[tuple[Path, Recipe]]] = {}

    def find(self, request: GenerationRequest, route: Route) -> GeneratedImage | None:
        """The newest image of a complete request there, from the route's backend; None where there is none."""
        assert request.seed is not None
        wanted = _identity(recipe_of(request, BackendOutput(_NO_IMAGE, ""), "", 0.0, "", ""))
        for path, recipe in self._candidates(request.mode, request.seed):
            preset_fits = request.preset in (None, recipe.preset, recipe.preset_asked)  # None in a complete request: the service chooses it
            if (
                preset_fits
                and _identity(recipe) == wanted
                and route.backend.is_own(recipe, find_mode(request.mode))
                and _is_whole(path, recipe)
            ):
                return GeneratedImage(path, request, recipe, recipe.seconds, route.notes(request))
        return None

    def add(self, image: GeneratedImage) -> None:
        """Know an image that was generated just now."""
        if image.recipe.seed is not None:
            self._candidates(image.recipe.mode, image.recipe.seed).insert(0, (image.path, image.recipe))

    def _candidates(self, mode: str, seed: int) -> list[tuple[Path, Recipe]]:
        if (mode, seed) not in self._seen:
            read = ((path, _recipe(path)) for path in self._paths.get((mode, seed), []))
            self._seen[mode, seed] = [(path, recipe) for path, recipe in read if recipe is not None]
        return self._seen[mode, seed]

    @cached_property
    def _paths(self) -> dict[tuple[str, int], list[Path]]:
        """The folder's PNG files by the mode and the seed in their names, the newest first. Listed once, because it may hold thousands."""
        paths: dict[tuple[str, int], list[Path]] = {}
        mode_and_seed = re.compile(rf"-({'|'.join(map(re.escape, MODES))})-(\d+)(?=[-.])", re.ASCII)
        for path in sorted(self.folder.glob("*.png"), key=attrgetter("name"), reverse=True):
            for mode, seed in mode_and_seed.findall(path.name):
                paths.setdefault((mode, int(seed)), []).append(path)
        return paths


def _recipe(path: Path) -> Recipe | None:
    try:
        return read_recipe(path)
    except InvalidPicture:  # another program's file, or one that is still being written
        return None


def _is_whole(path: Path, recipe: Recipe) -> bool:
    """Whether the file is undamaged, and of its recipe's size: another program that cropped it may have kept the recipe."""
    try:
        data = path.read_bytes()
    except OSError:  # gone meanwhile
        return False
    return png.is_whole(data) and png.size(data) == (recipe.width, recipe.height)


def _identity(recipe: Recipe) -> dict[str, Any]:
    values = {name: value for name, value in asdict(recipe).items() if name not in INCIDENTAL}
    if values["control"]:
        values["control"] = {name: values["control"][name] for name in ("kind", "sha256")}  # the pixels say how it was drawn
    return values


_NO_IMAGE: Any = None  # a recipe is made without looking at the image
