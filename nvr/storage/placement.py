"""Which volume a new track file goes to, and which volumes make room for each other (docs/design/retention.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.model.tokens import TrackKey
from nvr.storage.settings import RecordingSettings
from nvr.storage.volume import Volume, VolumeState


class Placement(Protocol):
    """Decides which volume a new file goes to."""

    def place(self, key: TrackKey, volumes: Sequence[Volume], current: Volume | None) -> Volume | None:
        """One of `volumes` that is ONLINE, or None when none is; one that hangs or refuses only where no other takes
        footage. `current` holds the file before of the same run."""

    def pools(self, volumes: Sequence[Volume]) -> list[list[Volume]]:
        """The sets of volumes between which recordings may choose, each once."""


class MostFree:
    """A run stays on a volume of its pool until that is tight; else a file goes where most room is. Of tight volumes it
    leaves one for another with more than twice the room. With all of the pool gone it goes wherever it can; and where
    no volume takes footage, into the queue of one that hangs, as long as that takes it."""

    def __init__(self, recordings: Sequence[RecordingSettings] = ()) -> None:
        self._pinned = {r.recording: {root.absolute() for root in r.volumes} for r in recordings if r.volumes}

    def place(self, key: TrackKey, volumes: Sequence[Volume], current: Volume | None) -> Volume | None:
        online = [v for v in volumes if v.state is VolumeState.ONLINE]
        answering = [v for v in online if v.takes_footage]
        pool = [v for v in answering if v in self._pool(key, volumes)]
        open_to_all = [v for v in answering if not v.dedicated]
        for choice in (
            [v for v in pool if not v.tight],
            [v for v in open_to_all if not v.tight],
            pool,
            open_to_all,
            answering,
            [v for v in online if not v.queue_refuses()],
            online,
        ):
            if choice:
                roomiest = max(choice, key=lambda v: v.room)
                # Of tight ones a run stays where it is only while no other has more than twice the room: one that is
                # nearly empty shall not be passed over for one that is full, nor shall a run go to and fro.
                stays = current in choice and (not current.tight or roomiest.room <= 2 * max(current.room, 0))
                return current if stays else roomiest
        return None

    def pools(self, volumes: Sequence[Volume]) -> list[list[Volume]]:
        pools = [_open_to_all(volumes)]
        for roots in self._pinned.values():
            pool = [v for v in volumes if v.root.absolute() in roots]
            if pool and pool not in pools:
                pools.append(pool)
        return pools

    def _pool(self, key: TrackKey, volumes: Sequence[Volume]) -> list[Volume]:
        roots = self._pinned.get(key.recording)
        return _open_to_all(volumes) if roots is None else [v for v in volumes if v.root.absolute() in roots]


def _open_to_all(volumes: Sequence[Volume]) -> list[Volume]:
    """All volumes but the dedicated ones; all of them where there is no other."""
    return [v for v in volumes if not v.dedicated] or list(volumes)
