"""Photo -> depth map in which near is bright, with a Depth Anything model from a folder in transformers' layout.

Downloads nothing: the caller names a folder that is complete.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_demo import background
from flux_demo.errors import FluxDemoError, GenerationFailed
from flux_demo.failures import failure_of
from flux_demo.libraries import building, importing
from flux_demo.maps.fit import Fitted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

# Bytes: 2.5 GiB for Depth Anything's large model, 4.7 GiB for an image of one megapixel that may be decoded at the same time.
GPU_ROOM = int(7.2 * 2**30)
NEAREST = 0.01  # metres; nothing is nearer to a camera
KEPT = 8  # estimates kept, so that moving near and far does not run the model again


class Estimator:
    """A depth model, loaded at its first use and kept. Threads may share it; it runs for one at a time."""

    def __init__(self, folder: Path, title: str, may_use_gpu: bool = True):
        self.folder = folder
        self.title = title  # a Hub name, a folder's name or "mini": in recipes and on the page
        self._may_use_gpu = may_use_gpu  # False where torch claims a GPU that threads cannot use: on ZeroGPU
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None
        self._estimates: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def estimate(self, fitted: Fitted) -> np.ndarray:
        """Relative inverse depth of each pixel, (height, width) float32: larger is nearer, without a unit. Raises GenerationFailed."""
        key = hashlib.blake2b(fitted.pixels.tobytes() + repr(fitted.pixels.shape).encode()).digest()
        with self._lock:
            if key not in self._estimates:
                self._estimates[key] = self._run(fitted.pixels)
            self._estimates.move_to_end(key)
            while len(self._estimates) > KEPT:
                self._estimates.popitem(last=False)
            return self._estimates[key]

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        try:
            return self._infer(pixels)
        except FluxDemoError:
            raise
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            raise failure.error_class(failure.message("Close other programs and try again.")) from error

    def _infer(self, pixels: np.ndarray) -> np.ndarray:
        import torch
        from PIL import Image

        background.refuse_after_fork()
        model, processor = self._load()
        inputs = processor(images=Image.fromarray(pixels), return_tensors="pt")
        with torch.inference_mode():
            outputs = _run_on(_device() if self._may_use_gpu else torch.device("cpu"), model, inputs)
        if _gives_distances(model.config):
            outputs.predicted_depth = 1 / outputs.predicted_depth.clamp(min=NEAREST)
        # bicubic back to the photo's size, as black-forest-labs/flux does
        result = processor.post_process_depth_estimation(outputs, target_sizes=[pixels.shape[:2]])[0]
        return result["predicted_depth"].float().cpu().numpy()

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            with importing(), building():
                self._loaded = self._read()
        return self._loaded

    def _read(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = AutoModelForDepthEstimation.from_pretrained(self.folder, dtype=torch.float32, local_files_only=True)
            processor = AutoImageProcessor.from_pretrained(self.folder, local_files_only=True, backend="pil")
        except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and others on broken folders
            if failure_of(error):
                raise
            raise GenerationFailed(
                f"The depth model {self.title} cannot be loaded: its files are damaged or belong to another kind of model. "
                "Delete them and run `python -m flux_demo fetch estimator`, or name another model in FLUX_DEMO_DEPTH_ESTIMATOR."
            ) from error
        return model.eval(), processor


def _gives_distances(config: Any) -> bool:
    """Whether the model estimates metres, as those trained for metric depth do, and not inverse depth."""
    return getattr(config, "depth_estimation_type", None) == "metric" or config.model_type in ("glpn", "zoedepth")


def _device() -> torch.device:
    """The GPU if it has enough free memory for the depth model beside an image that is being generated, otherwise the CPU."""
    import torch

    with suppress(RuntimeError):  # a GPU that is full, too old or in trouble is not needed here
        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # free within torch's cache
            if free + idle >= GPU_ROOM:
                return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _run_on(device: torch.device, model: Any, inputs: Any) -> Any:
    """The model's outputs, with the depth in main memory. The model itself stays there too: a GPU gets copies, for one run."""
    import torch

    if device.type != "cpu":
        try:
            return _run_copies(device, model, inputs)
        except RuntimeError:  # something else took the memory first, or torch has no code for this GPU
            pass
        finally:
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
    return model(**inputs)


def _run_copies(device: torch.device, model: Any, inputs: Any) -> Any:
    from torch.func import functional_call

    weights = {name: value.to(device) for name, value in (*model.named_parameters(), *model.named_buffers())}
    outputs = functional_call(model, weights, kwargs={name: value.to(device) for name, value in inputs.items()})
    outputs.predicted_depth = outputs.predicted_depth.cpu()
    return outputs


def draw(fitted: Fitted, estimator: Estimator, near: float = 0.0, far: float = 1.0, invert: bool = False) -> Image:
    """A grey RGB map of the photo's depth, in which near is bright. Raises what ``grey_map`` and ``Estimator.estimate`` raise."""
    return grey_map(fitted, estimator.estimate(fitted), near, far, invert)


def grey_map(fitted: Fitted, inverse_depth: np.ndarray, near: float = 0.0, far: float = 1.0, invert: bool = False) -> Image:
    """A grey RGB map in which near is bright.

    Distances run from 0, the nearest point, to 1, the farthest. Closer than ``near`` is white, farther than ``far`` is black;
    ``invert`` swaps the two. Raises GenerationFailed when the photo has no depth.
    """
    import numpy as np
    from PIL import Image

    left, top, right, bottom = fitted.box
    shown = inverse_depth[top:bottom, left:right]  # padding does not count
    nearest, farthest = float(shown.max()), float(shown.min())
    span = nearest - farthest
    if not np.isfinite(span) or span <= 1e-6 * max(1.0, abs(nearest)):
        raise GenerationFailed(
            "The photo shows no depth: every point seems equally far away. Choose a photo with a foreground and a background."
        )
    distance = (nearest - inverse_depth) / span
    brightness = 1 - np.clip((distance - near) / (far - near), 0, 1)
    if invert:
        brightness = 1 - brightness
    grey = fitted.blank_outside((brightness * 255 + 0.5).astype(np.uint8))
    return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
