"""The filter that looks at FLUX's images before anybody sees them.

The classifier is the one that black-forest-labs' own demo uses, with its threshold: github.com/black-forest-labs/flux, demo_gr.py of commit
191ba89, where an image is shown if its score for "nsfw" is below NSFW_THRESHOLD = 0.85. It runs on the CPU, where it takes a fraction of a
second and none of the GPU's memory. Knows nothing of backends.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_demo.errors import ContentRefused, GenerationFailed
from flux_demo.failures import failure_of
from flux_demo.hub import local_folder
from flux_demo.libraries import building, importing
from flux_demo.model_files import FILTER_FILES, FILTER_REPO
from flux_demo.texts import distinct_numbers

if TYPE_CHECKING:
    from PIL.Image import Image

THRESHOLD = 0.85
UNFILTERED = "unfiltered"  # in recipes
CLAUSE = (
    "You may access, use, Distribute, or create Output of the FLUX Model or Derivatives if you: (i) (A) implement and maintain content "
    "filtering measures for your use of the FLUX Model or Derivatives to prevent the creation, display, transmission, generation, or "
    "dissemination of unlawful or infringing content, or (B) ensure Output undergoes review for unlawful or infringing content before "
    "public or non-public distribution, display, transmission or dissemination; and (ii) ensure Output includes disclosure (or other "
    "indication) that the Output was generated or modified using artificial intelligence technologies to the extent required under "
    "applicable law."
)
ACCEPTED = (
    f'FLUX runs unfiltered on this page, as you chose with --allow-unfiltered or FLUX_DEMO_ALLOW_UNFILTERED. Its licence says: "{CLAUSE}"'
)


@dataclass(frozen=True)
class Verdict:
    """What the filter says about one image."""

    score: float  # 0 to 1, larger is less safe

    @property
    def withheld(self) -> bool:
        return not self.score < THRESHOLD  # a NaN is withheld too

    def __str__(self) -> str:
        score, limit = distinct_numbers(self.score, THRESHOLD, 2)
        return f"{FILTER_REPO}: {'withheld' if self.withheld else 'passed'}, score {score} of {limit}"


class Filter:
    """The classifier, loaded at its first use and kept. Safe to call from several threads; it judges one image at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, int] | None = None

    def judge(self, image: Image) -> Verdict:
        """Look at an RGB image. Raises GenerationFailed when the classifier cannot be loaded: then nothing may be shown."""
        import torch

        with self._lock, torch.inference_mode():
            model, processor, nsfw = self._load("The image is finished and not shown")
            logits = model(**processor(images=image, return_tensors="pt")).logits[0]
            return Verdict(float(logits.float().softmax(-1)[nsfw]))

    def load(self) -> None:
        """Load the classifier now, before an image costs anything. Raises GenerationFailed."""
        with self._lock:
            self._load("No image was asked for")

    def check(self, image: Image) -> Verdict:
        """The verdict on an image that may be shown. Raises ContentRefused for one that may not."""
        verdict = self.judge(image)
        if verdict.withheld:
            why = "The filter withheld this image: {filter} scores it {score}, and {limit} is its limit. Change the prompt, or the seed."
            score, limit = distinct_numbers(verdict.score, THRESHOLD, 2)
            raise ContentRefused(why, filter=FILTER_REPO, score=score, limit=limit)
        return verdict

    def _load(self, outcome: str) -> tuple[Any, Any, int]:
        if self._loaded is None:
            with importing(), building():
                self._loaded = self._read(outcome)
        return self._loaded

    def _read(self, outcome: str) -> tuple[Any, Any, int]:
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = AutoModelForImageClassification.from_pretrained(self.folder, dtype=torch.float32, local_files_only=True)
            processor = AutoImageProcessor.from_pretrained(self.folder, local_files_only=True, backend="pil")
            nsfw = next(number for number, label in model.config.id2label.items() if label == "nsfw")
        except Exception as error:  # transformers raises OSError, ValueError, SafetensorError and others on broken folders
            if failure := failure_of(error):
                raise GenerationFailed(
                    f"{outcome}, because the filter {FILTER_REPO} could not be loaded. "
                    f"{failure.message('Close other programs and try again.')}"
                ) from error
            raise GenerationFailed(
                f"{outcome}, because the filter {FILTER_REPO} cannot be loaded. "
                "Delete its files and run `python -m flux_demo fetch filter`."
            ) from error
        return model.eval(), processor, int(nsfw)


def installed_filter() -> Filter | None:
    """The filter, if its files are here. Quick; loads nothing."""
    folder = local_folder(FILTER_REPO, FILTER_FILES)
    return Filter(folder) if folder else None
