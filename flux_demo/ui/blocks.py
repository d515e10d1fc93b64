"""The page as Gradio serves it to strangers: what arrives is checked before Gradio keeps it, and whatever fails is said in words."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from itertools import zip_longest
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.data_classes import CancelBody
from gradio.server_messages import ProcessCompletedMessage

from flux_demo.backends.providers import visitor_token
from flux_demo.errors import InvalidRequest
from flux_demo.settings import Settings
from flux_demo.ui import html, mcp, temporary
from flux_demo.ui.document import Document
from flux_demo.ui.files import AsSent, path_in_address, received
from flux_demo.ui.guard import PREFIX, Guard
from flux_demo.ui.hosts import Hosts
from flux_demo.ui.sessions import LeanSessions
from flux_demo.ui.translation import language_of
from flux_demo.ui.visitors import Caller, Listeners, client_of, current_caller, token_of

MAX_TEXT = 20_000  # characters of one string; a prompt may have 10,000


class Page(gr.Blocks):
    """Gradio's Blocks for a page that strangers reach."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.folder = temporary.private_folder()
        self.settings = settings
        self.listeners = Listeners()
        self._under_way: Counter[str] = Counter()  # events by session
        self.typed: list[gr.components.Component] = []  # whose handlers have better words for a text that is too long
        self.kept_files: list[str] = []  # that the page gives to everybody, such as the example photos
        self.on_clear: list[Callable[[], object]] = []  # what else is done whenever the temporary folder is cleared
        self._hosts: tuple[str | None, Hosts] = None, Hosts.of(settings, None)
        super().__init__(**options)

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **named: Any) -> dict[str, Any]:
        """Gradio's own, with the inputs checked before it keeps them, and every error a sentence."""
        session, event = named.get("session_hash"), named.get("event_id")
        fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        caller = current_caller.set(self._caller(named.get("request"), session, event))
        self._under_way[session or ""] += 1
        if self.settings.visitors_pay:
            visitor_token.set(token_of(named.get("request")))
        ended = True
        try:
            if named.get("iterator") is None and not fn.cancels:
                inputs = list(inputs)
                _check(inputs, fn, self.typed)
            answer = await super().process_api(block_fn, inputs, *args, **named)
            ended = not answer.get("is_generating")
            return answer
        except (gr.Error, asyncio.CancelledError):
            raise
        except Exception as error:
            raise gr.Error(html.sentence(error), print_exception=False) from None
        finally:
            current_caller.reset(caller)
            self._under_way -= Counter([session or ""])  # drops those that are zero
            if ended and session:
                self._forget_unless_used(session)

    async def postprocess_data(self, block_fn: BlockFunction, predictions: Any, state: Any) -> list[Any]:
        """Gradio's own, of the outputs that need it: for each of the others it would build the component anew, a millisecond each."""
        outputs = list(block_fn.outputs)
        values = [gr.skip()] * len(outputs) if _skipped(predictions) else predictions
        if len(outputs) < 2 or not isinstance(values, list | tuple) or len(values) != len(outputs):
            return await super().postprocess_data(block_fn, predictions, state)
        sent = [_as_sent(*each) for each in zip(outputs, values, strict=True)]
        answer: list[Any] = [each or (None if block.stateful else gr.skip()) for each, block in zip(sent, outputs, strict=True)]
        if changed := [index for index, value in enumerate(values) if not sent[index] and not _skipped(value)]:
            fn = copy(block_fn)
            fn.outputs = [outputs[index] for index in changed]
            given = [values[index] for index in changed] if len(changed) > 1 else values[changed[0]]
            for index, value in zip(changed, await super().postprocess_data(fn, given, state), strict=True):
                answer[index] = value
        return answer

    def address_of(self, request: Any) -> str:
        """The network address of whoever asks. A tool's call to its endpoint, which this machine sends, says who called the tool."""
        told = mcp.address_of_caller(request)
        return self.hosts.address_of(request) if told is None else told

    def _caller(self, request: Any, session: str | None, event: str | None) -> Caller:
        names = (session or "", event or "")
        if not isinstance(request, gr.Request):
            return Caller(client_of("", session, event), names, self.listeners)
        address = self.address_of(request)
        if mcp.address_of_caller(request) is not None:
            return Caller(client_of(address, None, None), names, self.listeners)
        client = client_of(address, session, event)
        return Caller(client, names, self.listeners, language_of(request.headers.get("accept-language")))

    @property
    def hosts(self) -> Hosts:
        """The names under which the page is reached, a public link's among them once there is one."""
        share_url = getattr(self, "share_url", None)
        if share_url != self._hosts[0]:
            self._hosts = share_url, Hosts.of(self.settings, share_url)
        return self._hosts[1]

    def _forget_unless_used(self, session: str) -> None:
        """Free the copy of the whole page that Gradio makes for each session, unless the session has put something into it or is about to."""
        kept = self.state_holder.session_data.get(session)
        if kept is not None and not kept.state_data and not self._under_way[session]:
            self.state_holder.session_data.pop(session, None)
            self.state_holder.time_last_used.pop(session, None)

    def disable_progress_tracking(self) -> None:
        """Let Gradio's frontend follow no component through its events; the page shows its states itself.

        It would keep every output of every event that ever ran, and at each event's start and end look each of them up in the whole page and
        copy it with all that is inside, hidden or not: several hundred milliseconds between a slider and its map.
        """
        nowhere = gr.State(None)
        self.children.insert(0, self.children.pop())  # where the frontend finds it at once
        for fn in self.fns.values():
            fn.show_progress_on = [nowhere]

    def clear_temporary(self, older_than_s: float = temporary.KEPT_S) -> None:
        """Delete what is older and in no history, and drop the sessions that were closed and whose states have expired."""
        for session, kept in list(self.state_holder.session_data.items()):
            if kept.is_closed:
                self._forget_unless_used(session)
        for session, waiting in list(self._queue.pending_event_ids_session.items()):
            if not waiting and session not in self.state_holder and not self.listeners.has(session):
                self._queue.pending_event_ids_session.pop(session, None)
        gone = temporary.clear(self.folder, self.files_in_use(), older_than_s)
        for names in self.temp_file_sets:
            names -= gone
        for clear in self.on_clear:
            clear()

    def files_in_use(self) -> set[str]:
        """The files that the page itself shows to everybody, and those in the histories of its visitors."""
        own = [value for block in self.blocks.values() for value in (getattr(block, "value", None), sorted(block.keep_in_cache))]
        states = [dict(kept.state_data) for kept in list(self.state_holder.session_data.values())]
        return temporary.paths_in([own, self.kept_files, states], self.folder)


