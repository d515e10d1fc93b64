"""A run, as a generator: closing it stops the run. That is the one signal for Stop, a closed page, and a cancelled API job."""

from collections.abc import Generator
from dataclasses import dataclass

from PIL.Image import Image

from flux_demo import background
from flux_demo.backends.queue import MAX_IN_ALL
from flux_demo.errors import Cancelled, GenerationFailed
from flux_demo.gallery import GeneratedImage
from flux_demo.progress import Status
from flux_demo.request import GenerationRequest
from flux_demo.studio import Studio
from flux_demo.ui.visitors import current

MAX_RUNS = MAX_IN_ALL + 4  # that hold a thread of Gradio's: all that a queue takes, and some that it is about to refuse


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

    caller = current.get()
    visitor = caller.visitor if caller else None

    def run(report: background.Reporter[Step | Status]) -> GeneratedImage:
        return studio.generate(request, lambda done, of, preview: report(Step(done, of, preview)), report, visitor)

    events = background.follow(run, f"run-{request.mode}")
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                yield end.value
                return
            if caller:
                caller.check_listening()
            yield event
    except Cancelled as error:
        raise GenerationFailed("The run was stopped before it ended. Start it again.") from error
    finally:
        events.close()
