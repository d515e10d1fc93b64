"""FLUX.1 [dev], Canny and Depth in bfloat16 on an NVIDIA GPU: whether they can run here, and where each part goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.backends.machine import Machine, look
from flux_demo.backends.mini import missing_libraries
from flux_demo.engine import memory
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import BackendUnavailable, GenerationFailed, OutOfMemory
from flux_demo.hub import cached, local_folder
from flux_demo.model_files import WHOLE, ModelFiles, lacking, local_files, with_texts_files, wrong_kind
from flux_demo.modes import MODES, SIZES, find_mode
from flux_demo.settings import Settings

if TYPE_CHECKING:
    from flux_demo.engine.model_cache import ModelCache

GATED = {mode.repo for mode in MODES.values()}  # Hub names that ask for a licence
OWN_GB, WHOLE_GB = 24, 34  # of one mode's transformer, and of everything: from the hub's pages
CONTEXT_BYTES = int(0.8 * memory.GIB)  # what CUDA itself takes of a card


class Local:
    name = "local"
    title = "FLUX on this machine's GPU"
    sides = range(256, 2049, 16)
    max_pixels = 2_100_000
    sizes = SIZES

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self._settings = settings
        self._machine = machine  # None: look when it is needed
        self._too_roomy: memory.Plan | None = None  # the plan that ran out of memory

    def refusal(self, mode: str) -> str | None:
        """The first thing that is in the way, from the hardest to change to the easiest."""
        preset = self._settings.preset
        if preset and preset not in PRESETS:
            return f"There is no preset {preset!r}. Set FLUX_DEMO_PRESET to {' or '.join(PRESETS)}, or leave it out."
        return self._machine_refusal(self._machine or look()) or self._files_refusal(mode)

    def parts(self, mode: str, say: Callable[[str], None]) -> ModelFiles:
        parts = local_files(mode, self._settings)
        if parts is None:
            raise BackendUnavailable(self._files_refusal(mode) or "The model's files changed just now. Try again.")
        if mode != "text":
            say("Comparing the text encoders with those of the text mode")
            parts = with_texts_files(parts, self._settings)
        return parts

    def planned(self) -> str | None:
        machine = self._machine or look()
        plan = machine.card and memory.plan(machine.card.total_bytes - CONTEXT_BYTES, machine.memory_bytes, below=self._too_roomy)
        return plan.sentence if plan else None

    def model_cache(self) -> ModelCache:
        import torch

        from flux_demo.backends.machine import main_memory
        from flux_demo.engine.model_cache import ModelCache, free_memory

        if not torch.cuda.is_available():
            raise GenerationFailed(
                "PyTorch cannot use the GPU that the driver reports. Update the NVIDIA driver, and see that CUDA_VISIBLE_DEVICES does not hide the GPU."
            )
        device = torch.device("cuda", 0)
        free_memory()  # what torch keeps for the next who asks would not be counted as free
        free_bytes, _ = torch.cuda.mem_get_info(device)
        plan = memory.plan(free_bytes, main_memory(), below=self._too_roomy)
        if plan is None:
            raise OutOfMemory(memory.why_none(free_bytes, main_memory()))
        return ModelCache(plan, device, torch.bfloat16, text_tokens=512)

    def ran_out(self, model_cache: ModelCache | None) -> OutOfMemory:
        """Remember the plan that was too roomy, and say what the next run does."""
        self._too_roomy = model_cache.plan if model_cache else self._too_roomy
        tighter = self.planned() if self._too_roomy else None
        if tighter is None:
            return OutOfMemory(
                "The GPU's memory ran out, and no plan uses less. Choose a smaller size, or close other programs that use the GPU."
            )
        return OutOfMemory(f"The GPU's memory ran out. Run it again: a tighter plan is used from now on. {tighter}")

    def _machine_refusal(self, machine: Machine) -> str | None:
        if machine.card is None:
            return "No NVIDIA GPU answers in this machine. Run it where there is one; `nvidia-smi` shows whether the driver sees it."
        if absent := missing_libraries():
            return absent
        if not machine.cuda_torch:
            return (
                f"The {machine.card.name} cannot be used: the PyTorch that is installed was built without CUDA. "
                "Install its CUDA build as https://pytorch.org/get-started/locally shows."
            )
        free_bytes = machine.card.total_bytes - CONTEXT_BYTES
        if memory.plan(free_bytes, machine.memory_bytes) is None:
            return memory.why_none(free_bytes, machine.memory_bytes)
        return None

    def _files_refusal(self, mode: str) -> str | None:
        name = self._settings.model(mode)
        parts = local_files(mode, self._settings)
        if Path(name).expanduser().is_dir() or _looks_like_path(name):
            return self._folder_refusal(mode, parts)
        command = f"`python -m flux_demo fetch {mode}`"
        if parts is None:
            begun = cached(name) is not None
            licence = (
                "" if self._has_token() or name not in GATED else f"accept its licence on https://huggingface.co/{name}, set HF_TOKEN, and "
            )
            what = (
                f"Only a part of {name} is here" if begun else f"{name} is not on this machine (about {self._gigabytes(mode)} GB to fetch)"
            )
            rest = "; it goes on where it ended" if begun else ""
            return f"{what}. {_sentence(f'{licence}run {command}')}{rest}."
        if gaps := lacking(parts):
            return f"A file of {name} is missing: {gaps[0]}. Run {command}."
        if wrong := wrong_kind(parts, follows_map=find_mode(mode).control is not None):
            return f"{name} cannot be used for {mode}: {wrong}. Name another model in FLUX_DEMO_{mode.upper()}_MODEL."
        return None

    def _folder_refusal(self, mode: str, parts: ModelFiles | None) -> str | None:
        variable = f"FLUX_DEMO_{mode.upper()}_MODEL"
        folder = Path(self._settings.model(mode)).expanduser()
        if not folder.is_dir():
            return f"The folder that {variable} names is not there. Name a folder in diffusers' layout, or a model on Hugging Face."
        own = ModelFiles(folder.name, folder, folder / "transformer", folder / "scheduler")
        if gaps := lacking(parts or own):
            return f"The folder that {variable} names is not whole: {gaps[0]} is missing. Copy the model again, in diffusers' layout."
        if wrong := wrong_kind(parts or own, follows_map=find_mode(mode).control is not None):
            return f"The folder that {variable} names cannot be used for {mode}: {wrong}. Name another one."
        return None

    def _gigabytes(self, mode: str) -> int:
        return OWN_GB if mode != "text" and local_folder(self._settings.text_model, WHOLE) else WHOLE_GB

    def _has_token(self) -> bool:
        from huggingface_hub import constants

        return bool(self._settings.hf_token) or Path(constants.HF_TOKEN_PATH).is_file()


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", "/", "\\")) or name.count("/") > 1 or "\\" in name or ":" in name


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
