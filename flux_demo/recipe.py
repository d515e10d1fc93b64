"""The recipe that every image carries: everything needed to generate it again, and nothing private.

It is written into the PNG twice: as JSON under ``flux_demo``, and under ``parameters`` in the form that AUTOMATIC1111 and its many
readers use. It never contains the photo, a path or a key.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, BinaryIO

from flux_demo.errors import InvalidPicture, InvalidRequest, shortened
from flux_demo.modes import MODES
from flux_demo.prompts import MAX_PROMPT
from flux_demo.request import BackendOutput, GenerationRequest, Size
from flux_demo.seeds import MAX_SEED

CHUNK = "flux_demo"  # the PNG text chunk's keyword
PARAMETERS = "parameters"  # AUTOMATIC1111's keyword
PAINTED = "painted"  # an entry in a recipe's map options, but not a drawing option
OMITTED_IF_NONE = ("preset_asked", "stopped_at")  # fields that most recipes do not have
MAX_CHUNK = 256 * 1024  # characters; a prompt of 10,000 needs a fraction of it


class NoRecipe(InvalidPicture):
    """An image without a recipe."""


@dataclass(frozen=True)
class ControlRecipe:
    """How the map was drawn, and its hash; the map itself is not in the PNG."""

    kind: str
    options: Mapping[str, float | bool] = field(hash=False)
    fit: str | None  # None for a ready-made map
    sha256: str  # of the map's RGB bytes
    estimator: str | None = None


@dataclass(frozen=True)
class Recipe:
    """What an image was generated from. Its fields are those of the JSON in the PNG chunk."""

    version: str  # of flux_demo
    mode: str
    prompt: str
    width: int
    height: int
    seed: int | None  # seed, steps and guidance are None where the service may not have used them
    steps: int | None
    guidance: float | None
    model: str
    backend: str
    preset: str | None
    plan: str | None
    control: ControlRecipe | None
    seconds: float
    created: str  # ISO 8601, UTC
    libraries: Mapping[str, str] = field(default_factory=dict, hash=False)
    safety: str | None = None
    sample: int | None = None  # number of NVIDIA's sample image, where one was followed
    preset_asked: str | None = None  # set only if another preset was used, or may have been
    stopped_at: int | None = None  # steps that were done, of a partial image

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON; those in ``OMITTED_IF_NONE`` only if they are set."""
        return {name: value for name, value in asdict(self).items() if name not in OMITTED_IF_NONE or value is not None}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=True)

    def parameters(self) -> str:
        """The prompt, then one line of settings, as AUTOMATIC1111 writes and reads them."""
        # CFG is 1 and the guidance "distilled", because FLUX runs once per step. Forge writes and restores it like this.
        settings = [
            *([f"Steps: {self.steps}"] if self.steps is not None else []),
            "Sampler: Euler",
            "Schedule type: Simple",
            "CFG scale: 1.0",
            *([f"Distilled CFG Scale: {self.guidance:g}"] if self.guidance is not None else []),
            *([f"Seed: {self.seed}"] if self.seed is not None else []),
            f"Size: {self.width}x{self.height}",
            f"Model: {_quoted(self.model.rpartition('/')[2])}",
        ]
        if self.control:
            settings.append(f"Control: {self.control.kind}")
        settings.append(f"Version: flux_demo {self.version}")
        return f"{self.prompt}\n{', '.join(settings)}"

    @classmethod
    def from_dict(cls, values: Any) -> Recipe:
        """A recipe from the JSON of any file, checked. Raises InvalidPicture when it is not one that this program wrote."""
        try:
            recipe = _checked(values)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, InvalidRequest) as error:
            raise InvalidPicture(
                "The recipe in this image is damaged or was written by another program. Enter its settings by hand."
            ) from error
        if contradiction := _contradiction(recipe):
            raise InvalidPicture(f"The recipe in this image contradicts itself: {contradiction}. Enter its settings by hand.")
        return recipe


