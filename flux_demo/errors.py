"""Everything that can go wrong, in words for the person.

    FluxDemoError
    ├── InvalidRequest          nobody can do what was asked: a size, a seed, an empty prompt
    │   └── InvalidPicture      a file that is not a picture, is too large, or is broken
    ├── BackendUnavailable      nothing here can run the mode, or the chosen backend refuses it
    ├── Busy                    too many runs are waiting already
    ├── DownloadFailed          the model files could not be fetched
    └── GenerationFailed        the run began and did not end in an image
        ├── OutOfMemory         the device's memory ran out
        ├── GpuFailed           the GPU failed, and every call of this process may fail from now on
        ├── ContentRefused      a content filter withheld the image
        └── Unreachable         the service did not answer, or not in time
            ├── NoConnection    no connection could be made
            └── ConnectionLost  what accepted the connection closed it before the answer was complete
    Cancelled                   the person stopped the run; not an error

A message is two sentences: what happened, and what to do. It never holds a path of the server or a key.
Exceptions of other libraries are translated where they enter, with ``from``.
"""

import reprlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from flux_demo.texts import Text

UNVERIFIED = (
    "The certificate of the service cannot be verified: something in between, such as a company's proxy, may be reading the traffic. "
    "If that is intended, set SSL_CERT_FILE to the proxy's certificates and restart."
)


class FluxDemoError(Exception):
    """Shown to the person: in English, and on the page in the visitor's language."""

    def __init__(self, text: str = "", /, **values: Any) -> None:
        super().__init__(Text(text, **values) if values else text)

    @property
    def text(self) -> str:
        """What ``str`` gives, as a ``Text`` where it is one."""
        return self.args[0] if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle keeps, so that an error comes back from another process, whatever its constructor takes."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class InvalidRequest(FluxDemoError):
    pass


class InvalidPicture(InvalidRequest):
    pass


class BackendUnavailable(FluxDemoError):
    pass


class Busy(FluxDemoError):
    pass


class DownloadFailed(FluxDemoError):
    pass


class GenerationFailed(FluxDemoError):
    pass


class OutOfMemory(GenerationFailed):
    pass


class GpuFailed(GenerationFailed):
    pass


class ContentRefused(GenerationFailed):
    pass


class Unreachable(GenerationFailed):
    pass


class NoConnection(Unreachable):
    pass


class ConnectionLost(Unreachable):
    pass


class Cancelled(Exception):
    """Raised from ``on_step`` or ``on_status`` to stop a run between two steps."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and whatever led to it, each once: libraries wrap one error in another."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if not any(link is other for other in seen):
            seen.append(link)
            yield link
            waiting += [cause for cause in (link.__cause__, link.__context__) if cause is not None]


class _Parts(reprlib.Repr):
    """A value cut in its middle, or the first that it holds, each cut so: no quotation mark or bracket stays open."""

    def __init__(self, holds_others: bool) -> None:
        super().__init__()
        self.maxlevel = self.maxdict = 1
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 2
        self.maxstring = self.maxlong = self.maxother = 11 if holds_others else 40


def shortened(value: object) -> str:
    """A value as a message names it: its ``repr``, at most 40 characters."""
    try:
        text = repr(value[:100]) if isinstance(value, str) else repr(value)
        if len(text) <= 40:
            return text
        if isinstance(value, int | float):
            return text[:37] + "..."
        if isinstance(value, str):
            kept = next(value[:length] for length in range(37, -1, -1) if len(repr(value[:length])) <= 37)
            return f"{repr(kept)[:-1]}...{repr(kept)[-1]}"
        return _Parts(isinstance(value, list | tuple | dict | set | frozenset | deque)).repr(value)
    except Exception:  # a number of more than 4300 digits; brackets a thousand deep; an object that fails to say what it is
        return "This value"
