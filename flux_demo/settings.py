"""Settings: what a person sets in the environment. What only libraries read is prepared in ``environment.py``.

Hugging Face's own variables (``HF_HOME`` and others) are read by its library; they are listed here so that the README's table is complete.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from flux_demo import folders
from flux_demo.errors import InvalidRequest, shortened
from flux_demo.modes import ESTIMATOR_REPO, MODES, find_mode

# Every backend, in the order in which ``auto`` tries them, with the function that makes it from settings ("module:function").
BACKENDS: dict[str, str] = {
    "local": "flux_demo.backends.diffusion:local",
    "nim": "flux_demo.backends.nvidia:Nim",
    "hosted": "flux_demo.backends.nvidia:Hosted",
    "providers": "flux_demo.backends.providers:Providers",
    "mini": "flux_demo.backends.diffusion:mini",
}
PRESETS = ("exact", "compiled")  # of local FLUX, the default first; engine.presets says what they are
ZERO_SIZES = ("large", "xlarge")  # GPUs that a ZeroGPU Space can borrow
DEVICES = ("auto", "cpu")  # where local FLUX runs: auto is the GPU
ONLY_BY_NAME = frozenset({"providers"})  # never part of ``auto``: what costs somebody money is chosen by name
ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
NOT_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)  # EINVAL: a character that Windows has no file names with
ASSETS = Path(__file__).resolve().parent.parent / "assets"  # what is shipped: the mini, examples, the page's style
HOSTED_URL = "https://ai.api.nvidia.com/v1/genai/black-forest-labs/flux.1-dev"


class Variable(NamedTuple):
    """A row of the README's table of settings."""

    name: str
    default: str | None
    purpose: str


def _variable(name: str, default: str | None, purpose: str, secret: bool = False):
    return field(default=default, repr=not secret, metadata={"variable": Variable(name, default, purpose)})


def _switch(name: str, purpose: str, default: bool | None = False):
    return field(default=default, metadata={"variable": Variable(name, None, purpose), "switch": True})


def _check_path(variable: str, name: str) -> None:
    """Raise InvalidRequest for a name that the system does not even look up: one that is too long, or in a folder that this user may not read."""
    try:
        os.stat(expanded(name))
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise InvalidRequest(
                f"{variable} names a place that cannot be read ({folders.reason(error)}). Correct it, or leave it out."
            ) from error
    except ValueError as error:  # a NUL
        raise InvalidRequest(f"{variable} is not the name of a file or a folder. Correct it, or leave it out.") from error


def _is_on(name: str, value: str) -> bool:
    if value.lower() not in ON + OFF:
        raise InvalidRequest(f"{name} is {shortened(value)}, which is neither on nor off. Set it to 1, or leave it out.")
    return value.lower() in ON


