"""Settings: the only reader of the environment.

Hugging Face's own variables (``HF_HOME`` and others) are read by its library; they are listed here so that the README's table is whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from flux_demo.errors import InvalidRequest
from flux_demo.modes import ESTIMATOR_REPO, MODES

BACKENDS = ("local", "nim", "hosted", "mini")  # in the order in which auto tries them
ASSETS = Path(__file__).resolve().parent.parent / "assets"  # what is shipped: the mini, examples, the page's style
HOSTED_URL = "https://ai.api.nvidia.com/v1/genai/black-forest-labs/flux.1-dev"


def _variable(name: str, default: str | None, purpose: str, secret: bool = False):
    return field(default=default, repr=not secret, metadata={"variable": name, "purpose": purpose})


@dataclass(frozen=True)
class Settings:
    """What a person can set from outside. Secrets stay out of ``repr``."""

    backend: str = _variable("FLUX_DEMO_BACKEND", "auto", "where to run: auto, local, nim, hosted or mini")
    preset: str | None = _variable("FLUX_DEMO_PRESET", None, "the preset of local FLUX")
    nim_url: str | None = _variable("FLUX_DEMO_NIM_URL", None, "address of your own NVIDIA NIM, for example http://localhost:8000")
    hosted_url: str = _variable("FLUX_DEMO_HOSTED_URL", HOSTED_URL, "the address that hosted requests are posted to")
    outputs: str = _variable("FLUX_DEMO_OUTPUTS", "outputs", "folder where pictures are kept")
    text_model: str = _variable("FLUX_DEMO_TEXT_MODEL", MODES["text"].repo, "Hub name, or folder in diffusers' layout, for text")
    canny_model: str = _variable("FLUX_DEMO_CANNY_MODEL", MODES["canny"].repo, "the same for canny")
    depth_model: str = _variable("FLUX_DEMO_DEPTH_MODEL", MODES["depth"].repo, "the same for depth")
    depth_estimator: str = _variable("FLUX_DEMO_DEPTH_ESTIMATOR", ESTIMATOR_REPO, "the model that sees depth in photos")
    nvidia_api_key: str | None = _variable("NVIDIA_API_KEY", None, "key for NVIDIA's hosted API", secret=True)
    hf_token: str | None = _variable("HF_TOKEN", None, "Hugging Face token, for the gated FLUX weights", secret=True)
    hf_home: str | None = _variable("HF_HOME", None, "where Hugging Face keeps downloaded weights")

    def __post_init__(self) -> None:
        if self.backend not in ("auto", *BACKENDS):
            raise InvalidRequest(
                f"There is no backend {self.backend!r}. Set FLUX_DEMO_BACKEND or --backend to auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}."
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; an empty variable counts as not set. Raises InvalidRequest."""
        environ = os.environ if environ is None else environ
        values = {row.name: environ.get(row.metadata["variable"], "").strip() for row in fields(cls)}
        return cls(**{name: value for name, value in values.items() if value})

    def model(self, mode: str) -> str:
        """Hub name or folder of a mode's weights."""
        return {"text": self.text_model, "canny": self.canny_model, "depth": self.depth_model}[mode]

    @property
    def outputs_folder(self) -> Path:
        return Path(self.outputs).expanduser()
