"""What the backends share that run FLUX through this project's engine: what they need, what may be asked, and what they say of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flux_demo.backends import Refusal
from flux_demo.engine.memory import Plan
from flux_demo.engine.presets import PRESETS
from flux_demo.modes import Mode
from flux_demo.request import BackendOutput, Dials, GenerationRequest, SizeLimits
from flux_demo.texts import Text

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.engine.pipeline import Pipeline

LIBRARIES = ("torch", "diffusers", "transformers")


def missing_libraries() -> Refusal | None:
    """A refusal naming the first library that is not installed; None if all are here."""
    absent = [library for library in LIBRARIES if find_spec(library) is None]
    if not absent:
        return None
    return Refusal(f"The Python package {absent[0]} is missing. Install what the program needs with `pip install -r requirements.txt`.")


def dials(mode: Mode, size_limits: SizeLimits, unusable_presets: Mapping[str, str], preset: str | None = None) -> Dials:
    """What may be asked of the engine; ``preset``: the one that is taken by default, None: the first."""
    usable = [name for name in PRESETS if name not in unusable_presets]
    return Dials(
        steps=mode.steps,
        guidance=mode.guidance,
        step_range=range(1, 101),
        guidance_range=(1, 100),
        size_limits=size_limits,
        quality_steps=mode.quality_steps,
        presets=tuple(sorted(usable, key=lambda name: name != preset)),
        unusable_presets=unusable_presets,
    )


def backend_output(
    image: Image,
    request: GenerationRequest,
    pipeline: Pipeline,
    model: str,
    plan: Plan,
    preset: str,
    notes: Sequence[str] = (),
    libraries: Sequence[str] = LIBRARIES,
) -> BackendOutput:
    """An image with what its recipe says about the run."""
    assert request.size
    if ignored := pipeline.shared.encoders.tokens_ignored(request.prompt):
        one, several = "its last token was ignored", Text("its last {ignored} tokens were ignored", ignored=ignored)
        notes = (*notes, Text("The prompt is too long for the model: {what}.", what=Text(one) if ignored == 1 else several))
    versions = {library: version(library) for library in libraries}
    return BackendOutput(
        image, model, preset, plan.sentence_for(request.size.pixels, follows_map=request.control is not None), versions, notes=tuple(notes)
    )
