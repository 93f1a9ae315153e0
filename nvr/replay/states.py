"""The states of an RTSP session, and which request is valid in which, as a table (RFC 2326 A.2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from nvr.replay.status import RequestRefused


class SessionState(Enum):
    INIT = "Init"
    READY = "Ready"
    PLAYING = "Playing"


TRANSITIONS: Final[Mapping[tuple[SessionState, str], SessionState]] = {
    (SessionState.INIT, "SETUP"): SessionState.READY,
    (SessionState.INIT, "TEARDOWN"): SessionState.INIT,
    (SessionState.READY, "SETUP"): SessionState.READY,
    (SessionState.READY, "PLAY"): SessionState.PLAYING,
    (SessionState.READY, "PAUSE"): SessionState.READY,
    (SessionState.READY, "TEARDOWN"): SessionState.INIT,
    (SessionState.PLAYING, "PLAY"): SessionState.PLAYING,
    (SessionState.PLAYING, "PAUSE"): SessionState.READY,
    (SessionState.PLAYING, "TEARDOWN"): SessionState.INIT,
}
"""What is not here is answered 455. SETUP while playing would change the transport under the player's feet."""


def next_state(state: SessionState, method: str) -> SessionState:
    """Raises RequestRefused (455)."""
    try:
        return TRANSITIONS[state, method]
    except KeyError:
        raise RequestRefused(455, f"{method} is not valid in state {state.value}") from None
