"""Which model each mode runs on this machine, wherever it comes from: a model on the Hub, a folder, a single file, a base with a control LoRA.

Every refusal is in words before anything is loaded, and none says a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flux_demo.backends import Refusal
from flux_demo.checkpoints import Checkpoint, NotUsable, inspect, is_file_name, why_not, why_not_merged
from flux_demo.hub import cached_snapshot, local_folder
from flux_demo.model_files import (
    COMPONENTS,
    LORA_SCALE,
    ModelFiles,
    fetched_encoders,
    local_files,
    lora_files,
    missing_files,
    quantised_folder,
    scheduler_beside,
    weight_shapes,
    wrong_kind,
)
from flux_demo.model_names import is_local, is_lora_name, model_problem
from flux_demo.modes import MODES, Mode
from flux_demo.settings import Settings, expanded

OWN_GB, WHOLE_GB, COMPONENTS_GB, LORA_GB = (
    24,
    34,
    10,
    1.2,
)  # a mode's transformer, everything, everything else, a LoRA: from the Hub's pages


@dataclass(frozen=True)
class LocalModels:
    settings: Settings

    def find(self, mode: Mode) -> ModelFiles | Refusal:
        """The mode's files, or why it has none that can be used. Quick: reads headers only."""
        name = self.settings.model(mode.name)
        if problem := model_problem(mode, name):
            return Refusal(problem)
        if is_file_name(name):
            return self._single_file(mode, expanded(name))
        if loras := lora_files(name):
            folder = expanded(name)
            title = name if not folder.is_dir() else loras[0].name if len(loras) == 1 else folder.resolve().name
            return self._with_lora(mode, loras, title)
        if is_lora_name(name):
            return Refusal(f"{name} is not on this machine (about {LORA_GB} GB to fetch). {self._fetch(mode, name)}.", fetch=mode.name)
        found = self._model(mode, name)
        if isinstance(found, Refusal) and mode.name not in self.settings.models and mode.lora and (loras := lora_files(mode.lora)):
            return self._with_lora(mode, loras, mode.lora)  # the checkpoint is not here, and the LoRA is
        return found

    def title(self, mode: Mode) -> str:
        """The model's name for people: never a path."""
        found = self.find(mode)
        if isinstance(found, ModelFiles):
            return found.model
        name = self.settings.model(mode.name)
        return Path(name).name if is_local(name) else name

    def _single_file(self, mode: Mode, file: Path) -> ModelFiles | Refusal:
        if not file.is_file():
            return Refusal(
                f"The file in {mode.model_variable} does not exist. Name a .gguf or .safetensors file, a folder, or a model on Hugging Face."
            )
        if wrong := why_not(file, follows_map=mode.control is not None):
            return Refusal(f"{file.name} cannot be used for {mode.name}: {wrong}. Name another model in {mode.model_variable}.")
        checkpoint = inspect(file)
        if checkpoint.is_lora:
            return self._with_lora(mode, [file], file.name)
        components = self.components(mode)
        if isinstance(components, Refusal):
            return components
        files = ModelFiles(checkpoint.title, components, file, scheduler_beside(components))
        if quantised := quantised_folder(files):
            return Refusal(f"The components for {file.name} cannot be used: {quantised}. Name another folder in FLUX_DEMO_COMPONENTS.")
        if gaps := missing_files(files):
            return Refusal(f"A file of the components for {file.name} is missing: {gaps[0]}. Name a whole folder in FLUX_DEMO_COMPONENTS.")
        return files

    def _with_lora(self, mode: Mode, files: Sequence[Path], title: str) -> ModelFiles | Refusal:
        """The text mode's model with the LoRA, which must be one file."""
        if mode.control is None:
            return Refusal(
                f"{title} cannot be used for {mode.name}: it is a LoRA, not a model. Name the model in {mode.model_variable}, and the LoRA for canny or depth."
            )
        if len(files) > 1:
            return Refusal(f"{title} holds several LoRAs. Name the file of one in {mode.model_variable}.")
        (file,) = files
        try:
            lora = inspect(file)
            if not lora.is_lora:
                raise NotUsable("it is not a LoRA")
        except NotUsable as error:
            return Refusal(f"{title} cannot be used for {mode.name}: {error}. Name another model in {mode.model_variable}.")
        base = self.find(MODES["text"])
        if isinstance(base, Refusal):
            return Refusal(f"{title} is a LoRA for the model of the text mode, which cannot be used: {base.reason}", base.fetch)
        if base.transformer.is_file() and any(tensor.quantised for tensor in inspect(base.transformer).file.tensors.values()):
            return Refusal(
                f"{title} cannot be merged into {base.model}, which is quantised. Name a GGUF file of the {mode.title} model itself in "
                f"{mode.model_variable}, or a bf16 model in {MODES['text'].model_variable}."
            )
        if why := _why_not_merged(lora, base):
            return Refusal(f"{title} cannot be merged into {base.model}: {why}. Name another one in {mode.model_variable}.")
        return replace(base, model=f"{base.model} + {title} at {LORA_SCALE}", lora=file)

    def components(self, mode: Mode) -> Path | Refusal:
        """The folder with text encoders, VAE and scheduler for the mode's single file."""
        text, variable = self.settings.model("text"), "FLUX_DEMO_COMPONENTS"
        if named := self.settings.components:
            given = expanded(named)
            folder = given if given.is_dir() else local_folder(named, COMPONENTS)
            wrong = f"{variable} names a file" if given.is_file() else f"The folder in {variable} does not exist"
            return folder or Refusal(f"{wrong}. Name a folder in diffusers' layout with text encoders, VAE and scheduler.")
        for name in (text, MODES["text"].repo):
            if not is_file_name(name) and (whole := local_folder(name, COMPONENTS)):
                return whole
        repo = MODES["text"].repo
        return Refusal(
            f"The text encoders and the VAE of {repo} are not on this machine (about {COMPONENTS_GB} GB to fetch). "
            f"{self._fetch(mode, repo)}, or name a folder that has them in {variable}.",
            fetch=mode.name,
        )

    def _model(self, mode: Mode, name: str) -> ModelFiles | Refusal:
        files = local_files(mode.name, self.settings)
        if expanded(name).is_dir():
            return self._folder_refusal(mode, files) or files or Refusal("The model's files changed just now. Try again.")
        if files is None:
            return Refusal(self._missing(mode, name), fetch=mode.name)
        if gaps := missing_files(files):
            return Refusal(f"A file of {name} is missing: {gaps[0]}. Run `python -m flux_demo fetch {mode.name}`.", fetch=mode.name)
        if wrong := wrong_kind(files, follows_map=mode.control is not None):
            return Refusal(f"{name} cannot be used for {mode.name}: {wrong}. Name another model in {mode.model_variable}.")
        return files

    def _missing(self, mode: Mode, name: str) -> str:
        """What is missing of a model on the Hub, and how to get it."""
        if cached_snapshot(name) is not None:
            return f"Only part of {name} is here. {self._fetch(mode, name)}; it continues where it stopped."
        return f"{name} is not on this machine (about {self._gigabytes(mode)} GB to fetch). {self._fetch(mode, name)}."

    def _fetch(self, mode: Mode, name: str) -> str:
        gated = name in {repo for row in MODES.values() for repo in (row.repo, row.lora)}
        licence = (
            f"Accept its licence on https://huggingface.co/{name}, set HF_TOKEN, and run" if gated and not self._has_token() else "Run"
        )
        return f"{licence} `python -m flux_demo fetch {mode.name}`"

    def _folder_refusal(self, mode: Mode, files: ModelFiles | None) -> Refusal | None:
        variable = mode.model_variable
        folder = expanded(self.settings.model(mode.name))
        own = ModelFiles(folder.name, folder, folder / "transformer", folder / "scheduler")
        gaps = missing_files(files or own)
        if gaps and not own.transformer.is_dir() and any(is_file_name(file.name) for file in folder.glob("*")):
            return Refusal(
                f"The folder in {variable} holds files of weights, and no model in diffusers' layout. Name one of the files itself."
            )
        if gaps:
            return Refusal(f"The folder in {variable} is incomplete: {gaps[0]} is missing. Copy the model again, in diffusers' layout.")
        if wrong := wrong_kind(files or own, follows_map=mode.control is not None):
            return Refusal(f"The folder in {variable} cannot be used for {mode.name}: {wrong}. Name another one.")
        return None

    def _gigabytes(self, mode: Mode) -> int:
        return OWN_GB if mode.name != "text" and fetched_encoders(self.settings) else WHOLE_GB

    def _has_token(self) -> bool:
        from huggingface_hub import constants

        return bool(self.settings.hf_token) or Path(constants.HF_TOKEN_PATH).is_file()


def _why_not_merged(lora: Checkpoint, base: ModelFiles) -> str | None:
    try:
        return why_not_merged(lora, weight_shapes(base.transformer))
    except ValueError:  # the base is damaged, which its own refusal says
        return None
