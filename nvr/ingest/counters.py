"""What a receiver has done since the daemon started; for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add, attrgetter

from nvr.ingest.session import Session


@dataclass(frozen=True, slots=True)
class ReceiverCounters:
    """Bytes are those on the connection and, over UDP, of the datagrams with four bytes for each."""

    connects: int = 0
    failed_attempts: int = 0
    connections_lost: int = 0
    bytes: int = 0
    packets: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    """Packets that came late over UDP, and in time to be put in order."""
    overruns: int = 0
    """Datagrams that this machine dropped, because they were not fetched in time."""
    foreign: int = 0
    """Datagrams that were not the camera's."""
    bad_packets: int = 0
    garbage: int = 0
    """Bytes that were neither RTP nor RTSP."""
    unknown_channels: int = 0
    """Frames on channels that nobody had set up."""
    other_payload_types: int = 0
    """Packets of a payload type that had not been chosen from the description."""
    dropped_units: int = 0
    skipped_samples: int = 0
    fragments: int = 0
    restarts: int = 0
    sender_reports: int = 0
    refused_reports: int = 0
    stray_answers: int = 0
    clock_overruled: bool = False
    """Whether the camera's clock is not believed now."""

    def __add__(self, other: ReceiverCounters) -> ReceiverCounters:
        return ReceiverCounters(*(*map(add, _counts(self), _counts(other)), other.clock_overruled))

    @classmethod
    def of_session(cls, session: Session | None) -> ReceiverCounters:
        """What this session has counted so far."""
        if session is None or session.connection is None:
            return cls()
        connection, udp = session.connection, session.udp
        receivers = [s.receiver for s in session.streams]
        bad = sum(r.bad_packets + r.order.strays for r in receivers) + session.bad_reports
        return cls(
            bytes=connection.bytes_received + (udp.bytes_received if udp is not None else 0),
            garbage=connection.parser.garbage,
            stray_answers=connection.stray_answers,
            unknown_channels=connection.parser.unknown_channels,
            other_payload_types=sum(r.other_payload_types for r in receivers),
            packets=sum(r.packets for r in receivers),
            lost=sum(r.order.lost for r in receivers),
            duplicates=sum(r.order.duplicates + r.order.late for r in receivers),
            reordered=sum(r.order.reordered for r in receivers),
            overruns=session.overruns,
            foreign=udp.foreign if udp is not None else 0,
            bad_packets=bad + (udp.bad if udp is not None else 0),
            dropped_units=sum(r.dropped for r in receivers),
            restarts=sum(r.order.restarts for r in receivers),
            sender_reports=sum(s.sender_reports for s in session.streams),
            refused_reports=session.clock.refused_reports,
            clock_overruled=session.clock.overruled,
        )


_counts = attrgetter(*(n for n in ReceiverCounters.__slots__ if n != "clock_overruled"))
"""In the order of the fields, of which clock_overruled is the last."""
