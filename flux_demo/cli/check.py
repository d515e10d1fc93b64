"""check: what can run here and why not, found out without loading a model, and before any download."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from flux_demo.cli.terminal import Terminal, in_gb
from flux_demo.errors import BackendUnavailable, FluxDemoError
from flux_demo.modes import ESTIMATOR_REPO, MODES, Mode
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.version import VERSION

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "gradio", "opencv-python-headless", "pillow", "numpy")


def check(asked: argparse.Namespace, terminal: Terminal) -> int:
    """Print the report; 0 if any mode can run, else 3."""
    settings = Settings.from_env()
    studio = Studio.from_settings(replace(settings, backend=asked.backend) if asked.backend else settings)
    report: dict[str, Any] = {
        "version": VERSION,
        "python": platform.python_version(),
        "libraries": _libraries(),
        "machine": _machine(studio.settings),
        "estimator": _estimator(studio),
        "modes": {mode.name: _mode(studio, mode) for mode in MODES.values()},
    }
    terminal.result(_text(report), report)
    return 0 if any(mode["backend"] for mode in report["modes"].values()) else 3


def _mode(studio: Studio, mode: Mode) -> dict[str, Any]:
    """Where the mode runs, and what each backend, also those after the chosen one, says to it."""
    verdicts = [
        {"backend": row.name, "title": row.title, "refusal": refusal and refusal.reason}
        for row in studio.backends
        for refusal in (row.refusal(mode),)
    ]
    try:
        route = studio.route(mode.name)
    except BackendUnavailable as refusal:
        return {"model": mode.repo, "backend": None, "reason": str(refusal), "backends": verdicts}
    return {"model": mode.repo, "backend": route.backend.name, "reason": studio.reason(mode.name), "backends": verdicts}


def _estimator(studio: Studio) -> str | None:
    try:
        return studio.estimator().title
    except FluxDemoError:
        return None


def _libraries() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _machine(settings: Settings) -> dict[str, Any]:
    from flux_demo.backends.machine import look

    machine = look()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": machine.memory_bytes or None,
        "disk_free_bytes": free_for_downloads(settings),
        "outputs_free_bytes": _free(settings.outputs_folder),
        "gpu": machine.card and {"name": machine.card.name, "memory_bytes": machine.card.total_bytes},
        "torch_for_cuda": machine.cuda_torch,
    }


def free_for_downloads(settings: Settings) -> int | None:
    """Free bytes on the disk that Hugging Face keeps its files on; None if the system does not tell."""
    return _free(Path(settings.hf_home or "~/.cache/huggingface").expanduser())


def _free(folder: Path) -> int | None:
    """Free bytes where the folder is, or would be made."""
    for place in (folder.absolute(), *folder.absolute().parents):
        if place.is_dir():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return None
    return None


def _text(report: Mapping[str, Any]) -> str:
    machine, libraries = report["machine"], report["libraries"]
    parts = [machine["system"], f"{machine['processors']} processors"]
    parts += [f"{in_gb(machine['memory_bytes'])} memory"] if machine["memory_bytes"] else []
    parts += [f"{in_gb(machine['disk_free_bytes'])} free for downloads"] if machine["disk_free_bytes"] is not None else []
    gpu = machine["gpu"]
    parts.append(f"{gpu['name']} with {in_gb(gpu['memory_bytes'])}" if gpu else "no NVIDIA GPU")
    lines = [
        f"flux_demo {report['version']}, Python {report['python']}",
        ", ".join(f"{name} {version or 'missing'}" for name, version in libraries.items()),
        ", ".join(parts),
        _seeing(report["estimator"]),
    ]
    for name, mode in report["modes"].items():
        chosen = next((row["title"] for row in mode["backends"] if row["backend"] == mode["backend"]), None)
        lines += ["", f"{name}: {chosen or 'nothing here can run it'}"]
        lines += [f"  {'yes' if row['refusal'] is None else 'no '}  {row['title']}{_because(row['refusal'])}" for row in mode["backends"]]
    return "\n".join(lines)


def _seeing(estimator: str | None) -> str:
    """Which model sees depth; the mini's own is a stand-in for the one that FLUX was made with."""
    better = f" ({ESTIMATOR_REPO}, which FLUX was made with: python -m flux_demo fetch estimator)" if estimator == "mini" else ""
    return f"Depth in photos is estimated by: {estimator or 'nothing here'}{better}"


def _because(refusal: str | None) -> str:
    return f". {refusal}" if refusal else ""