def recipe_of(
    request: GenerationRequest,
    output: BackendOutput,
    backend: str,
    seconds: float,
    created: str,
    version: str,
    stopped_at: int | None = None,
) -> Recipe:
    """The recipe of a complete request and of the image that a backend generated from it."""
    assert request.size is not None and request.seed is not None and request.steps is not None and request.guidance is not None
    control = request.control
    return Recipe(
        version=version,
        mode=request.mode,
        prompt=request.prompt,
        width=request.size.width,
        height=request.size.height,
        seed=None if "seed" in output.unused else request.seed,
        steps=None if "steps" in output.unused else request.steps,
        guidance=None if "guidance" in output.unused else request.guidance,
        model=output.model,
        backend=backend,
        preset=output.preset,
        plan=output.plan,
        control=ControlRecipe(control.kind, dict(control.options), control.fit, control.sha256, control.estimator) if control else None,
        seconds=round(seconds, 2),
        created=created,
        libraries=dict(output.libraries),
        safety=output.safety,
        sample=request.sample,
        preset_asked=request.preset if output.preset not in (None, request.preset) else None,
        stopped_at=stopped_at,
    )


def read_recipe(source: str | os.PathLike | bytes | BinaryIO) -> Recipe:
    """The recipe in a PNG file: its path, its bytes, or the file opened in binary mode.

    Raises InvalidPicture for a file that is not an image, or has no recipe or a damaged one.
    """
    from flux_demo.maps.photo import open_png_text

    texts = open_png_text(source)
    if CHUNK not in texts:
        raise NoRecipe(
            "This file has no flux_demo recipe. Choose the original PNG that flux_demo wrote, not one that another program has saved again."
        )
    if len(texts[CHUNK]) > MAX_CHUNK:
        raise InvalidPicture("The recipe in this image is far too long to be real. Enter its settings by hand.")
    try:
        values = json.loads(texts[CHUNK])
    except (ValueError, RecursionError):
        values = None
    return Recipe.from_dict(values)


def _checked(values: Mapping[str, Any]) -> Recipe:
    known = {row.name for row in fields(Recipe)}
    recipe = {name: value for name, value in values.items() if name in known}
    control = recipe["control"]
    if control is not None:
        options = {str(name): _number(value) for name, value in control["options"].items()}
        recipe["control"] = ControlRecipe(
            _text(control["kind"]), options, _text(control["fit"], True), _text(control["sha256"]), _text(control.get("estimator"), True)
        )
    for name in ("version", "mode", "prompt", "model", "backend", "created"):
        recipe[name] = _text(recipe[name], limit=MAX_PROMPT)
    for name in ("preset", "preset_asked", "plan", "safety"):
        recipe[name] = _text(recipe.get(name), True)
    recipe["libraries"] = {_text(name): _text(value) for name, value in recipe.get("libraries", {}).items()}
    recipe["seconds"] = _number(recipe["seconds"])
    recipe["guidance"] = _number(recipe["guidance"]) if recipe["guidance"] is not None else None
    Size(recipe["width"], recipe["height"])
    whole = [name for name in ("seed", "steps", "sample", "stopped_at") if recipe.get(name) is not None]
    if any(type(recipe[name]) is not int or not 0 <= recipe[name] <= MAX_SEED for name in whole):
        raise ValueError("not a whole number")
    return Recipe(**recipe)


def _contradiction(recipe: Recipe) -> str | None:
    """Why the values of a recipe cannot all be true, as a clause; None if they can. A mode that is not known here may be a later version's."""
    if (mode := MODES.get(recipe.mode)) is None:
        return None
    follows = recipe.control.kind if recipe.control else None
    if mode.control is None:
        return f"the {mode.name} mode follows no map, and the recipe has one" if recipe.control or recipe.sample is not None else None
    if follows is None and recipe.sample is None:
        return f"the {mode.name} mode follows a map, and it has none"
    if follows not in (None, mode.control.kind):
        return f"the {mode.name} mode follows a {mode.control.kind} map, and it has one of the kind {shortened(follows)}"
    return None


def _quoted(value: str) -> str:
    """A value with a comma, a colon or a line break in quotes, as AUTOMATIC1111 writes and reads it."""
    return json.dumps(value, ensure_ascii=False) if any(letter in value for letter in ',:"\n') else value


def _text(value: Any, optional: bool = False, limit: int = 1000) -> Any:
    if value is None and optional:
        return None
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError("not text")
    return value


def _number(value: Any) -> float | bool:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return value
