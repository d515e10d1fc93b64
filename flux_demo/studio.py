"""Studio: the one path that the page, the command line and notebooks take. ``preview`` draws the map, ``generate`` the image.

Knows nothing of Gradio, and loads nothing heavy before it is needed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, BinaryIO

from flux_demo.backends import Backend, Route, all_backends, choose, renew_dials
from flux_demo.backends.control_checks import check_control, control_of
from flux_demo.backends.queue import Client, RunQueue
from flux_demo.errors import BackendUnavailable, InvalidRequest, shortened
from flux_demo.gallery import Gallery, GeneratedImage
from flux_demo.maps.fit import check_fit
from flux_demo.maps.notes import photo_notes
from flux_demo.maps.photo import open_photo
from flux_demo.modes import ESTIMATOR_REPO, MAP_LIMITS, MATCH, MODES, find_mode
from flux_demo.notebook import progress_bar
from flux_demo.progress import OnStatus, OnStep
from flux_demo.reading import parse_size
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.settings import Settings, expanded
from flux_demo.texts import Text, join_listed
from flux_demo.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.experiments.batch import BatchLine
    from flux_demo.experiments.grid import Grid
    from flux_demo.hub import DownloadSize
    from flux_demo.maps.depth import Estimator
    from flux_demo.maps.fit import Fitted

    Photo = Image | str | os.PathLike | bytes | BinaryIO

KEPT_FITS = 16  # fitted photos kept, about 3 MB each


class Studio:
    """Modes, backends and the gallery put together. Safe to use from several threads."""

    def __init__(self, settings: Settings, backends: Sequence[Backend], gallery: Gallery):
        self.settings = settings
        self.backends = list(backends)
        self.gallery = gallery
        self._queues = {backend.name: RunQueue(backend) for backend in self.backends}
        self._lock = threading.Lock()
        self._choosing = threading.Lock()  # separate from _lock, because choosing may wait for a service that hangs
        self._routes: dict[str, Route] = {}
        self._estimator: Estimator | None = None
        self._fits: dict[tuple, Fitted] = {}  # oldest first

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Studio:
        """A studio built from the settings; None reads the environment. Raises InvalidRequest for an impossible setting."""
        settings = Settings.from_env() if settings is None else settings
        if not isinstance(settings, Settings):
            raise InvalidRequest(f"{shortened(settings)} is not a Settings object. Give one, such as Settings(backend='mini'), or nothing.")
        return cls(settings, all_backends(settings), Gallery(settings.outputs_folder, settings.named_by("outputs")))

    def route(self, mode: str) -> Route:
        """Where the mode runs and why. Chosen once and kept, so that it never changes behind the person's back; what can be asked there may.

        Raises NoRoute, a BackendUnavailable, when nothing can run it, InvalidRequest for an unknown mode.
        """
        row = find_mode(mode)
        if kept := self._routes.get(mode):
            return kept
        with self._choosing:
            routes = self._routes  # refresh() replaces it: what is chosen meanwhile is not kept
            if mode not in routes:
                routes[mode] = choose(self.backends, row)  # a refusal is not kept: what was not ready may be later
            return routes[mode]

    def loading(self, mode: str) -> str | None:
        """What the mode's backend is loading at this moment, as a sentence; None when it loads nothing, or nothing can run the mode."""
        try:
            return self.route(mode).backend.loading
        except BackendUnavailable:
            return None

    def close(self) -> None:
        """Release the backends' connections and memory. Do not use the studio afterwards."""
        for backend in self.backends:
            backend.close()

    def refresh(self) -> None:
        """Choose all routes and the depth estimator anew, after something was fetched or started."""
        for backend in self.backends:
            backend.recheck()
        with self._lock:
            self._routes, self._fits, self._estimator = {}, {}, None  # "match" depends on the route

    def preview(self, mode: str, photo: Photo, size: Size | str = MATCH, fit: str = "crop", **options) -> ControlMap:
        """Draw the map that the image will follow, once, at the output size.

        ``photo`` is a path, bytes, a binary file or a PIL image; ``size`` a Size, "WIDTHxHEIGHT", or "match"; ``options`` are those of the mode's
        control: low and high for canny, near, far and invert for depth. Raises InvalidRequest, InvalidPicture, GenerationFailed.
        """
        check_fit(fit)
        control = control_of(find_mode(mode))
        values, draw = control.complete(options), resolve_name(control.draw)
        fitted = self._fitted(mode, photo, size, fit)
        if not control.needs_estimator:
            return ControlMap(control.kind, draw(fitted, **values), values, fit, notes=fitted.notes)
        estimator = self.estimator()
        return ControlMap(control.kind, draw(fitted, estimator, **values), values, fit, estimator.title, fitted.notes)

    def as_map(self, mode: str, picture: Photo, size: Size | str = MATCH, fit: str = "crop") -> ControlMap:
        """Take a ready-made map as it is: RGB and fitted, never redrawn, greyed or thresholded; transparency is laid on white, as in a photo.

        With size "match" a map keeps every pixel where the mode's route can generate its size.
        """
        from PIL import Image as PIL_Image

        check_fit(fit)
        control = control_of(find_mode(mode))
        image = open_photo(picture)
        if parse_size(size) in (None, MATCH) and self._can_generate(mode, image.size):
            size = Size(*image.size)
        if not (isinstance(size, Size) and image.size == (size.width, size.height)):
            fitted = self._fit(mode, image, size, fit)
            return ControlMap(control.kind, PIL_Image.fromarray(fitted.blank_outside(fitted.pixels)), notes=fitted.notes)
        kept = image.copy() if image is picture else image  # the map stays as it is, whatever becomes of the picture
        return ControlMap(control.kind, kept, notes=photo_notes(image, size, fit))

    def generate(
        self,
        request: GenerationRequest,
        on_step: OnStep | None = None,
        on_status: OnStatus | None = None,
        client: Client | None = None,
    ) -> GeneratedImage:
        """Generate an image and keep it in the gallery. What the request leaves out takes the route's defaults.

        Waits in the backend's queue first. ``on_step(done, of, preview)`` follows the steps and ``on_status(status)`` the phases; raising
        Cancelled from either stops the run. ``client`` is who asks, on a shared page. Raises FluxDemoError.
        """
        if not isinstance(request, GenerationRequest):
            raise InvalidRequest(f"{shortened(request)} is not a request. Give GenerationRequest(mode, prompt).")
        route = self.route(request.mode)
        check_control(find_mode(request.mode), request, route)
        whole = route.dials.complete(request)
        assert whole.size is not None
        self.gallery.check(whole.size.pixels)
        on_status = on_status or (lambda status: None)
        with progress_bar(on_step) as on_step, self._queues[route.backend.name].turn(on_status, client):
            started = time.perf_counter()
            try:
                output = route.backend.generate(whole, on_step, on_status)
            finally:
                if renew_dials(self._routes, route.backend):
                    self._fits = {}  # "match" depends on the route
            seconds = time.perf_counter() - started
        notes = dict.fromkeys((*output.notes, *route.notes(whole, output.model)))  # your own service may have sent the same notes
        return self.gallery.save(replace(output, notes=tuple(notes)), whole, route.backend.name, seconds)

    def grid(self, mode: str, prompt: str | None, vary: Mapping[str, Any] | Iterable[str], photo: Any = None, **given: Any) -> Grid:
        """Check every cell of a grid; iterating it generates, or finds in the gallery, cell by cell.

        ``vary``: one to three axes, ``{"guidance": [2.5, 3.5], "seed": "1..4"}``; ``given``: see ``experiments.grid.plan_grid``.
        """
        from flux_demo.experiments.grid import plan_grid

        return plan_grid(self, find_mode(mode), prompt, vary, photo, **given)

    def batch(self, requests: Iterable[Any] | str | os.PathLike, **given: Any) -> Iterator[BatchLine]:
        """Generate a list, a file or dicts with a recipe's fields, and yield each line as it is done; see ``experiments.batch.run``."""
        from flux_demo.experiments.batch import run

        return run(self, requests, **given)

    def status(self) -> dict[str, Any]:
        """For ``/status`` and ``check``: the version, and for each mode where it runs, why, and which values it takes."""
        return {"version": VERSION, "modes": {name: self._mode_status(name) for name in MODES}}

    def estimator(self) -> Estimator:
        """The depth model that the settings name. If that is the default and is not installed, the mini's own.

        Raises BackendUnavailable if another one is named and is not installed.
        """
        with self._lock:
            if self._estimator is None:
                from flux_demo.hub import local_folder
                from flux_demo.maps.depth import Estimator
                from flux_demo.model_files import ESTIMATOR_FILES, MINI

                name = self.settings.depth_estimator
                folder = local_folder(name, ESTIMATOR_FILES)
                if folder is None and name != ESTIMATOR_REPO:
                    raise BackendUnavailable(_why_no_estimator(name))
                title = given.resolve().name if (given := expanded(name)).is_dir() else name
                found = (folder, title) if folder is not None else (MINI / "depth_estimator", "mini")
                self._estimator = Estimator(*found, may_use_gpu=not self.settings.zero_gpu)
            return self._estimator

    def fetch_size(self, what: str) -> DownloadSize:
        """What fetching a mode by its name, "estimator" or "filter" would bring; asks the Hub. Raises DownloadFailed, InvalidRequest."""
        from flux_demo.hub import download_size
        from flux_demo.model_files import files_for

        return download_size(*files_for(what, self.settings), token=self.settings.hf_token)

    def fetch(self, what: str, on_bytes: Callable[[int, int], None] | None = None) -> None:
        """Fetch the files of a mode, "estimator" or "filter", resuming an interrupted download. ``on_bytes(done, total)`` may raise Cancelled."""
        from flux_demo.hub import fetch
        from flux_demo.model_files import files_for

        fetch(*files_for(what, self.settings), token=self.settings.hf_token, on_bytes=on_bytes)
        self.refresh()

    def matching_size(self, mode: str, photo: Image, as_map: bool = False) -> Size:
        """The size that "match" means for an RGB photo: nearest to its shape, or a ready-made map's own where that can be generated."""
        if as_map and self._can_generate(mode, photo.size):
            return Size(*photo.size)
        try:
            return self.route(mode).dials.size_limits.nearest(*photo.size)
        except BackendUnavailable:  # maps can be previewed even where nothing can be generated
            return MAP_LIMITS.nearest(*photo.size)

    def _fitted(self, mode: str, photo: Photo, size: Size | str, fit: str) -> Fitted:
        """``_fit`` for an image or a file; a file's last results are kept, so that moving a slider does not decode it again."""
        if not isinstance(photo, str | os.PathLike):
            return self._fit(mode, open_photo(photo), size, fit)
        try:
            file = os.stat(photo)
        except (OSError, ValueError):
            return self._fit(mode, open_photo(photo), size, fit)  # the loader says what is wrong with it
        key = (os.path.abspath(photo), file.st_mtime_ns, file.st_size, mode, str(size), fit)
        fits = self._fits  # refresh() replaces it: what is fitted meanwhile is not kept
        if (kept := fits.get(key)) is None:
            kept = self._fit(mode, open_photo(photo), size, fit)
            with self._lock:
                fits[key] = kept
                while len(fits) > KEPT_FITS:
                    del fits[next(iter(fits))]
        return kept

    def _fit(self, mode: str, photo: Image, size: Size | str, fit: str) -> Fitted:
        from flux_demo.maps.fit import fit as fit_photo

        size = parse_size(size) or MATCH
        size = size if isinstance(size, Size) else self.matching_size(mode, photo)
        MAP_LIMITS.check(size)
        return fit_photo(photo, size, fit)

    def _can_generate(self, mode: str, sides: tuple[int, int]) -> bool:
        try:
            self.route(mode).dials.size_limits.check(Size(*sides))
        except (InvalidRequest, BackendUnavailable):
            return False
        return True

    def _mode_status(self, mode: str) -> dict[str, Any]:
        try:
            route = self.route(mode)
        except BackendUnavailable as refusal:
            return {"backend": None, "title": None, "reason": str(refusal), "passed_over": [], "dials": None}
        return {
            "backend": route.backend.name,
            "title": route.backend.title,
            "reason": self.reason(mode),
            "passed_over": [{"backend": each.backend, "title": each.title, "reason": each.refusal.reason} for each in route.passed_over],
            "dials": route.dials.to_dict(),
        }

    def reason(self, mode: str) -> str:
        """Why the mode runs where it runs, in one sentence."""
        route = self.route(mode)
        if self.settings.backend != "auto":
            return Text("Chosen by name: {name}.", name=self.settings.backend)
        if not route.passed_over:
            return "The first choice, and it can run this mode."
        return Text(
            "The first backend that can run this mode. These cannot: {names}.",
            names=join_listed([Text(each.title) for each in route.passed_over]),
        )


def _why_no_estimator(name: str) -> str:
    from flux_demo.model_files import ESTIMATOR_FILES
    from flux_demo.model_names import estimator_problem, is_local

    if problem := estimator_problem(name):
        return problem
    if not is_local(name):
        return f"{name}, which FLUX_DEMO_DEPTH_ESTIMATOR names, is not on this machine. Run `python -m flux_demo fetch estimator`."
    return (
        f"There is no depth model in the folder that FLUX_DEMO_DEPTH_ESTIMATOR names: it needs {', '.join(ESTIMATOR_FILES)}. "
        "Name another folder or a model on Hugging Face, or leave the variable out."
    )
