"""Where the weights of each mode are, as far as files tell. Standard library only: quick, and asks no network."""

from __future__ import annotations

from pathlib import Path

from flux_demo.engine.parts import Parts
from flux_demo.settings import ASSETS

MINI = ASSETS / "mini"
SHARED = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "vae")  # folders that the modes may share


def mini_parts(mode: str, folder: Path = MINI) -> Parts:
    """The mini: one folder for all modes, whose transformers lie side by side."""
    return Parts("mini", folder, folder / ("transformer" if mode == "text" else f"transformer_{mode}"), folder / "scheduler")


def lacking(parts: Parts) -> list[str]:
    """Names of the folders and files that a mode needs and that are not there, shards included; empty if it is whole."""
    folders = [parts.shared / name for name in SHARED] + [parts.transformer, parts.scheduler]
    return [name for folder in folders for name in _lacking_of(folder)]


def _lacking_of(folder: Path) -> list[str]:
    if not folder.is_dir():
        return [folder.name]
    if folder.name.startswith("tokenizer"):
        return [] if any(folder.iterdir()) else [folder.name]
    if folder.name == "scheduler":
        return [] if (folder / "scheduler_config.json").is_file() else ["scheduler_config.json"]
    return ([] if (folder / "config.json").is_file() else [f"{folder.name}/config.json"]) + missing_weights(folder)


def missing_weights(folder: Path) -> list[str]:
    """The weight files that a model's folder lacks: its one file, or the shards of its index."""
    import json

    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, OSError):
            return [f"{folder.name}/{index.name}"]
        return [f"{folder.name}/{Path(name).name}" for name in sorted(names) if not (folder / Path(name).name).is_file()]
    return [] if any(folder.glob("*.safetensors")) else [f"{folder.name}/*.safetensors"]
