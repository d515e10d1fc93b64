"""The libraries that models come from are imported by one thread at a time.

transformers and diffusers put another module into their own place while they are imported, and so do many of their packages. A thread
that meets one of them just then goes on with what is thrown away, and finds none of the classes in it: the page loads its models in one
thread, and a visitor's photo needs the depth model in another.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Hold this around imports from transformers and diffusers, and around calls that import more of them.

    What diffusers' transformer and VAE import along with themselves needs none: their quantisers, hooks and image processor.
    """
    with _lock:
        yield
