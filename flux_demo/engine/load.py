"""From files to the device.

The transformer's weights are read shard by shard, in parallel, each straight to its device: no second copy in main memory, and progress in
bytes. The smaller models are read by their own libraries. An unusable file raises an error in words and leaves nothing in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from flux_demo.engine.prompts import TextEncoders
from flux_demo.errors import Cancelled, FluxDemoError, GenerationFailed
from flux_demo.hub import shards_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")

DeviceOf = Callable[[str], torch.device]
"""The device for the transformer's weight of that name."""

OnBytes = Callable[[int, int], None]


def load_transformer(
    folder: Path, dtype: torch.dtype, device_of: DeviceOf, on_bytes: OnBytes = lambda done, total: None, *, mapped: bool = False
) -> Any:
    """A FluxTransformer2DModel with every weight on its device. ``on_bytes(done, total)`` is called from several threads, one at a time.

    ``mapped``: what stays in main memory is left in its file, and costs nothing until it is read. Not for what runs on the CPU: a CPU kernel's
    rounding may depend on a weight's alignment, and replacing the file would change the model.
    """
    from diffusers import FluxTransformer2DModel

    with reading("transformer"):
        config = FluxTransformer2DModel.load_config(folder, local_files_only=True)
        with torch.device("meta"):
            transformer = FluxTransformer2DModel.from_config(config)
        shards = weight_files(folder)
        total, done, lock = sum(shard.stat().st_size for shard in shards), 0, Lock()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done = min(total, done + size)
                on_bytes(done, total)

        on_bytes(0, total)
        with ThreadPoolExecutor(len(shards)) as pool:
            parts = list(pool.map(lambda shard: _read_shard(shard, dtype, device_of, mapped, count), shards))
        transformer.load_state_dict({name: tensor for part in parts for name, tensor in part.items()}, assign=True)
    return transformer.eval()


def load_encoders(folder: Path, max_sequence_length: int, dtype: torch.dtype, device: torch.device) -> TextEncoders:
    """CLIP on the device; T5 in main memory, from where the plan places it."""
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

    with reading("text encoders"):
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype, local_files_only=True)
        t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2", dtype=dtype, local_files_only=True)
        clip_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        t5_tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer_2", local_files_only=True)
    return TextEncoders(clip_tokenizer, _settle(clip, device), t5_tokenizer, _settle(t5, CPU), max_sequence_length)


def load_vae(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    from diffusers import AutoencoderKL

    with reading("VAE"):
        vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=dtype, local_files_only=True)
    return _settle(vae, device)


def load_scheduler(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    with reading("scheduler"):
        return FlowMatchEulerDiscreteScheduler.from_pretrained(folder, local_files_only=True)


def weight_files(folder: Path) -> Sequence[Path]:
    """The transformer's shards, of one file or as its index lists them. Raises GenerationFailed naming one that is missing."""
    index = folder / f"{WEIGHTS}.index.json"
    shards = shards_of(index) if index.exists() else [folder / WEIGHTS]
    for shard in shards:
        if not shard.is_file():
            raise GenerationFailed(f"The file {shard.name} of the transformer is missing. Fetch or copy the model again.")
    return shards


@contextmanager
def reading(part: str) -> Iterator[None]:
    """Silence the libraries, and translate whatever they raise about a file that they cannot use."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    try:
        yield
    except (FluxDemoError, Cancelled, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise GenerationFailed(
            f"The {part} cannot be read: a file is damaged, incomplete or of another kind of model. Delete the model's folder and fetch or copy it again."
        ) from error


def _read_shard(shard: Path, dtype: torch.dtype, device_of: DeviceOf, mapped: bool, count: Callable[[int], None]) -> dict[str, Tensor]:
    tensors = {}
    with ExitStack() as open_files:
        files: dict[
            torch.device, Any
        ] = {}  # the shard, opened once for each device: safetensors reads straight to the one it was opened for
        for name in open_files.enter_context(safe_open(shard, framework="pt")).keys():
            device = device_of(name)
            if device not in files:
                files[device] = open_files.enter_context(safe_open(shard, framework="pt", device=str(device)))
            tensor = files[device].get_tensor(name)
            count(tensor.nbytes)
            is_view_of_file = device.type == "cpu" and tensor.dtype == dtype
            tensors[name] = tensor.clone() if is_view_of_file and not mapped else tensor.to(dtype)
    return tensors


def _settle(model: Any, device: torch.device) -> Any:
    # Not requires_grad_(False): torch picks other kernels by whether a weight needs gradients, and they round differently.
    return model.eval().to(device)
