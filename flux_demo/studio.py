"""Studio: the one path that the page, the command line and notebooks take. Two verbs: ``preview`` draws the map, ``generate`` the picture.

Knows nothing of Gradio, and loads nothing heavy before it is asked to draw.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flux_demo.backends import Backend, Route, all_backends, choose
from flux_demo.errors import BackendUnavailable, InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES, SIZES, Mode, find_mode
from flux_demo.request import ControlMap, Dials, GeneratedImage, GenerationRequest, OnStatus, OnStep, Size
from flux_demo.settings import ASSETS, Settings
from flux_demo.version import VERSION

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.hub import Download
    from flux_demo.maps.depth import Estimator
    from flux_demo.maps.fit import Fitted

MATCH = "match"  # the size that is nearest to the photo's shape
KEPT_FITS = 16  # fitted photos kept, about 3 MB each
# What a map may measure, wherever it will be used: a route's own dials are narrower and speak when a picture is asked for.
MAP_DIALS = Dials(
    steps=1, guidance=1, step_range=range(1, 2), guidance_range=(1, 1), sides=range(64, 2049, 16), max_pixels=4_200_000, sizes=SIZES
)


class Studio:
    """Modes, backends and the gallery put together. Safe to use from several threads."""

    def __init__(self, settings: Settings, backends: Sequence[Backend], gallery: Gallery):
        self.settings = settings
        self.backends = list(backends)
        self.gallery = gallery
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}
        self._estimator: Estimator | None = None
        self._fits: dict[tuple, Fitted] = {}  # oldest first

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Studio:
        """A studio as the settings say; None reads the environment. Raises InvalidRequest for a setting that cannot be."""
        settings = settings or Settings.from_env()
        return cls(settings, all_backends(settings), Gallery(settings.outputs_folder))

    def route(self, mode: str) -> Route:
        """Where the mode runs and why. Chosen once and kept, so that it never changes behind the person's back.

        Raises BackendUnavailable when nothing can run it, InvalidRequest for an unknown mode.
        """
        row = find_mode(mode)
        with self._lock:
            if mode not in self._routes:
                self._routes[mode] = choose(self.backends, row)  # a refusal is not kept: what was not ready may be later
            return self._routes[mode]

    def loading(self, mode: str) -> str | None:
        """What the mode's backend is loading at this moment, in words; None when it loads nothing, or nothing can run the mode."""
        try:
            return getattr(self.route(mode).backend, "loading", None)  # only what runs on this machine has models to load
        except BackendUnavailable:
            return None

    def refresh(self) -> None:
        """Choose all routes and the depth estimator anew, after something was fetched or started."""
        with self._lock:
            self._routes.clear()
            self._fits.clear()  # "match" depends on the route
            self._estimator = None

    def preview(self, mode: str, photo: Image | str | os.PathLike, size: Size | str = MATCH, fit: str = "crop", **options) -> ControlMap:
        """Draw the map that the picture will follow, once, at the output size.

        ``photo`` is an RGB picture or a file; ``size`` a Size, "WIDTHxHEIGHT", or "match"; ``options`` are low and high for canny,
        near, far and invert for depth. Raises InvalidRequest, InvalidPicture, GenerationFailed.
        """
        from flux_demo.maps import canny, depth

        control = _control(find_mode(mode))
        values = control.complete(options)
        fitted = self._fitted(mode, photo, size, fit)
        if control.kind == "canny":
            return ControlMap("canny", canny.draw(fitted, **values), values, fit)
        estimator = self.estimator()
        return ControlMap("depth", depth.draw(fitted, estimator.estimate(fitted), **values), values, fit, estimator.title)

    def as_map(self, mode: str, picture: Image | str | os.PathLike, size: Size | str = MATCH, fit: str = "crop") -> ControlMap:
        """Take a ready-made map as it is: RGB and fitted, never redrawn, greyed or thresholded.

        With size "match" a map whose own size can be drawn on the mode's route keeps every pixel.
        """
        from PIL import Image as PIL_Image

        control = _control(find_mode(mode))
        image = _opened(picture)
        if size == MATCH and self._draws(mode, image.size):
            size = Size(*image.size)
        if not (isinstance(size, Size) and image.size == (size.width, size.height)):
            fitted = self._fit(mode, image, size, fit)
            image = PIL_Image.fromarray(fitted.blank_outside(fitted.pixels))
        return ControlMap(control.kind, image)

    def generate(self, request: GenerationRequest, on_step: OnStep | None = None, on_status: OnStatus | None = None) -> GeneratedImage:
        """Draw a picture and keep it in the gallery. What the request leaves out takes the route's defaults.

        ``on_step(done, of, preview)`` follows the run and ``on_status(sentence)`` its waiting; raising Cancelled from either stops it.
        Raises FluxDemoError.
        """
        route = self.route(request.mode)
        _check_control(find_mode(request.mode), request, route)
        whole = route.dials.complete(request)
        started = time.perf_counter()
        picture = route.backend.generate(whole, on_step or (lambda done, of, preview: None), on_status or (lambda sentence: None))
        return self.gallery.save(picture, whole, route.backend.name, time.perf_counter() - started)

    def status(self) -> dict[str, Any]:
        """For ``/status`` and ``check``: the version, and of each mode where it runs, why, and what may be asked there."""
        return {"version": VERSION, "modes": {name: self._mode_status(name) for name in MODES}}

    def estimator(self) -> Estimator:
        """The model that sees depth: the one FLUX.1-Depth-dev was made with when its files are here, else the mini's own."""
        with self._lock:
            if self._estimator is None:
                from flux_demo.hub import local_folder
                from flux_demo.maps.depth import PATTERNS, Estimator

                name = self.settings.depth_estimator
                folder = local_folder(name, PATTERNS)
                if folder is not None:
                    self._estimator = Estimator(folder, os.path.basename(os.path.normpath(name)) if os.path.isdir(name) else name)
                else:
                    self._estimator = Estimator(ASSETS / "mini" / "depth_estimator", "mini")
            return self._estimator

    def fetch_size(self, what: str) -> Download:
        """What fetching text, canny, depth or estimator would bring; asks the hub. Raises DownloadFailed, InvalidRequest."""
        from flux_demo.hub import missing
        from flux_demo.model_files import files_for

        return missing(*files_for(what, self.settings), token=self.settings.hf_token)

    def fetch(self, what: str, on_bytes: Callable[[int, int], None] | None = None) -> None:
        """Fetch the files of text, canny, depth or estimator, going on where an earlier try ended. ``on_bytes(done, total)`` may raise Cancelled."""
        from flux_demo.hub import fetch
        from flux_demo.model_files import files_for

        fetch(*files_for(what, self.settings), token=self.settings.hf_token, on_bytes=on_bytes)
        self.refresh()

    def _fitted(self, mode: str, photo: Image | str | os.PathLike, size: Size | str, fit: str) -> Fitted:
        """``_fit`` of a picture or a file; of a file the last results are kept, so that moving a slider does not decode it again."""
        from PIL import Image as PIL_Image

        if isinstance(photo, PIL_Image.Image):
            return self._fit(mode, _opened(photo), size, fit)
        try:
            file = os.stat(photo)
        except (OSError, ValueError):
            return self._fit(mode, _opened(photo), size, fit)  # the loader says what is wrong with it
        key = (os.path.abspath(photo), file.st_mtime_ns, file.st_size, mode, str(size), fit)
        with self._lock:
            kept = self._fits.get(key)
        if kept is None:
            kept = self._fit(mode, _opened(photo), size, fit)
            with self._lock:
                self._fits[key] = kept
                while len(self._fits) > KEPT_FITS:
                    del self._fits[next(iter(self._fits))]
        return kept

    def _fit(self, mode: str, photo: Image, size: Size | str, fit: str) -> Fitted:
        from flux_demo.maps.fit import fit as fit_photo

        if size == MATCH:
            try:
                size = self.route(mode).dials.nearest_size(*photo.size)
            except BackendUnavailable:  # maps can be looked at even where no picture can be made
                size = MAP_DIALS.nearest_size(*photo.size)
        elif not isinstance(size, Size):
            size = Size.parse(size)
        MAP_DIALS.check_size(size)
        return fit_photo(photo, size, fit)

    def _draws(self, mode: str, sides: tuple[int, int]) -> bool:
        try:
            self.route(mode).dials.check_size(Size(*sides))
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
            "passed_over": [vars(refusal) for refusal in route.passed_over],
            "dials": route.dials.to_dict(),
        }

    def reason(self, mode: str) -> str:
        """Why the mode runs where it runs, in one sentence."""
        route = self.route(mode)
        if self.settings.backend != "auto":
            return f"Chosen with --backend {self.settings.backend} or FLUX_DEMO_BACKEND."
        if not route.passed_over:
            return "The first choice, and it can run this mode."
        return f"The first that can run this mode; not possible: {', '.join(refusal.title for refusal in route.passed_over)}."


