"""Live mounts: a source's access units to any number of viewers, as they come.

A viewer that is too slow loses whole groups of pictures: when its queue is full everything up to the next clean point
is dropped and counted. When the queues of all viewers together are full, the viewer who has most waiting loses that.
No viewer slows the source or another viewer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from nvr.media.rtsp.range import ClockRange
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.recording import TrackType
from nvr.replay.mounts import ALL_FRAMES, PlayRequest, Presentation, PresentedStream
from nvr.replay.player import Pacing, Playback
from nvr.replay.status import RequestRefused
from nvr.replay.unit import Position, Unit

log = logging.getLogger(__name__)

HANDED_BYTES: Final = 64 * 1024
"""What a player takes at once: the rest counts for the limit of the queue until it is taken."""

BUDGET_BYTES: Final = 64 << 20
"""What waits for all viewers of a server together."""

LiveSink: TypeAlias = Callable[[str, Sample, CodecConfiguration], None]
"""Takes the name of a stream and an access unit of it. Never blocks, never raises."""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """One stream of a source. `name` is its control in the session description, and tells it from the others."""

    name: str
    configuration: CodecConfiguration
    number: int | None = None
    """Its own among the streams of the source, shown or not; None: its place among those that are shown."""


class LiveSource(Protocol):
    """Where a live mount takes its units from. Everything happens on the event loop."""

    def streams(self) -> Sequence[LiveStream]:
        """The streams, in the order in which they are described; empty while the source is not there."""

    def subscribe(self, sink: LiveSink) -> Callable[[], None]:
        """Call `sink` with every unit from now on, in decode order per stream; the answer ends it."""


def check_live(request: PlayRequest) -> None:
    """What a PLAY of a live source may ask for. Raises RequestRefused."""
    if isinstance(request.range, ClockRange):
        raise RequestRefused(457, "a live stream has no range of absolute times")
    if request.scale != 1 or request.speed != 1:
        raise RequestRefused(456, "a live stream has one speed and one direction")
    if request.frames != ALL_FRAMES:
        raise RequestRefused(456, "a live stream is sent with all its frames")


class LiveBudget:
    """What the viewers of several mounts may have waiting together. A unit that waits for two counts twice."""

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self.queued_bytes = 0
        self._limit = limit_bytes
        self._viewers: set[LiveViewer] = set()

    def enter(self, viewer: LiveViewer) -> None:
        self._viewers.add(viewer)

    def leave(self, viewer: LiveViewer) -> None:
        self._viewers.discard(viewer)

    def make_room(self, size: int, viewer: LiveViewer) -> bool:
        """Have those who have most waiting give it up, until `size` bytes fit. False: `viewer` itself has most."""
        while self.queued_bytes and self.queued_bytes + size > self._limit:
            slowest = max(self._viewers, key=lambda v: v.queued_bytes)
            if slowest is viewer:
                return False
            slowest.give_up()
        return True


class LiveMount:
    """A live source as a mount. `queue_bytes` bounds what one viewer may have waiting, `budget` what all may."""

    def __init__(self, source: LiveSource, queue_bytes: int = 8 << 20, budget: LiveBudget | None = None) -> None:
        self.budget = LiveBudget() if budget is None else budget
        self.dropped = 0
        """Access units that slow viewers have missed, all viewers together."""
        self._source = source
        self._queue_bytes = queue_bytes
        self._watching: set[LiveViewer] = set()

    @property
    def viewers(self) -> int:
        return len(self._watching)

    def enter(self, viewer: LiveViewer) -> None:
        self._watching.add(viewer)
        self.budget.enter(viewer)

    def leave(self, viewer: LiveViewer) -> None:
        self._watching.discard(viewer)
        self.budget.leave(viewer)

    def interrupted(self) -> None:
        """What comes from now on does not continue what came before: the source was away."""
        for viewer in self._watching:
            viewer.interrupted()

    async def present(self) -> Presentation:
        streams = self._source.streams()
        if not streams:
            raise RequestRefused(404, "the live source delivers nothing at the moment")
        numbers = [i if s.number is None else s.number for i, s in enumerate(streams)]
        presented = tuple(
            PresentedStream(s.name, s.configuration, number=n) for s, n in zip(streams, numbers, strict=True)
        )
        # RTP time 0 stands for 1970 then, before the random base is added: any fixed moment serves.
        return Presentation(presented, 0, ("npt=now-",))

    def check(self, presentation: Presentation, streams: Sequence[int], request: PlayRequest) -> None:
        check_live(request)

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        self.check(presentation, streams, request)
        chosen = {presentation.streams[i].name: i for i in streams}
        encodings = {i: presentation.streams[i].configuration for i in streams}
        viewer = LiveViewer(self, self._source, chosen, encodings, self._queue_bytes, jump)
        return Playback(viewer, Position.at(0))

    def pacing(self, request: PlayRequest) -> Pacing:
        return Pacing.LIVE

    def playing_time(self, presentation: Presentation) -> None:
        return None


class LiveViewer:
    """The queue of one viewer; a unit source for its player. Video begins with a clean point.

    `streams` maps names to numbers in the presentation, `described` gives what was said there of each. A source may
    change under its viewers: a stream that has got another encoding is not what was described, and is not sent.
    """

    def __init__(
        self,
        mount: LiveMount,
        source: LiveSource,
        streams: Mapping[str, int],
        described: Mapping[int, CodecConfiguration],
        queue_bytes: int,
        jump: bool = False,
    ) -> None:
        """`jump`: something was sent before, which the first units do not continue (flag D)."""
        self.dropped = 0
        self.queued_bytes = 0
        self._mount = mount
        self._budget = mount.budget
        self._limit = queue_bytes
        self._queue: deque[Unit] = deque()
        self._ready = asyncio.Event()
        self._waiting_for_clean = {i for i, c in described.items() if c.track_type is TrackType.VIDEO}
        self._video = frozenset(self._waiting_for_clean)
        self._streams = dict(streams)
        self._encodings = {i: c.encoding for i, c in described.items()}
        self._behind_gap = set(described) if jump else set()
        """Streams whose next unit does not continue what was sent before it."""
        self._begun: set[int] = set()
        """Streams of which something was sent."""
        self._unsubscribe: Callable[[], None] | None = source.subscribe(self._on_unit)
        mount.enter(self)

    async def units(self) -> Sequence[Unit]:
        while not self._queue:  # it may have been given up before it was taken
            self._ready.clear()
            await self._ready.wait()
        units, size = [], 0
        while self._queue and size < HANDED_BYTES:
            unit = self._queue.popleft()
            units.append(unit)
            size += len(unit.data)
        self._count(-size)
        return units

    @property
    def at_end(self) -> bool:
        return False

    def end_with_footage(self) -> None:
        """A live source has no end of its own."""

    def rest(self) -> None:
        """Nothing is queued behind a live source, nor it behind anything."""

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._queue.clear()
            self._count(-self.queued_bytes)
            self._mount.leave(self)

    def give_up(self) -> None:
        """Lose what is waiting, and all up to the next clean point: there is no room for it any more."""
        self._tell()
        self._drop(len(self._queue))
        self._behind_gap.update(unit.stream for unit in self._queue)
        self._waiting_for_clean.update(self._video)
        self._queue.clear()
        self._count(-self.queued_bytes)

    def interrupted(self) -> None:
        """The next unit of each stream does not continue the last; pictures begin anew with a clean point."""
        self._behind_gap.update(self._begun)
        self._waiting_for_clean.update(self._video)

    def _on_unit(self, name: str, unit: Sample, configuration: CodecConfiguration) -> None:
        stream = self._streams.get(name)
        if stream is None or configuration.encoding != self._encodings[stream]:
            return
        if stream in self._waiting_for_clean:
            if not unit.clean_point:
                if self.dropped:
                    self._drop(1)
                return
            self._waiting_for_clean.discard(stream)
        size = len(unit.data)
        full = self.queued_bytes + size > self._limit and self._queue
        if full or not self._budget.make_room(size, self):
            self._overflow(stream)
            return
        at_ns, gap = unit.utc_ns, stream in self._behind_gap
        self._behind_gap.discard(stream)
        self._begun.add(stream)
        self._queue.append(
            Unit(stream, at_ns, at_ns, at_ns, unit.data, configuration, unit.clean_point, discontinuity=gap)
        )
        self._count(size)
        self._ready.set()

    def _overflow(self, stream: int) -> None:
        self._tell()
        self._drop(1)
        self._behind_gap.add(stream)
        if stream in self._video:
            self._waiting_for_clean.add(stream)

    def _tell(self) -> None:
        if not self.dropped:
            log.warning("a live viewer is too slow: units up to the next clean point are dropped")

    def _count(self, size: int) -> None:
        self.queued_bytes += size
        self._budget.queued_bytes += size

    def _drop(self, units: int) -> None:
        self.dropped += units
        self._mount.dropped += units
