"""The names that settings give to models: a file, a folder, or a model on the Hub as OWNER/NAME. Nothing is asked of the Hub."""

from __future__ import annotations

from flux_demo.checkpoints import is_file_name
from flux_demo.errors import shortened
from flux_demo.modes import Mode
from flux_demo.settings import expanded


def model_problem(mode: Mode, name: str) -> str | None:
    """Why a mode's setting cannot name a model, here or elsewhere, in two sentences; None if it may."""
    if is_file_name(name) and not _is_address(name):
        why = None if expanded(name).exists() else "it names a file that does not exist"
    elif mode.control is None and is_lora_name(name):
        why = "it names a LoRA, not a model"
    else:
        why = _names_no_model(name)
    return why and f"{mode.model_variable} cannot be used: {why}. Name a .gguf or .safetensors file, a folder, or a model on Hugging Face."


def estimator_problem(name: str) -> str | None:
    """The same for the model that estimates depth."""
    why = _names_no_model(name)
    return (
        why
        and f"FLUX_DEMO_DEPTH_ESTIMATOR cannot be used: {why}. Name another folder or a model on Hugging Face, or leave the variable out."
    )


def _names_no_model(name: str) -> str | None:
    """Why neither a folder nor a model on the Hub can have that name, as a clause."""
    given = expanded(name)
    if given.is_dir():
        return None
    if given.exists():
        return "it names a file that is not a model"
    if _is_address(name):
        return "it is an address, and a model on Hugging Face is named as OWNER/NAME"
    if _looks_like_path(name):
        return "it names a folder that does not exist"
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        named = "/" in name  # a word alone is rather a file or a folder that is not here
    except HFValidationError:
        named = False
    return None if named else f"{shortened(name)} is neither a file nor a folder here, nor the name of a model on Hugging Face (OWNER/NAME)"


def _is_address(name: str) -> bool:
    return "://" in name or name.startswith("huggingface.co/")


def is_local(name: str) -> bool:
    """Whether a model's name is that of a file or folder, which may be missing, and not one on the Hub."""
    return is_file_name(name) or _looks_like_path(name) or expanded(name).is_dir()


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", "/", "\\")) or name.count("/") > 1 or "\\" in name or ":" in name


def is_lora_name(name: str) -> bool:
    """Whether a model on the Hub is a control LoRA, by its name: nothing is known of it before it is fetched."""
    return name.lower().endswith("-lora") and not expanded(name).is_dir()
