"""From files to the device.

The transformer's weights are read by ``weights``, each straight to its device; the smaller models by their own libraries. Whatever fails
becomes an error in words, by its cause, and leaves nothing in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flux_demo.checkpoints import NotUsable
from flux_demo.engine.prompts import TextEncoders
from flux_demo.engine.weights import CPU, DeviceOf, find_source, read_lora, read_transformer
from flux_demo.errors import Cancelled, FluxDemoError, GenerationFailed
from flux_demo.failures import failure_of
from flux_demo.libraries import building, importing
from flux_demo.model_files import LORA_SCALE
from flux_demo.progress import OnBytes


def load_transformer(
    path: Path,
    dtype: torch.dtype,
    device_of: DeviceOf,
    on_bytes: OnBytes = lambda done, total: None,
    *,
    mapped: bool = False,
    lora: Path | None = None,
    components: Path | None = None,
) -> Any:
    """A FluxTransformer2DModel with every weight on its device. ``on_bytes(done, total)`` is called from several threads, one at a time.

    ``path``: a folder in diffusers' layout or a single file. ``lora``: a control LoRA to merge into it. ``components``: a folder of the same
    kind of model, for what a single file does not say. ``mapped``: what stays in main memory is left in its file, and costs nothing until it
    is read. Not for what runs on the CPU: a CPU kernel's rounding may depend on a weight's alignment, and replacing the file would change the model.
    """
    with reading("transformer"):
        source = find_source(path, components)
        with _reading_lora():
            control = read_lora(lora, LORA_SCALE, source) if lora else None
        return read_transformer(source, control, dtype, device_of, on_bytes, mapped)


def load_encoders(folder: Path, max_sequence_length: int, dtype: torch.dtype, device: torch.device) -> TextEncoders:
    """CLIP on the device; T5 in main memory, from where the plan places it."""
    with importing():
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

    with reading("text encoders"):
        with building():
            clip = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, local_files_only=True)
            t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=dtype, local_files_only=True)
        clip_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        t5_tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True)
    return TextEncoders(clip_tokenizer, _settle(clip, device), t5_tokenizer, _settle(t5, CPU), max_sequence_length)


def load_vae(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    with importing():
        from diffusers import AutoencoderKL

    with reading("VAE"), building():
        vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=dtype, local_files_only=True)
    return _settle(vae, device)


def load_scheduler(folder: Path) -> Any:
    with importing():
        from diffusers import FlowMatchEulerDiscreteScheduler

    with reading("scheduler"):
        return FlowMatchEulerDiscreteScheduler.from_pretrained(folder, local_files_only=True)


@contextmanager
def reading(part: str) -> Iterator[None]:
    """Silence the libraries, and translate whatever they raise about a file that they cannot use."""
    with importing():
        import diffusers.utils.logging
        import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    except (FluxDemoError, Cancelled):
        raise
    except NotUsable as error:
        raise GenerationFailed(f"The {part} cannot be used: {error}. Fetch or copy the model again, or name another one.") from error
    except Exception as error:
        failure = failure_of(error)
        if failure and failure.ran_out:
            raise  # whoever made the plan says what is tried next
        if failure:
            raise failure.kind(failure.sentence) from error
        raise GenerationFailed(
            f"The {part} cannot be read: a file is damaged, incomplete or of another kind of model. Delete the model's folder and fetch or copy it again."
        ) from error


@contextmanager
def _reading_lora() -> Iterator[None]:
    try:
        yield
    except NotUsable as error:
        raise GenerationFailed(f"The LoRA cannot be used: {error}. Name another one, or leave the setting out.") from error


def _settle(model: Any, device: torch.device) -> Any:
    # Not requires_grad_(False): torch picks other kernels by whether a weight needs gradients, and they round differently.
    return model.eval().to(device)
