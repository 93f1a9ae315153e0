"""The live edge of a whole receiver: who watches it gets every unit of every stream, recorded or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
