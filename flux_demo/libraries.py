"""How large libraries are imported and build models: with less frequent garbage collection, and one thread at a time.

transformers and diffusers put another module in their own place in sys.modules while they are imported, and so do many of their packages.
A thread that imports one of them at that moment keeps the module that is thrown away, which has none of the classes: the page loads its
models in one thread, and a visitor's photo needs the depth model in another.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_AFTER = 10_000  # objects; with Python's default (700, from 3.13 on 2000), collection takes a tenth of the time in which Gradio, diffusers and transformers are imported

_lock = threading.RLock()
_builds = threading.RLock()


def raise_gc_threshold() -> None:
    """Raise the garbage collector's threshold for this process. For programs: a script decides this for itself."""
    gc.set_threshold(COLLECT_AFTER)


@contextmanager
def importing() -> Iterator[None]:
    """Hold this around imports from transformers and diffusers, and around calls that import more of them.

    Quantisers, hooks and the image processor need no lock: diffusers imports them along with its transformer and VAE.
    """
    with _lock:
        yield


@contextmanager
def building() -> Iterator[None]:
    """Hold this while transformers or diffusers builds a model; within ``importing``, where both are held.

    While they build one, they change torch's default dtype and nn.Module for the whole process, and then put back what they found: of two
    at once, the later one puts back what the earlier one had changed. A build that fails leaves the default dtype changed in any case.
    """
    import torch

    with _builds:
        default = torch.get_default_dtype()
        try:
            yield
        finally:
            torch.set_default_dtype(default)
