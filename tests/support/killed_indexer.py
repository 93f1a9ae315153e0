"""`python -m tests.support.killed_indexer DIRECTORY inside|before N`: indexes what is recorded there, two documents a
transaction, and is killed as by kill -9 inside the n-th transaction that adds events, or right before its commit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa

from nvr.search import reading
from tests.support.recorded import opened


def kill_at(place: str, number: int) -> None:
    begun = 0
    adds = False

    def statement(*given: object) -> None:
        nonlocal begun, adds
        if str(given[2]).startswith("INSERT INTO camera_events"):
            begun, adds = begun + 1, True
            if place == "inside" and begun == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def commit(connection: object) -> None:
        nonlocal adds
        if adds and begun == number:
            os.kill(os.getpid(), signal.SIGKILL)
        adds = False

    sa.event.listen(sa.Engine, "before_cursor_execute", statement)
    sa.event.listen(sa.Engine, "commit", commit)


async def main(where: Path, place: str, number: int) -> None:
    reading._BATCH = 2
    async with opened(where) as store:
        kill_at(place, number)
        await store.indexer._look_at_everything()
        await store.indexer.catch_up()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