def _as_sent(block: Any, value: Any) -> dict[str, Any] | None:
    """An update that goes to the browser as it is: one that was made for it, and one that leaves a button's label alone."""
    if isinstance(value, AsSent):
        return value.update
    plain = isinstance(block, gr.Button) and isinstance(value, dict) and value.get("__type__") == "update"
    return value if plain and not _skipped(value) and "value" not in value else None


def _skipped(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def is_too_long(value: Any) -> bool:
    """Whether it is a text that is neither taken nor kept; what is typed gets to its handler even so."""
    return isinstance(value, str) and len(value) > MAX_TEXT


def _check(inputs: list[Any], fn: BlockFunction, typed: list[gr.components.Component]) -> None:
    """Raise InvalidRequest for inputs that Gradio would keep, fetch, echo, drop or fail on before a handler sees them."""
    wanted, is_api = len(fn.inputs), fn.api_visibility == "public"
    if len(inputs) < wanted or (is_api and len(inputs) > wanted):
        raise InvalidRequest(
            f"The call has {len(inputs)} values, and this endpoint takes {wanted}. Give them all, in the order of /gradio_api/info."
        )
    left = [value for value, block in zip_longest(inputs, fn.inputs) if not isinstance(value, str) or block not in typed]
    while left:
        value = left.pop()
        if is_too_long(value):
            raise InvalidRequest(f"A text of {len(value):,} characters is too long. Shorten it to {MAX_TEXT:,}.")
        if isinstance(value, dict):
            if "path" in value and value["path"] is not None:
                value["path"] = path_in_address(value["path"])  # Gradio would fetch it
                received(value)
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


@asynccontextmanager
async def lifespan(first_script: str, app: Any) -> AsyncIterator[None]:
    """While the app is served: the guard stands before everything else, ``first_script`` before Gradio's, and the temporary folder is cleared."""
    page = app.get_blocks()
    logging.getLogger("uvicorn.error").addFilter(_one_line)
    if page.mcp_server_obj:
        mcp.log_nothing()
        mcp.adapt(page.mcp_server_obj, lambda request: page.hosts.address_of(request))
        page.mcp_server = False  # it is served; Gradio would print lines of its own about it
    _cancel_alone(app)
    LeanSessions(app)  # in place of those that Gradio gave it
    document = Document(app.middleware_stack, page.title, first_script)
    app.middleware_stack = Guard(document, page)  # outside Gradio's own middleware, which answers some requests itself
    stopped = threading.Event()
    temporary.clear_often(page.clear_temporary, stopped)
    try:
        with temporary.used(page.folder):
            yield
    finally:
        stopped.set()


def _cancel_alone(app: Any) -> None:
    """Let a client cancel one of its events. Gradio would end all that its session has at that endpoint, and tell it of one: it would wait for
    the others for ever.
    """
    queue = app.get_blocks()._queue

    async def cancel(body: CancelBody) -> dict[str, bool]:
        session, event = body.session_hash, body.event_id
        name = f"{session}_{body.fn_index}<gradio-sep>{event}"  # as Gradio's set_task_name gives it
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == name]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await queue.remove_from_queue(event)
        if event in queue.pending_event_ids_session.get(session, ()) and session in queue.pending_messages_per_session:
            ended = ProcessCompletedMessage(output={}, success=True, event_id=event)
            queue.pending_messages_per_session[session].put_nowait(ended)
        return {"success": True}

    app.add_api_route(f"/{PREFIX}/cancel", cancel, methods=["POST"])
    app.routes.insert(0, app.routes.pop())  # before Gradio's


def _one_line(record: logging.LogRecord) -> bool:
    """Traces hold paths and what people typed; a record keeps its first line."""
    record.exc_info, record.exc_text = None, None
    return True
