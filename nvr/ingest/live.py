"""The live edge of a whole receiver: who watches it gets every unit of every stream, recorded or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nvr.ingest.delivery import SampleTap
from nvr.ingest.session import Session
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.recording import TrackType


@dataclass(frozen=True, slots=True)
class LiveOffer:
    """One stream of a connected receiver that can be watched."""

    index: int
    """Position among the media descriptions of the session, from 0."""
    track_type: TrackType
    configuration: CodecConfiguration | None
    """None while it is not known: the description says nothing of it, and no unit has come yet."""
    frame_rate: float | None = None
    """Units a second, measured while they are taken; None before there is enough to measure."""


class LiveTap(Protocol):
    """Who watches a receiver. Called on the loop; must neither block nor raise."""

    def connected(self, streams: Sequence[LiveOffer], /) -> None:
        """The session at the camera is set up; samples follow. Called anew after each loss."""

    def sample(self, stream: int, sample: Sample, configuration: CodecConfiguration, /) -> None:
        """The next unit of a stream, in decode order."""

    def lost(self, reason: str, /) -> None:
        """An attempt to connect has failed, or the session has ended; as long as somebody watches it is tried again."""


def offers_of(session: Session) -> list[LiveOffer]:
    """The streams that can be recorded and watched."""
    offers = []
    for stream in session.streams:
        info, depacketizer = stream.info, stream.receiver.depacketizer
        if info.track_type is not None and stream.offered.problem is None and depacketizer is not None:
            offers.append(LiveOffer(info.index, info.track_type, depacketizer.configuration, stream.frame_rate))
    return offers


class Watching:
    """Who watches one receiver, through all its sessions."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._taps: dict[LiveTap, dict[int, SampleTap]] = {}
        """With what is attached to each stream of the present session, by its index."""

    def add(self, tap: LiveTap) -> None:
        self._taps[tap] = {}
        if self._session is not None:
            self._attach(tap, self._session)

    def remove(self, tap: LiveTap) -> None:
        """Nothing is told any more; without effect for who does not watch."""
        attached = self._taps.pop(tap, {})
        if self._session is not None:
            for index, sample_tap in attached.items():
                self._session.detach(self._session.streams[index], None, sample_tap)

    def connected(self, session: Session) -> None:
        """A session is set up."""
        self._session = session
        for tap in list(self._taps):
            self._attach(tap, session)

    def lost(self, reason: str) -> None:
        """An attempt has failed, or the session is finished."""
        self._session = None
        for tap in list(self._taps):
            self._taps[tap] = {}
            tap.lost(reason)

    def _attach(self, tap: LiveTap, session: Session) -> None:
        offers = offers_of(session)
        attached = self._taps[tap] = {o.index: _numbered(tap, o.index) for o in offers}
        for index, sample_tap in attached.items():
            session.attach(session.streams[index], None, sample_tap)
        tap.connected(offers)


def _numbered(tap: LiveTap, index: int) -> SampleTap:
    return lambda sample, configuration: tap.sample(index, sample, configuration)
