"""A run, as a generator: closing it stops the run. That is the one signal for Stop, a closed page, and a cancelled API job."""

from collections.abc import Generator
from dataclasses import dataclass

from PIL.Image import Image

from flux_demo import background
from flux_demo.errors import Cancelled, GenerationFailed
from flux_demo.gallery import GeneratedImage
from flux_demo.progress import Status
from flux_demo.request import GenerationRequest
from flux_demo.studio import Studio

MAX_RUNS = 16  # that hold a thread of Gradio's forty: for each backend a few run, the others wait in its queue


@dataclass(frozen=True)
class Step:
    """A denoising step that is done."""

    done: int
    of: int
    preview: Image | None


def follow(studio: Studio, request: GenerationRequest) -> Generator[Step | Status | GeneratedImage | None]:
    """Run the request in a thread of its own and report: the newest step or status, None as a heartbeat, the result at the end.

    Raises what the run raises. Closing the generator leaves the queue, or stops the run at its next step.
    """

    def run(report: background.Reporter[Step | Status]) -> GeneratedImage:
        return studio.generate(request, lambda done, of, preview: report(Step(done, of, preview)), report)

    try:
        yield (yield from background.follow(run, f"run-{request.mode}"))
    except Cancelled as error:
        raise GenerationFailed("The run was stopped before it ended. Start it again.") from error
