"""Which files each mode's model consists of, and whether they are here. Loads nothing, and needs no network unless a docstring says so.

FLUX's three modes come with the same text encoders and VAE. They are fetched and loaded once, but only where the files really are the
same, by the Hub's hashes or byte by byte.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from flux_demo.checkpoints import NO_GUIDANCE, Checkpoint, NotUsable, inspect, is_file_name, other_inputs
from flux_demo.errors import InvalidRequest
from flux_demo.hub import cached_snapshot, local_folder, same_files, shards_of
from flux_demo.model_names import estimator_problem, is_lora_name, model_problem
from flux_demo.modes import MODES, Mode
from flux_demo.settings import ASSETS, Settings, expanded
from flux_demo.tensor_files import read_header

MINI = ASSETS / "mini"
DEV_SCHEDULER = ASSETS / "flux-dev" / "scheduler"  # the values that FLUX.1-dev is published with
SHARED_FOLDERS = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "vae")
SHARED = tuple(f"{folder}/*" for folder in SHARED_FOLDERS)
OWN = ("model_index.json", "scheduler/*", "transformer/*")  # not the single-file copies beside them
WHOLE = OWN + SHARED
COMPONENTS = ("scheduler/*", *SHARED)  # what a transformer in a single file needs beside it
LORA_FILES = ("*.safetensors",)
LORA_SCALE = 0.85  # of a control LoRA: black-forest-labs/flux, cli_control.py
ESTIMATOR_FILES = FILTER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
FILTER_REPO = "Falconsai/nsfw_image_detection"  # that black-forest-labs' own demo uses
FLUX_TOKENS, MINI_TOKENS = 512, 64  # that T5 reads of a prompt
SHARED_WEIGHTS = ("text_encoder", "text_encoder_2", "vae")


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of one mode's model are."""

    model: str  # the name that people see: a Hub name, a folder's own name, or "mini"; never a path
    shared: Path  # folder with tokenizer, tokenizer_2, text_encoder, text_encoder_2 and vae
    transformer: Path  # folder of the transformer itself, or its single file
    scheduler: Path  # folder of the scheduler itself
    lora: Path | None = None  # file of a control LoRA that is merged into the transformer


def files_for(what: str, settings: Settings) -> tuple[str, Sequence[str]]:
    """The model to fetch for a mode, "estimator" or "filter", and the patterns of the files that are needed.

    Where the text mode's encoders and VAE are here, this asks the Hub whether another mode's are the same; if so, they are left out. For a
    control LoRA in a file or folder it is the text mode's model, into which that is merged. Raises InvalidRequest, DownloadFailed.
    """
    if what == "estimator":
        if problem := estimator_problem(settings.depth_estimator):
            raise InvalidRequest(problem)
        return settings.depth_estimator, ESTIMATOR_FILES
    if what == "filter":
        return FILTER_REPO, FILTER_FILES
    if what not in MODES:
        raise InvalidRequest(f"{what!r} cannot be fetched. Fetch one of {', '.join(MODES)}, estimator or filter.")
    name = settings.model(what)
    if what != "text" and _is_lora_here(expanded(name)):
        return files_for("text", settings)
    if is_file_name(name):  # which may come later
        return components_model(settings), COMPONENTS
    if problem := model_problem(MODES[what], name):
        raise InvalidRequest(problem)
    if is_lora_name(name):
        return name, LORA_FILES
    if what == "text" or expanded(name).is_dir() or (other := fetched_encoders(settings)) is None:
        return name, WHOLE
    return name, OWN if same_files(name, other, SHARED, settings.hf_token) else WHOLE


def encoders_model(settings: Settings) -> str:
    """The model whose text encoders and VAE the text mode uses, by its Hub name or folder: its own, or the one for single files."""
    name = settings.model("text")
    return components_model(settings) if is_file_name(name) else name


