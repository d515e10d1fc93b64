"""Gradio's sessions, with two changes.

They leave out the copy of the page's configuration that each of them holds for deep links, which this page refuses: it takes 20 ms and 0.4 MiB
for each session, and some of the time again for each component that an event updates. And they last as long as the page is used: once the
heartbeat of a page breaks off, as on a phone in the background, Gradio drops each state an hour after it was set.
"""

import datetime
from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState, StateHolder


class LeanSession(SessionState):
    def __init__(self, blocks: Any) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))  # type: ignore[arg-type]
        self.blocks_config.config_for_block = _nothing  # type: ignore[method-assign]


class LeanSessions(StateHolder):
    """All sessions of a page. It takes the place of the holder that Gradio gave to the app."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self.set_blocks(app.get_blocks())
        app.state_holder = self

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LeanSession(self.blocks)
        session = super().__getitem__(session_id)
        now = datetime.datetime.now()
        for state, (lasts, _) in list(session._state_ttl.items()):
            session._state_ttl[state] = (lasts, now)
        return session


def _nothing(*_: Any) -> dict[str, Any]:
    return {}
