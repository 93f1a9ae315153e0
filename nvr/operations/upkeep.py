"""Commands about the recorder as a whole: its health, its volumes, its clock, the mending of files."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from nvr.model.errors import OperatorError, Refused
from nvr.operations.control_socket import Row
from nvr.operations.dispatch import Handler
from nvr.storage.findings import Damage, Kind, Repair
from nvr.storage.mending import Mended


class UpkeepOperations:
    """`mend` mends a track file; `row_waits` says why the index of footage does not have the row of a file yet, None
    where it has it; `health` tells what is wrong with the storage; `volumes` gives root and id of those in use;
    `confirm_clock` ends a doubt about the time, and says whether there was one. Without them no recorder runs."""

    def __init__(
        self,
        *,
        running: bool = True,
        mend: Callable[[Repair], Awaitable[Mended]] | None = None,
        row_waits: Callable[[str], str | None] = lambda file_id: None,
        health: Callable[[], Iterable[str]] = tuple,
        volumes: Callable[[], Iterable[tuple[Path, str | None]]] = tuple,
        confirm_clock: Callable[[], bool] | None = None,
    ) -> None:
        self._running = running
        self._mend = mend
        self._row_waits = row_waits
        self._health = health
        self._volumes = volumes
        self._confirm_clock = confirm_clock

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "health": self.health,
            "volumes": self.volumes,
            "clock confirm": self.confirm_clock,
            "check mend": self.mend,
            "check waits": self.waits,
        }

    async def health(self) -> list[Row]:
        """What is wrong, one row each; none while all is well."""
        if not self._running:
            return [{"what": "the recorder is not running: nothing is recorded"}]
        # Where no volume takes footage, what is wrong with each is a problem and a warning.
        return [{"what": text} for text in dict.fromkeys(self._health())]

    async def volumes(self) -> list[Row]:
        """The volumes in use."""
        return [{"root": str(root), "id": volume_id or ""} for root, volume_id in self._volumes()]

    async def confirm_clock(self) -> list[Row]:
        """The operator says that the time of day is right. Raises Refused while no recorder runs."""
        if self._confirm_clock is None:
            raise Refused("the recorder does not run: it judges the time of day when it starts")
        return [{"doubted": "yes" if self._confirm_clock() else "no"}]

    async def mend(self, kind: str, volume: str, path: str, file: str, damage: str) -> list[Row]:
        """Mends what `nvr check` has found. `damage`: offset and length of each place, as a JSON list of pairs."""
        if self._mend is None:
            raise OperatorError("nothing can be mended: no storage is running")
        try:
            places = tuple(Damage(file, int(offset), int(length)) for offset, length in json.loads(damage))
            repair = Repair(Kind(kind), volume, path, file, places)
        except (ValueError, TypeError) as e:
            raise OperatorError(f"the daemon does not know such a repair ({e}); is it of another version?") from e
        mended = await self._mend(repair)
        return [{"done": mended.text, "remains": "yes" if mended.remains else ""}]

    async def waits(self, file: str) -> list[Row]:
        """Whether the row of a file waits to be written to the index of footage: one row with the cause, or none."""
        why = self._row_waits(file)
        return [] if why is None else [{"why": why}]
