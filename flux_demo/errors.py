"""Everything that can go wrong, in words for the person.

    FluxDemoError
    ├── InvalidRequest          nobody can do what was asked: a size, a seed, an empty prompt
    │   └── InvalidPicture      a file that is not a picture, is too large, or is broken
    ├── BackendUnavailable      nothing here can run the mode, or the chosen backend refuses it
    ├── DownloadFailed          the model files could not be fetched
    └── GenerationFailed        the run began and did not end in an image
        ├── OutOfMemory         the device's memory ran out
        ├── ContentRefused      a content filter withheld the image
        └── Unreachable         the service did not answer, or not in time
    Cancelled                   the person stopped the run; not an error

A message is two sentences: what happened, and what to do. It never holds a path of the server or a key.
Exceptions of other libraries are translated where they enter, with ``from``.
"""


class FluxDemoError(Exception):
    """Shown to the person as it is."""


class InvalidRequest(FluxDemoError):
    pass


class InvalidPicture(InvalidRequest):
    pass


class BackendUnavailable(FluxDemoError):
    pass


class DownloadFailed(FluxDemoError):
    pass


class GenerationFailed(FluxDemoError):
    pass


class OutOfMemory(GenerationFailed):
    pass


class ContentRefused(GenerationFailed):
    pass


class Unreachable(GenerationFailed):
    pass


class Cancelled(Exception):
    """Raised from ``on_step`` or ``on_status`` to stop a run between two steps."""