def _control(mode: Mode):
    if mode.control is None:
        raise InvalidRequest(f"The mode {mode.name} follows no map. Use canny or depth.")
    return mode.control


def _opened(photo: Image | str | os.PathLike) -> Image:
    from PIL import Image

    from flux_demo.maps.photo import open_photo

    if not isinstance(photo, Image.Image):
        return open_photo(photo)
    return photo if photo.mode == "RGB" else photo.convert("RGB")


def _check_control(mode: Mode, request: GenerationRequest, route: Route) -> None:
    """Raise InvalidRequest when the mode and the route do not get the kind of picture that they follow."""
    if mode.control is None:
        if request.control is not None or request.sample is not None:
            raise InvalidRequest("The text mode follows no map. Leave the map out, or use canny or depth.")
        return
    if request.sample is not None and request.sample not in range(route.dials.sample_pictures):
        raise InvalidRequest("This backend has no such sample picture. Give a photo or a map of your own.")
    if request.control is not None and not route.dials.own_photos:
        raise InvalidRequest(
            f"{route.backend.title} follows only its {route.dials.sample_pictures} sample pictures, so your map was not sent. "
            "Choose one of them by number, or run on a GPU, a NIM or the mini."
        )
    if request.control is None and request.sample is None:
        raise InvalidRequest(f"The mode {mode.name} needs a map to follow. Draw one from a photo first, or give a ready-made one.")
