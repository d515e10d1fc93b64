"""FLUX.1 [dev], Canny and Depth on an NVIDIA GPU, or on the CPU for whoever asks for that: whether they can run here, and where each part goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flux_demo.backends import Refusal
from flux_demo.backends.cards import SUPPORTED, Card
from flux_demo.backends.content_rules import ContentRules
from flux_demo.backends.local_models import LocalModels
from flux_demo.backends.machine import Machine, this_machine
from flux_demo.backends.own_engine import missing_libraries
from flux_demo.checkpoints import is_file_name
from flux_demo.engine import memory
from flux_demo.engine.pinning import Pinning
from flux_demo.engine.presets import COMPILED, why_not_compiled
from flux_demo.engine.sizes import sizes_of
from flux_demo.errors import BackendUnavailable, GenerationFailed, OutOfMemory
from flux_demo.failures import MAIN_MEMORY, Failure
from flux_demo.model_files import FLUX_TOKENS, ModelFiles, with_shared_text_files
from flux_demo.modes import DEFAULT_SIZES, Mode
from flux_demo.request import SizeLimits
from flux_demo.safety import UNFILTERED
from flux_demo.settings import Settings
from flux_demo.texts import join_sentences

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.engine.model_cache import ModelCache

CONTEXT_BYTES = int(0.8 * memory.GIB)  # what CUDA itself takes of a card

BFLOAT16, FLOAT32 = "bfloat16", "float32"

TOO_OLD = (
    "The {} is too old: its compute capability is {}.{}, and PyTorch has code for {}.{} and newer. Use a newer GPU, or another backend."
)
SLOW_CARD = "The {} (compute capability {}.{}) has no units for bfloat16, so images are correct but slow."


class Local:
    name = "local"
    size_limits = SizeLimits(range(256, 2049, 16), 2_100_000, DEFAULT_SIZES)

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self._settings = settings
        self._models = LocalModels(settings)
        self.on_cpu = settings.device == "cpu"
        self.title = "FLUX on this machine's CPU" if self.on_cpu else "FLUX on this machine's GPU"
        self._given = machine  # None: look when it is needed
        self._before_loading: Machine | None = None  # how it was found when nothing of ours was in memory yet
        self._failed_plan: memory.Plan | None = None  # the plan that ran out of memory
        self._fast_bfloat16: bool | None = None  # whether the CPU computes it fast; None until torch is loaded, which knows
        self._pinning = Pinning()
        self._rules = ContentRules(settings)

    @property
    def notice(self) -> str | None:
        card = None if self.on_cpu else self._machine.card
        notices = [SLOW_CARD.format(card.name, *card.capability)] if card and card.capability and card.is_slow else []
        return join_sentences(*notices, "" if self._rules.filter else "Unfiltered: review before you share.") or None

    @property
    def _machine(self) -> Machine:
        """The machine as it is, or as it was before memory was taken by the models that are loaded now."""
        return self._given or self._before_loading or this_machine()

    @property
    def shows_previews(self) -> bool:
        return not self._rules.are_strict

    def refusal(self, mode: Mode) -> Refusal | None:
        """The first thing that is in the way, from the hardest to change to the easiest."""
        preset = self._settings.preset
        machine = self._machine
        if refused := missing_libraries() if self.on_cpu else self._machine_refusal(machine):
            return refused
        found = self._models.find(mode)
        if isinstance(found, Refusal):
            return self._room_refusal(machine, found) or found
        if preset and (why := self.unusable_presets(mode).get(preset)):
            return Refusal(why)
        return self._memory_refusal(machine, found) or self._rules.refusal()

    @property
    def preset(self) -> str | None:
        return self._settings.preset

    def unusable_presets(self, mode: Mode) -> Mapping[str, str]:
        files = self._models.find(mode)
        try:
            quantised = files.model if isinstance(files, ModelFiles) and sizes_of(files).quantised else None
        except ValueError:
            quantised = None
        why = why_not_compiled(on_cpu=self.on_cpu, quantised=quantised)
        return {COMPILED: why} if why else {}

    def files(self, mode: Mode, say: Callable[[str], None]) -> ModelFiles:
        files = self._models.find(mode)
        if isinstance(files, Refusal):
            raise BackendUnavailable(files.reason)
        if mode.name != "text":
            say("Comparing the text encoders with those of the text mode")
            files = with_shared_text_files(files, self._settings)
        return files

    def verdict(self, image: Image) -> str:
        return self._rules.verdict(image) or UNFILTERED

    def loading_title(self, mode: Mode) -> str:
        return self._models.title(mode)

    def model_name(self, mode: Mode) -> str | None:
        found = self._models.find(mode)
        return None if isinstance(found, Refusal) else found.model

    def plan_sentence(self, mode: Mode, cache: ModelCache | None) -> str | None:
        files = self._models.find(mode)
        try:
            if cache and (isinstance(files, Refusal) or self.suits(cache, files)):
                return cache.plan.sentence
            if self.on_cpu:
                plan = None if isinstance(files, Refusal) else self._expected_cpu_plan(self._machine, files)
            else:
                plan = self._plan(self._machine, memory.FLUX if isinstance(files, Refusal) else sizes_of(files))
        except ValueError:  # a file is damaged: the mode's refusal says which
            return None
        return plan.sentence if plan else None

    def suits(self, cache: ModelCache, files: ModelFiles) -> bool:
        """Whether the cache's plan is right for the model: another mode's file may be larger than the one it was made for, or of another kind, and
        what a LoRA was merged into needs main memory, as it is in no file.
        """
        model, planned = sizes_of(files, self._width(cache.plan.precision)), cache.plan.sizes
        alike = model.quantised == planned.quantised and (model.kind == planned.kind or not model.quantised)
        return alike and model.in_files >= planned.in_files and model.transformer <= 1.02 * planned.transformer

    def model_cache(self, files: ModelFiles) -> ModelCache:
        import torch

        from flux_demo.engine.allocators import free_memory
        from flux_demo.engine.model_cache import ModelCache

        machine = self._before_loading = self._given or this_machine()
        if self.on_cpu:
            self._fast_bfloat16 = computes_bfloat16()
            if (plan := self._cpu_plan(machine, files, fast_bfloat16=self._fast_bfloat16)) is None:
                raise OutOfMemory(memory.why_none_on_cpu(machine.memory_bytes, sizes_of(files)))
            dtype = torch.float32 if plan.precision == FLOAT32 else torch.bfloat16
            return ModelCache(plan, torch.device("cpu"), dtype, FLUX_TOKENS)
        if not torch.cuda.is_available():
            raise GenerationFailed(
                "PyTorch cannot use the GPU that the driver reports. Update the NVIDIA driver, and check that CUDA_VISIBLE_DEVICES does not hide the GPU."
            )
        free_memory()  # what torch keeps for the next who asks would not be counted as free
        index = _torch_index(machine.card)
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)  # CUDA itself has taken its part by now
        card = machine.card or Card(torch.cuda.get_device_name(index), total_bytes)
        self._before_loading = machine = replace(machine, card=replace(card, free_bytes=free_bytes + CONTEXT_BYTES))
        gpu_plan = self._plan(machine, sizes_of(files))
        if gpu_plan is None and self._failed_plan:  # that was another model's plan, and this one has none that takes less
            self._failed_plan = None
            gpu_plan = self._plan(machine, sizes_of(files))
        if gpu_plan is None:
            raise OutOfMemory(_why_none(machine, sizes_of(files)))
        return ModelCache(gpu_plan, torch.device("cuda", index), torch.bfloat16, FLUX_TOKENS, self._pinning)

    def out_of_memory(self, cache: ModelCache | None, failure: Failure) -> OutOfMemory:
        """Remember the plan that failed, if another one takes less of the memory that ran out, and say what the next run does."""
        if self.on_cpu:
            return OutOfMemory(failure.message("Close other programs, choose a smaller size, or use a smaller GGUF file."))
        before, self._failed_plan = self._failed_plan, cache.plan if cache else self._failed_plan
        tighter = self._plan(self._machine, self._failed_plan.sizes) if self._failed_plan else None
        in_main_memory = failure.ran_out == MAIN_MEMORY
        if tighter is None or (in_main_memory and self._failed_plan and tighter.memory_bytes >= self._failed_plan.memory_bytes):
            self._failed_plan = before  # a smaller image may still fit the tightest plan
            remedy = "close other programs" if in_main_memory else "close other programs that use the GPU"
            return OutOfMemory(failure.message(f"No plan uses less: choose a smaller size, or {remedy}."))
        return OutOfMemory(failure.message(f"Run it again: a tighter plan is used from now on. {tighter.sentence}"))

    def _plan(self, machine: Machine, sizes: memory.WeightSizes) -> memory.Plan | None:
        if machine.card is None:
            return None
        plan = memory.plan(
            free_for_flux(machine.card),
            machine.memory_bytes,
            below=self._failed_plan,
            sizes=sizes,
            pinnable_bytes=machine.pinnable_bytes if self._pinning.works else 0,
            shared=machine.card.shares_memory,
            fused_attention=not machine.card.is_slow,
        )
        return replace(plan, card=machine.card.name) if plan and machine.card.among > 1 else plan

    def _cpu_plan(self, machine: Machine, files: ModelFiles, *, fast_bfloat16: bool) -> memory.Plan | None:
        """In what the processor computes fast, where memory has room for it. Noise is drawn in it too, so bfloat16 gives the GPU's images."""
        for precision in (BFLOAT16,) if fast_bfloat16 else (FLOAT32, BFLOAT16):
            if plan := memory.cpu_plan(machine.memory_bytes, sizes_of(files, self._width(precision)), precision):
                return plan
        return None

    def _expected_cpu_plan(self, machine: Machine, files: ModelFiles) -> memory.Plan | None:
        """The same as far as can be told without torch: it names both precisions that are possible, and counts the modes for the larger one."""
        plan = self._cpu_plan(machine, files, fast_bfloat16=bool(self._fast_bfloat16))
        if plan is None or self._fast_bfloat16 is not None or plan.precision == BFLOAT16:
            return plan
        return replace(plan, precision=f"{BFLOAT16} or {FLOAT32}")

    def _width(self, precision: str | None) -> int:
        return 4 if precision == FLOAT32 else 2

    def _memory_refusal(self, machine: Machine, files: ModelFiles) -> Refusal | None:
        try:
            sizes = sizes_of(files)
        except ValueError as error:
            return Refusal(f"{files.model} cannot be used: {error}. Fetch or copy the model again.")
        if self.on_cpu:
            fits = self._cpu_plan(machine, files, fast_bfloat16=False)  # in either precision
            return None if fits else Refusal(memory.why_none_on_cpu(machine.memory_bytes, sizes))
        if self._plan(machine, sizes) is not None or self._failed_plan:
            return None
        return Refusal(_why_none(machine, sizes))

    def _room_refusal(self, machine: Machine, missing: Refusal) -> Refusal | None:
        """Why a whole model should not be fetched: there is no plan for FLUX's own files. Someone's single file, which lacks its encoders, may be smaller."""
        if self.on_cpu or missing.fetch is None or is_file_name(self._settings.model(missing.fetch)):
            return None
        assert machine.card
        if memory.plan(free_for_flux(machine.card), machine.memory_bytes, shared=machine.card.shares_memory) is not None:
            return None
        return Refusal(_why_none(machine, memory.FLUX))

    def _machine_refusal(self, machine: Machine) -> Refusal | None:
        if machine.card is None:
            return Refusal(
                "No NVIDIA GPU found on this machine. If it has one, check that `nvidia-smi` shows it and CUDA_VISIBLE_DEVICES does not hide it."
            )
        if not machine.card.is_supported and machine.card.capability:
            return Refusal(TOO_OLD.format(machine.card.name, *machine.card.capability, *SUPPORTED))
        if absent := missing_libraries():
            return absent
        if not machine.cuda_torch:
            return Refusal(
                f"The {machine.card.name} cannot be used: the installed PyTorch was built without CUDA. "
                "Install its CUDA build as https://pytorch.org/get-started/locally shows."
            )
        return None


def free_for_flux(card: Card) -> int:
    """Bytes of the card that nobody uses, without what CUDA itself will take."""
    return (card.total_bytes if card.free_bytes is None else min(card.free_bytes, card.total_bytes)) - CONTEXT_BYTES


def _why_none(machine: Machine, sizes: memory.WeightSizes) -> str:
    assert machine.card
    return memory.why_none(free_for_flux(machine.card), machine.memory_bytes, sizes, shared=machine.card.shares_memory)


def _torch_index(card: Card | None) -> int:
    """torch's number of the card. Where it cannot be told, the first of those with the most free memory: asking starts CUDA on each."""
    import torch

    numbers = range(torch.cuda.device_count())
    if card and card.uuid:
        for number in numbers:
            if card.uuid.endswith(str(torch.cuda.get_device_properties(number).uuid)):
                return number
    return max(numbers, key=lambda number: torch.cuda.mem_get_info(number)[0])


def computes_bfloat16() -> bool:
    """Whether the CPU has fast code for bfloat16."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