def components_model(settings: Settings) -> str:
    """The model that single files take text encoders, VAE and scheduler from, by its Hub name or folder."""
    return settings.components or MODES["text"].repo


def fetched_encoders(settings: Settings) -> str | None:
    """The Hub's model whose text encoders and VAE the text mode uses, if they are here; None also for a folder, which the Hub cannot compare."""
    name = encoders_model(settings)
    return name if not expanded(name).is_dir() and local_folder(name, SHARED) else None


def lora_files(name: str) -> Sequence[Path]:
    """The files of control LoRAs in a folder or in the Hub's cache; none if that holds a whole model, in folders or in a file. Of a model that is
    a LoRA by its name, any file.
    """
    folder = local_folder(name, LORA_FILES)
    if folder is None or (folder / "transformer").is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if is_file_name(file.name))
    found = {file: checkpoint for file in files if (checkpoint := _checkpoint(file))}
    loras = [file for file, checkpoint in found.items() if checkpoint.is_lora]
    if is_lora_name(name):
        return loras or files
    return loras if len(loras) == len(found) else []


def _is_lora_here(path: Path) -> bool:
    """Whether the path is that of a control LoRA, or of a folder that holds one and no whole model."""
    if path.is_dir():
        return bool(lora_files(str(path)))
    checkpoint = _checkpoint(path) if path.is_file() else None
    return checkpoint is not None and checkpoint.is_lora


def _checkpoint(file: Path) -> Checkpoint | None:
    try:
        return inspect(file)
    except NotUsable:
        return None


def mini_files(mode: Mode, folder: Path = MINI) -> ModelFiles:
    """The mini's files: one folder for all modes, with a transformer for text and one for each kind of map."""
    transformer = f"transformer_{mode.control.kind}" if mode.control else "transformer"
    return ModelFiles("mini", folder, folder / transformer, folder / "scheduler")


def local_files(mode: str, settings: Settings) -> ModelFiles | None:
    """Where the mode's files are; None if some are missing. Without encoders and VAE of its own it uses text's, unless hashes differ."""
    name = settings.model(mode)
    own = local_folder(name, OWN)
    if own is None:
        return None
    title = name if not expanded(name).is_dir() else own.resolve().name
    whole = local_folder(name, WHOLE)
    text = local_folder(encoders_model(settings), SHARED) if mode != "text" else None
    same = listed_as_same(name, encoders_model(settings)) if text is not None else None
    if text is not None and (listed := cached_snapshot(name)) and listed.listing is not None and not listed.hashes(SHARED):
        same = True  # its repository has none of its own
    shared = text if text is not None and (same or (whole is None and same is None)) else whole
    return ModelFiles(title, shared, own / "transformer", own / "scheduler") if shared else None


def with_shared_text_files(files: ModelFiles, settings: Settings) -> ModelFiles:
    """The same files, but with the text mode's encoders and VAE where those are equal byte for byte. Reads gigabytes the first time."""
    text = local_folder(encoders_model(settings), SHARED)
    if text is None or text == files.shared or not _same_bytes(files.shared, text):
        return files
    return replace(files, shared=text)


def listed_as_same(name: str, other: str) -> bool | None:
    """Whether two cached models have the same encoders and VAE, by the Hub's hashes; None if the cache does not say."""
    mine, theirs = cached_snapshot(name), cached_snapshot(other)
    if mine is None or theirs is None or mine.listing is None or theirs.listing is None:
        return None
    return mine.hashes(SHARED) == theirs.hashes(SHARED)


def weight_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """The name and shape of each weight of a transformer's folder or single file, from its headers. Raises ValueError for one that cannot be read."""
    if path.is_file():
        return inspect(path).shapes
    return {name: tensor.shape for file in weight_files(path) for name, tensor in read_header(file).tensors.items()}


