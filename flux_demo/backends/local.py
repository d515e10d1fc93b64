"""FLUX.1 [dev], Canny and Depth in bfloat16 on an NVIDIA GPU: whether they can run here, and where each part goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flux_demo.backends import Refusal
from flux_demo.backends.machine import Machine, this_machine
from flux_demo.backends.mini import missing_libraries
from flux_demo.engine import memory
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import BackendUnavailable, ContentRefused, GenerationFailed, OutOfMemory
from flux_demo.hub import cached, local_folder
from flux_demo.model_files import WHOLE, ModelFiles, lacking, local_files, with_texts_files, wrong_kind
from flux_demo.modes import DEFAULT_SIZES, MODES, Mode
from flux_demo.request import SizeLimits
from flux_demo.safety import UNFILTERED, Filter, installed_filter
from flux_demo.settings import Settings, expanded

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.engine.model_cache import ModelCache

OWN_GB, WHOLE_GB = 24, 34  # of one mode's transformer, and of everything: from the hub's pages
CONTEXT_BYTES = int(0.8 * memory.GIB)  # what CUDA itself takes of a card

NO_FILTER = (
    "Strangers can reach this page, and the filter that FLUX's licence asks for is not here. "
    "Run `python -m flux_demo fetch filter`, or start with --allow-unfiltered if you review what is shown."
)


class Local:
    name = "local"
    title = "FLUX on this machine's GPU"
    size_limits = SizeLimits(range(256, 2049, 16), 2_100_000, DEFAULT_SIZES)

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self._settings = settings
        self._machine = machine  # None: look when it is needed
        self._too_roomy: memory.Plan | None = None  # the plan that ran out of memory
        self._filter: Filter | None = None  # kept once its files are here

    @property
    def notice(self) -> str | None:
        return None if self._installed_filter() else "Unfiltered: review before you share."

    @property
    def shows_previews(self) -> bool:
        return not self._settings.public or self._settings.allow_unfiltered

    def refusal(self, mode: Mode) -> Refusal | None:
        """The first thing that is in the way, from the hardest to change to the easiest."""
        preset = self._settings.preset
        if preset and preset not in PRESETS:
            return Refusal(f"{preset!r} is not a preset. Set FLUX_DEMO_PRESET to {' or '.join(PRESETS)}, or leave it out.")
        return self._machine_refusal(self._machine or this_machine()) or self._files_refusal(mode) or self._filter_refusal()

    def files(self, mode: Mode, say: Callable[[str], None]) -> ModelFiles:
        files = local_files(mode.name, self._settings)
        if files is None:
            refusal = self._files_refusal(mode)
            raise BackendUnavailable(refusal.reason if refusal else "The model's files changed just now. Try again.")
        if mode.name != "text":
            say("Comparing the text encoders with those of the text mode")
            files = with_texts_files(files, self._settings)
        return files

    def judged(self, image: Image) -> str:
        installed = self._installed_filter()
        if installed is None and not self.shows_previews:  # the files were deleted after the page had started
            raise ContentRefused(f"The image is finished and not shown, because {NO_FILTER[0].lower()}{NO_FILTER[1:]}")
        return str(installed.passed(image)) if installed else UNFILTERED

    def _installed_filter(self) -> Filter | None:
        if self._filter is None:
            self._filter = installed_filter()
        return self._filter

    def _filter_refusal(self) -> Refusal | None:
        """A page that strangers reach shows nothing unfiltered."""
        if self.shows_previews or self._installed_filter():
            return None
        return Refusal(NO_FILTER, fetch="filter")

    def loading_title(self, mode: Mode) -> str:
        name = self._settings.model(mode.name)
        return Path(name).name if _looks_like_path(name) or expanded(name).is_dir() else name

    def model_name(self, mode: Mode) -> str | None:
        files = local_files(mode.name, self._settings)
        return files.model if files else None

    def planned(self) -> str | None:
        machine = self._machine or this_machine()
        plan = machine.card and memory.plan(machine.card.total_bytes - CONTEXT_BYTES, machine.memory_bytes, below=self._too_roomy)
        return plan.sentence if plan else None

    def model_cache(self) -> ModelCache:
        import torch

        from flux_demo.backends.machine import main_memory
        from flux_demo.engine.model_cache import ModelCache, free_memory

        if not torch.cuda.is_available():
            raise GenerationFailed(
                "PyTorch cannot use the GPU that the driver reports. Update the NVIDIA driver, and check that CUDA_VISIBLE_DEVICES does not hide the GPU."
            )
        device = torch.device("cuda", 0)
        free_memory()  # what torch keeps for the next who asks would not be counted as free
        free_bytes, _ = torch.cuda.mem_get_info(device)
        plan = memory.plan(free_bytes, main_memory(), below=self._too_roomy)
        if plan is None:
            raise OutOfMemory(memory.why_none(free_bytes, main_memory()))
        return ModelCache(plan, device, torch.bfloat16, max_sequence_length=512)

    def ran_out(self, cache: ModelCache | None) -> OutOfMemory:
        """Remember the plan that was too roomy, and say what the next run does."""
        self._too_roomy = cache.plan if cache else self._too_roomy
        tighter = self.planned() if self._too_roomy else None
        if tighter is None:
            return OutOfMemory(
                "The GPU's memory ran out, and no plan uses less. Choose a smaller size, or close other programs that use the GPU."
            )
        return OutOfMemory(f"The GPU's memory ran out. Run it again: a tighter plan is used from now on. {tighter}")

    def _machine_refusal(self, machine: Machine) -> Refusal | None:
        if machine.card is None:
            return Refusal("No NVIDIA GPU found on this machine. If it has one, check that `nvidia-smi` shows it.")
        if absent := missing_libraries():
            return absent
        if not machine.cuda_torch:
            return Refusal(
                f"The {machine.card.name} cannot be used: the installed PyTorch was built without CUDA. "
                "Install its CUDA build as https://pytorch.org/get-started/locally shows."
            )
        free_bytes = machine.card.total_bytes - CONTEXT_BYTES
        if memory.plan(free_bytes, machine.memory_bytes) is None:
            return Refusal(memory.why_none(free_bytes, machine.memory_bytes))
        return None

    def _files_refusal(self, mode: Mode) -> Refusal | None:
        name = self._settings.model(mode.name)
        files = local_files(mode.name, self._settings)
        if expanded(name).is_dir() or _looks_like_path(name):
            return self._folder_refusal(mode, files)
        command = f"`python -m flux_demo fetch {mode.name}`"
        if files is None:
            return Refusal(self._missing(mode, name, command), fetch=mode.name)
        if gaps := lacking(files):
            return Refusal(f"A file of {name} is missing: {gaps[0]}. Run {command}.", fetch=mode.name)
        if wrong := wrong_kind(files, follows_map=mode.control is not None):
            return Refusal(f"{name} cannot be used for {mode.name}: {wrong}. Name another model in {mode.model_variable}.")
        return None

    def _missing(self, mode: Mode, name: str, command: str) -> str:
        """What is missing of a model on the Hub, and how to get it."""
        gated = name in {row.repo for row in MODES.values()}
        licence = (
            f"Accept its licence on https://huggingface.co/{name}, set HF_TOKEN, and run" if gated and not self._has_token() else "Run"
        )
        if cached(name) is not None:
            return f"Only a part of {name} is here. {licence} {command}; it continues where it stopped."
        return f"{name} is not on this machine (about {self._gigabytes(mode)} GB to fetch). {licence} {command}."

    def _folder_refusal(self, mode: Mode, files: ModelFiles | None) -> Refusal | None:
        variable = mode.model_variable
        folder = expanded(self._settings.model(mode.name))
        if not folder.is_dir():
            return Refusal(f"The folder in {variable} does not exist. Name a folder in diffusers' layout, or a model on Hugging Face.")
        own = ModelFiles(folder.name, folder, folder / "transformer", folder / "scheduler")
        if gaps := lacking(files or own):
            return Refusal(f"The folder in {variable} is incomplete: {gaps[0]} is missing. Copy the model again, in diffusers' layout.")
        if wrong := wrong_kind(files or own, follows_map=mode.control is not None):
            return Refusal(f"The folder in {variable} cannot be used for {mode.name}: {wrong}. Name another one.")
        return None

    def _gigabytes(self, mode: Mode) -> int:
        return OWN_GB if mode.name != "text" and local_folder(self._settings.model("text"), WHOLE) else WHOLE_GB

    def _has_token(self) -> bool:
        from huggingface_hub import constants

        return bool(self._settings.hf_token) or Path(constants.HF_TOKEN_PATH).is_file()


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", "/", "\\")) or name.count("/") > 1 or "\\" in name or ":" in name