@dataclass(frozen=True)
class Settings:
    """What a person can set from outside. Secrets stay out of ``repr``."""

    backend: str = _variable("FLUX_DEMO_BACKEND", "auto", f"where to run: auto, {', '.join(BACKENDS)}")
    device: str = _variable("FLUX_DEMO_DEVICE", "auto", "auto, or cpu: local FLUX on the processor, minutes per image at full size")
    preset: str | None = _variable("FLUX_DEMO_PRESET", None, f"the preset of local FLUX: {' or '.join(PRESETS)}")
    nim_url: str | None = _variable("FLUX_DEMO_NIM_URL", None, "address of your own NVIDIA NIM, for example http://localhost:8000")
    hosted_url: str = _variable("FLUX_DEMO_HOSTED_URL", HOSTED_URL, "the address that hosted requests are posted to")
    outputs: str = _variable("FLUX_DEMO_OUTPUTS", "outputs", "folder where images are kept")
    auth: str | None = _variable("FLUX_DEMO_AUTH", None, "`USER:PASSWORD` that the page asks for, as `--auth`", secret=True)
    models: Mapping[str, str] = field(default_factory=dict)  # mode -> Hub name, folder or file, where it is not the mode's own
    components: str | None = _variable(
        "FLUX_DEMO_COMPONENTS", None, "folder in diffusers' layout with text encoders, VAE and scheduler, for models that are single files"
    )
    depth_estimator: str = _variable("FLUX_DEMO_DEPTH_ESTIMATOR", ESTIMATOR_REPO, "the model that estimates depth in photos")
    nvidia_api_key: str | None = _variable("NVIDIA_API_KEY", None, "key for NVIDIA's hosted API", secret=True)
    hf_token: str | None = _variable(
        "HF_TOKEN", None, "Hugging Face token, for the gated FLUX weights, and for `providers`, which charges its account", secret=True
    )
    hf_provider: str = _variable(
        "FLUX_DEMO_HF_PROVIDER",
        "auto",
        "which of Hugging Face's Inference Providers; auto is the first on your account that takes every size and setting",
    )
    zero_gpu: bool = _switch("SPACES_ZERO_GPU", "`true` on a Space with ZeroGPU, set by Hugging Face there")
    zero_size: str = _variable("FLUX_DEMO_ZEROGPU", "large", "large: one mode on ZeroGPU; xlarge: all three, at twice the quota")
    space_id: str | None = _variable("SPACE_ID", None, "the name of the Space, set by Hugging Face there")
    oauth_client: str | None = _variable(
        "OAUTH_CLIENT_ID", None, "set by Hugging Face on a Space with `hf_oauth: true`: there visitors sign in, and pay for `providers`"
    )
    hosts: str | None = _variable("FLUX_DEMO_HOSTS", None, "other names under which the page is reached, such as studio.example.org")
    root_path: str | None = _variable("GRADIO_ROOT_PATH", None, "the path or address under which a proxy serves the page")
    space_host: str | None = _variable("SPACE_HOST", None, "set by Hugging Face Spaces: the page's name there")
    hf_home: str | None = _variable("HF_HOME", None, "where Hugging Face keeps downloaded weights")
    public: bool | None = _switch(  # None: nobody has said it
        "FLUX_DEMO_PUBLIC",
        "1: strangers reach the page, through a proxy of your own on this machine; 0: only you do, whatever its host",
        default=None,
    )
    allow_unfiltered: bool = _switch(
        "FLUX_DEMO_ALLOW_UNFILTERED", "1: strangers may see FLUX's images without the content filter, as `--allow-unfiltered`"
    )

    # Of each field that an option set, that option's name.
    options: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in ("outputs", "components", "depth_estimator", "hf_home"):  # a script may give paths
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        for row in fields(self):
            value = getattr(self, row.name)
            switch = "switch" in row.metadata
            if row.metadata and value is not row.default and not isinstance(value, bool if switch else str):
                means = "True or False" if switch else "text"
                raise InvalidRequest(f"{row.name} cannot be of type {type(value).__name__}. Give {means} in Settings, or leave it out.")
        if not isinstance(self.models, Mapping):
            raise InvalidRequest(f"models cannot be {shortened(self.models)}. Give the modes and their models as a dict, or leave it out.")
        for mode, name in self.models.items():
            if not isinstance(name, str | os.PathLike):
                raise InvalidRequest(f"{shortened(name)} is not a model. Give the {find_mode(mode).name} mode's as text or a path.")
        object.__setattr__(self, "models", {find_mode(mode).name: os.fspath(name) for mode, name in self.models.items()})
        if self.backend not in ("auto", *BACKENDS):
            raise InvalidRequest(
                f"{self.backend!r} is not a backend. Set {self.named_by('backend')} to one of auto, {', '.join(BACKENDS)}."
            )
        if self.auth is not None and not all(self.login or ("",)):
            raise InvalidRequest(
                f"The login of the page cannot be read. Write {self.named_by('auth')} as USER:PASSWORD, neither of them empty."
            )
        if not self.outputs.strip():
            raise InvalidRequest(f"The outputs folder has no name. Give one to {self.named_by('outputs')}, or leave it out.")
        if self.device not in DEVICES:
            raise InvalidRequest(f"{self.device!r} is not a device. Set FLUX_DEMO_DEVICE to {' or '.join(DEVICES)}, or leave it out.")
        if self.preset not in (None, *PRESETS):
            raise InvalidRequest(f"{self.preset!r} is not a preset. Set FLUX_DEMO_PRESET to {' or '.join(PRESETS)}, or leave it out.")
        if self.zero_size not in ZERO_SIZES:
            raise InvalidRequest(f"{self.zero_size!r} is not a size of ZeroGPU. Set FLUX_DEMO_ZEROGPU to {' or '.join(ZERO_SIZES)}.")
        for mode, name in self.models.items():
            _check_path(MODES[mode].model_variable, name)
        for field_name in ("components", "depth_estimator"):
            _check_path(self.named_by(field_name), getattr(self, field_name) or "")

    def named_by(self, name: str) -> str:
        """The option or the variable by which a person sets a field: what they used."""
        variables = {row.name: row.metadata["variable"].name for row in fields(self) if row.metadata}
        return self.options.get(name) or variables[name]

    @property
    def visitors_pay(self) -> bool:
        """Whether each visitor signs in at Hugging Face, and images are charged to that account."""
        return self.backend == "providers" and self.oauth_client is not None

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password that the page asks for; None if everybody may enter. A password may hold colons."""
        user, _, password = (self.auth or "").partition(":")
        return None if self.auth is None else (user.strip(), password)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Read the environment; an empty variable counts as not set. What is ``given`` and not None stands in its place. Raises InvalidRequest.

        ``options`` maps a field to the option that gave it, where that is not ``--`` and the field's name.
        """
        environ = os.environ if environ is None else environ

        def read(name: str) -> str:
            return environ.get(name, "").strip()

        said = {row.name: read(row.metadata["variable"].name) for row in fields(cls) if row.metadata}
        models = {mode.name: read(mode.model_variable) for mode in MODES.values()} | dict(given.pop("models", None) or {})
        chosen: dict = {name: value for name, value in said.items() if value}
        for row in fields(cls):
            if "switch" in row.metadata and row.name in chosen:
                chosen[row.name] = _is_on(row.metadata["variable"].name, chosen[row.name])
        chosen |= (given := {name: value for name, value in given.items() if value is not None})
        names = {name: f"--{name}" for name in given} | {name: option for name, option in (options or {}).items() if name in given}
        return cls(**chosen, options=names, models={mode: name for mode, name in models.items() if name})

    @classmethod
    def variables(cls) -> list[Variable]:
        """Every environment variable that is read, in the order of the README's table."""
        models = [
            Variable(
                mode.model_variable,
                mode.repo,
                f"Hub name, folder in diffusers' layout, or .gguf or .safetensors file for {mode.name}{', or a control LoRA' if mode.lora else ''}",
            )
            for mode in MODES.values()
        ]
        found: list[Variable] = []
        for row in fields(cls):
            found += models if row.name == "models" else [row.metadata["variable"]] if row.metadata else []
        return found

    def model(self, mode: str) -> str:
        """Hub name, folder or file of a mode's weights."""
        return self.models.get(mode) or MODES[mode].repo

    @property
    def outputs_folder(self) -> Path:
        return expanded(self.outputs)


def expanded(path: str | os.PathLike) -> Path:
    """A path with ``~`` filled in, or left as it is where nobody knows whose home is meant: no HOME, no such user."""
    return Path(os.path.expanduser(path))