def weight_files(folder: Path) -> Sequence[Path]:
    """Where a model's weights are in its folder, by the names that diffusers and transformers give them: the shards that the index lists, or the one
    file, whether they exist or not. Other variants beside them are not read. Raises ValueError for an index that cannot be read.
    """
    name = "model.safetensors" if folder.name.startswith("text_encoder") else "diffusion_pytorch_model.safetensors"
    index = folder / f"{name}.index.json"
    return shards_of(index) if index.is_file() else [folder / name]


def missing_files(files: ModelFiles) -> list[str]:
    """Names of the files and folders that a mode needs and that are missing, shards included; empty if none is."""
    gaps = [folder.name for folder in (files.shared / name for name in SHARED_FOLDERS) if not any(folder.glob("*"))]
    single_file = not files.transformer.is_dir() and files.transformer.is_file()
    for folder in (*(files.shared / name for name in SHARED_WEIGHTS), *(() if single_file else (files.transformer,))):
        gaps += [f"{folder.name}/{name}" for name in ("config.json", *_names_of_weights(folder)) if not (folder / name).is_file()]
    if not (files.scheduler / "scheduler_config.json").is_file():
        gaps.append("scheduler/scheduler_config.json")
    return gaps


def wrong_kind(files: ModelFiles, *, follows_map: bool) -> str | None:
    """Why the model, by its transformer's config, is not of the kind that the mode needs, as a clause; None if it is."""
    try:
        config = _config(files.transformer)
        kind, inputs, outputs = config.get("_class_name"), config["in_channels"], config.get("out_channels") or config["in_channels"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "its transformer's config.json cannot be read"
    if quantised := quantised_folder(files):
        return quantised
    if kind != "FluxTransformer2DModel":
        return f"its transformer is a {kind}, not FLUX's"
    if not config.get("guidance_embeds"):
        return NO_GUIDANCE
    if other := other_inputs(inputs, outputs):
        return other
    if follows_map and inputs == outputs:  # a control model takes the map's latents beside the image's
        return "it does not follow a map; it is a text model such as FLUX.1-dev"
    if not follows_map and inputs != outputs:
        return "it needs a map to follow, as the Canny and Depth models do"
    return None


def scheduler_beside(components: Path) -> Path:
    """The folder of the scheduler for a FLUX.1 [dev] model in a single file: that of its components, unless that is made for another model.
    FLUX.1-schnell has the same encoders and VAE, but does not shift its sigmas by the image's size.
    """
    own = components / "scheduler"
    try:
        suits = json.loads((own / "scheduler_config.json").read_text("utf-8"))["use_dynamic_shifting"]
    except FileNotFoundError:  # a folder without one is incomplete
        return own
    except (OSError, ValueError, KeyError, TypeError):
        suits = False
    return own if suits else DEV_SCHEDULER


def quantised_folder(files: ModelFiles) -> str | None:
    """Why the model's folders cannot be used if one of them was quantised by a library, as a clause; None if none was."""
    for folder, what in ((files.transformer, "transformer"), (files.shared / "text_encoder_2", "text encoder")):
        try:
            method = _config(folder)["quantization_config"]["quant_method"]
        except (OSError, ValueError, KeyError, TypeError):  # a single file, or one that was not quantised
            continue
        return f"its {what} was quantised by {method}, which cannot be read; a GGUF file of the transformer can, beside bf16 text encoders"
    return None


def _config(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text("utf-8"))


def _names_of_weights(folder: Path) -> Sequence[str]:
    try:
        return [file.name for file in weight_files(folder)]
    except ValueError:
        return ["*.safetensors.index.json (unreadable)"]


@lru_cache(maxsize=8)
def _same_bytes(folder: Path, other: Path) -> bool:
    names = [file.relative_to(folder) for name in SHARED_FOLDERS for file in sorted((folder / name).rglob("*")) if file.is_file()]
    match, _, _ = filecmp.cmpfiles(folder, other, [str(name) for name in names], shallow=False)
    return len(match) == len(names) > 0
