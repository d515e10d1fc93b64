"""check: what can run here, and why the rest cannot, without loading or downloading a model."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from flux_demo import folders
from flux_demo.backends import Refusal
from flux_demo.backends.cards import Card
from flux_demo.backends.local_models import LocalModels
from flux_demo.cli.terminal import Terminal, in_gb
from flux_demo.errors import BackendUnavailable, FluxDemoError
from flux_demo.exit_codes import DONE, REFUSED
from flux_demo.hub import cache_folder, cache_problem, local_folder
from flux_demo.model_files import COMPONENTS
from flux_demo.model_names import model_problem
from flux_demo.modes import ESTIMATOR_REPO, MODES, Mode
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.version import VERSION

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "gradio", "opencv-python-headless", "pillow", "numpy")

HALF = "The folder in FLUX_DEMO_COMPONENTS is incomplete. Name one in diffusers' layout with text encoders, VAE and scheduler."


def check(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print the report. The exit code is DONE if any mode can run, else REFUSED."""
    studio = Studio.from_settings(Settings.from_env(backend=args.backend))
    report: dict[str, Any] = {
        "version": VERSION,
        "python": platform.python_version(),
        "libraries": _libraries(),
        "machine": _machine(studio.settings),
        "outputs_refusal": _outputs_refusal(studio),
        "downloads_refusal": cache_problem(),
        "models_refusals": _models_refusals(studio.settings),
        **_estimator(studio),
        "modes": {mode.name: _mode(studio, mode) for mode in MODES.values()},
    }
    printed = terminal.result(_text(report), report)
    return DONE if printed and any(mode["backend"] for mode in report["modes"].values()) else REFUSED


def _mode(studio: Studio, mode: Mode) -> dict[str, Any]:
    """Where the mode runs, and the answer of every backend, including those after the chosen one."""
    answers = []
    for backend in studio.backends:
        refusal = backend.refusal(mode)
        answers.append(
            {
                "backend": backend.name,
                "title": backend.title,
                "refusal": refusal.reason if refusal else None,
                "plan": None if refusal else backend.plan(mode),
            }
        )
    try:
        chosen, reason = studio.route(mode.name).backend.name, studio.reason(mode.name)
    except BackendUnavailable as error:
        chosen, reason = None, str(error)
    return {"model": LocalModels(studio.settings).title(mode), "backend": chosen, "reason": reason, "backends": answers}


def _outputs_refusal(studio: Studio) -> str | None:
    try:
        studio.gallery.check()
    except FluxDemoError as error:
        return str(error)
    return None


def _models_refusals(settings: Settings) -> list[str]:
    """What is wrong with the models' settings themselves, whatever the machine is."""
    problems = [model_problem(mode, settings.model(mode.name)) for mode in MODES.values()]
    if settings.components:
        found = LocalModels(settings).components(MODES["text"])
        whole = local_folder(settings.components, COMPONENTS) is not None
        problems.append(found.reason if isinstance(found, Refusal) else None if whole else HALF)
    return [*filter(None, problems)]


def _estimator(studio: Studio) -> dict[str, str | None]:
    try:
        return {"estimator": studio.estimator().title, "estimator_refusal": None}
    except FluxDemoError as error:
        return {"estimator": None, "estimator_refusal": str(error)}


def _libraries() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _machine(settings: Settings) -> dict[str, Any]:
    from flux_demo.backends.machine import processors, this_machine

    machine = this_machine()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": processors(),
        "memory_bytes": machine.memory_bytes or None,
        "disk_free_bytes": free_for_downloads(),
        "outputs_free_bytes": folders.free_bytes(settings.outputs_folder),
        "gpu": machine.card and _gpu(machine.card),
        "torch_for_cuda": machine.cuda_torch,
    }


def _gpu(card: Card) -> dict[str, Any]:
    capability = card.capability and ".".join(map(str, card.capability))
    return {
        "name": card.name,
        "memory_bytes": card.total_bytes,
        "free_bytes": card.free_bytes,
        "compute_capability": capability,
        "among": card.among,
    }


def free_for_downloads() -> int | None:
    """Free bytes on the disk where Hugging Face keeps its files; None if nothing can be kept there, or the system does not say."""
    return None if cache_problem() else folders.free_bytes(cache_folder())


def _text(report: Mapping[str, Any]) -> str:
    machine, libraries = report["machine"], report["libraries"]
    parts = [machine["system"], f"{machine['processors']} processors"]
    parts += [f"{in_gb(machine['memory_bytes'])} memory"] if machine["memory_bytes"] else []
    parts += [f"{in_gb(machine['disk_free_bytes'])} free for downloads"] if machine["disk_free_bytes"] is not None else []
    gpu = machine["gpu"]
    parts.append(_gpu_line(gpu) if gpu else "no NVIDIA GPU")
    lines = [
        f"flux_demo {report['version']}, Python {report['python']}",
        ", ".join(f"{name} {version or 'missing'}" for name, version in libraries.items()),
        ", ".join(parts),
        *filter(None, [report["outputs_refusal"], report["downloads_refusal"], *report["models_refusals"]]),
        _estimator_line(report["estimator"], report["estimator_refusal"]),
    ]
    for name, mode in report["modes"].items():
        chosen = next((row["title"] for row in mode["backends"] if row["backend"] == mode["backend"]), None)
        lines += ["", f"{name}: {chosen or 'nothing here can run it'}"]
        lines += [
            f"  no   {row['title']}. {row['refusal']}"
            if row["refusal"]
            else "  yes  " + ". ".join(filter(None, (row["title"], row["plan"])))
            for row in mode["backends"]
        ]
    return "\n".join(lines)


def _gpu_line(gpu: Mapping[str, Any]) -> str:
    free = f", {in_gb(gpu['free_bytes'])} free" if gpu["free_bytes"] is not None else ""
    chosen = f" (of {gpu['among']} GPUs, the one with the most free memory)" if gpu["among"] > 1 else ""
    return f"{gpu['name']} with {in_gb(gpu['memory_bytes'])}{free}{chosen}"


def _estimator_line(estimator: str | None, refusal: str | None) -> str:
    """Which model estimates depth, or why none does. The mini's own stands in for the one that FLUX.1-Depth-dev was made with."""
    better = f" (FLUX.1-Depth-dev was made with {ESTIMATOR_REPO}: python -m flux_demo fetch estimator)" if estimator == "mini" else ""
    return f"Depth is estimated by: {estimator or f'nothing here. {refusal}'}{better}"
