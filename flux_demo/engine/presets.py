"""PRESETS: ways of running FLUX, as data. A preset stands here once it has been measured; the first is the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    name: str  # in settings and recipes: never changes
    title: str
    changes: str  # what it changes in the image
    needs: str  # beyond what the backend itself needs


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (Preset("exact", "Exact", "Nothing: the image of the stock diffusers pipelines, bit for bit.", "Nothing."),)
}
