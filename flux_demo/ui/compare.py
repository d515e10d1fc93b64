"""One prompt and one seed in every mode, from one photo, as a labelled strip."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flux_demo.errors import InvalidRequest
from flux_demo.experiments.axes import Axis
from flux_demo.experiments.sheet import Tile, sheets
from flux_demo.gallery import ORIGIN, GeneratedImage, write_png
from flux_demo.modes import MODES, Mode
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.seeds import parse_seed, random_seed
from flux_demo.studio import Studio
from flux_demo.ui import html
from flux_demo.ui.files import ShownMap, map_to_send, new_file
from flux_demo.ui.generate import Fields, Starting, request_of, show_run
from flux_demo.ui.history import Entry
from flux_demo.ui.map_views import MAP
from flux_demo.ui.number_fields import check_not_empty
from flux_demo.ui.preview import draw, drawn_from, map_to_follow
from flux_demo.ui.run import Run
from flux_demo.ui.services import Services
from flux_demo.ui.strip import keep_strip
from flux_demo.ui.translation import COMPARED, in_language, language, translate


def compare_handler(services: Services, mode: Mode) -> Callable[..., Iterator[dict[str, Any]]]:
    """The generator behind a control tab's Compare button."""
    studio = services.studio

    def compare(
        *,
        visitor: Any,
        prompt: Any,
        seed: Any,
        steps: Any,
        guidance: Any,
        size: Any,
        preset: Any,
        photo: Any,
        fit: Any,
        as_map: Any,
        shown: ShownMap | None,
        last: Entry | None,
        saved_fields: Fields,
        view: Any = MAP,
        painter: Any = None,
        painting: str | None = None,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        def start() -> Starting:
            check_not_empty({"Steps": steps, "Guidance": guidance})
            now = drawn_from(mode, photo, size, fit, as_map, options)
            if as_map and now.photo:
                raise InvalidRequest("A ready-made map cannot be compared with the other modes. Give the photo that it was drawn from.")
            # A map without its photo is drawn anew, which says that the photo is missing.
            followed, changed = map_to_follow(services, visitor, mode, now, shown if now.photo else None, view, painter, painting)
            yield changed
            own = map_to_send(followed)
            maps = _maps(studio, mode, followed, own.size, photo, fit)
            controls = {name: own if name == mode.name else map_to_send(each) for name, each in maps.items()}
            chosen = parse_seed(seed)
            chosen = random_seed() if chosen is None else chosen
            requests = _requests(studio, mode, controls, (prompt, chosen, steps, guidance, preset))
            said_in = language()  # the run goes on without its caller
            yield {}  # a Stop that came while the maps were drawn closes the generator here, before there is a run
            return services.runs.start(
                visitor,
                requests,
                lambda made: services.history.add(visitor, made, maps.get(made.request.mode)),
                mode.name,
                maps,
                lambda run: _make_strip(services, visitor, run, said_in),
            )

        yield from show_run(services, visitor, mode, last, saved_fields, start())

    return compare


def _maps(studio: Studio, mode: Mode, shown: ShownMap, size: Size, photo: Any, fit: Any) -> dict[str, ShownMap]:
    """The map of each mode that follows one: the one in sight, and those of the other modes as they draw them without being told more."""
    maps = {mode.name: shown}
    for other in MODES.values():
        if other.control and other is not mode:
            defaults = {option.name: option.default for option in other.control.options}
            maps[other.name] = draw(studio, other, drawn_from(other, photo, str(size), fit, False, defaults))
    return maps


def _requests(studio: Studio, mode: Mode, maps: dict[str, ControlMap], form: tuple[Any, ...]) -> Sequence[GenerationRequest]:
    """A request for each mode; guidance means something else in each, so the other modes take their own. So they do for a preset that they do not offer."""
    prompt, seed, steps, guidance, preset = form
    size = maps[mode.name].size
    requests = []
    for each in MODES.values():
        control = maps.get(each.name)
        dials = studio.route(each.name).dials
        if control and not dials.own_photos:
            why = "{title} runs on a service that cannot follow your own photos, so there is nothing to compare. Use another backend."
            raise InvalidRequest(why, title=each.title)
        own = guidance if each is mode else None
        same = preset if each is mode or preset in dials.presets else None
        requests.append(dials.complete(request_of(each, prompt, str(seed), steps, own, same, str(size), control)))
    return requests


def _strip(images: Sequence[GeneratedImage]) -> str:
    """The images side by side under the names of their modes, as a file that the browser may fetch."""
    first = images[0].recipe
    names = [MODES[made.request.mode].title for made in images]
    axis = Axis("mode", tuple(made.request.mode for made in images), tuple(names))
    facts = translate(COMPARED, seed=first.seed, steps=first.steps, size=html.size_text(Size(first.width, first.height)))
    title = f"{facts} · {first.prompt}"  # a long prompt is cut
    sheet = next(sheets([axis], {(column,): Tile.of(made.image) for column, made in enumerate(images)}, title))
    path = new_file(f"comparison-{first.seed}.png")
    with path.open("wb") as file:
        write_png(sheet, file, ORIGIN)
    return str(path)


def _make_strip(services: Services, visitor: str, run: Run, said_in: str) -> None:
    """Make the strip of a run's images, in that language, unless one was deleted meanwhile, and keep it for a reload."""
    if not all(made.path.is_file() for made in run.images):
        return
    try:
        with in_language(said_in):
            run.strip = _strip(run.images)
    except OSError as error:  # the images are there all the same
        run.no_strip = error
        return
    keep_strip(services.visitors, visitor, run.strip, [made.path.name for made in run.images])
