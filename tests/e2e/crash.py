"""kill -9 of the recording daemon at random moments, and what must be true afterwards.

    python -m tests.e2e.crash --times 20 [--seed N]

Each round kills the daemon while it records, reads by hand what stands in its files, starts it and kills it twice
anywhere in the start or in the recovery that follows, starts it again, ends the job and replays everything. Proved:
every fragment that was whole is replayed, nothing else is, in the same order; the newest replayed picture is at most
one fragment older than the first kill; and `nvr check` finds nothing, beside the daemon after each round and without it
in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from nvr.checking import Reported, Request, check_footage
from nvr.config import load
from tests.support.daemon import DaemonProcess, run_nvr
from tests.support.disk_samples import track_samples
from tests.support.flow import Flow, until
from tests.support.replayed import ReplayedUnit, replay

CONFIG = """
[storage]
rotation = "4s"
"""
START_S = 3.0
"""About what a start takes here, with some recovery behind it."""
KILLS_IN_STARTS = 2
"""Behind each kill of a daemon that records."""
LOSS_NS = 10_000_000_000
"""The camera's group of pictures of 1 s is handed over when the next one begins; then the drain and the write: 1.3 s at
most on a busy machine, which may stand still for longer."""

SETTLED_S = 10
"""So long may what a job has left take until it is on the disk and shown."""
T = TypeVar("T")


@contextmanager
def camera() -> Iterator[str]:
    """The built-in camera; gives its URI."""
    process = subprocess.Popen([sys.executable, "-m", "nvr.demo.camera"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def nal_units(sample: bytes) -> list[bytes]:
    units, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        units.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return units


def crash(directory: Path, times: int, rng: random.Random) -> None:
    """Raises AssertionError with what was wrong."""
    data = directory / "data"
    with camera() as uri, ExitStack() as stack:
        daemon = stack.enter_context(DaemonProcess(data, CONFIG))
        flow = Flow(daemon)
        recording, job, _ = flow.record(uri)
        done = 0
        while done < times:
            flow.until_job_is(job, "Active")
            already = len(track_samples(data, "VIDEO001"))
            until(lambda already=already: len(track_samples(data, "VIDEO001")) > already, "something new recorded")
            time.sleep(rng.uniform(0, 2))  # the moment of the kill; nothing is waited for
            killed_ns = time.time_ns()
            daemon.kill()
            done += 1
            video, audio = track_samples(data, "VIDEO001"), track_samples(data, "AUDIO001")
            for _ in range(min(KILLS_IN_STARTS, times - done)):
                starting = DaemonProcess(data, CONFIG, wait=False)
                time.sleep(rng.uniform(0, START_S))
                starting.kill()
                done += 1

            daemon = stack.enter_context(DaemonProcess(data, CONFIG))
            flow = Flow(daemon)
            flow.set_idle(job, recording)
            until(lambda daemon=daemon: "being checked" not in daemon.health(), "all that was open is checked")
            units = check(data, flow.replay_uri(recording), video, audio)
            newest_ns = units[len(video) - 1].utc_ns
            assert killed_ns - newest_ns < LOSS_NS, f"{(killed_ns - newest_ns) / 1e9:.2f} s are lost"
            check_store(data)
            print(
                f"{done} kills: {len(video)} pictures and {len(audio)} frames of sound survive,"
                f" newest {(killed_ns - newest_ns) / 1e6:.0f} ms before the kill",
                flush=True,
            )
            flow.recording.SetRecordingJobMode(JobToken=job, Mode="Active")
        assert daemon.stop() == 0
        checked = run_nvr("check", "--data", str(data))
        assert checked.returncode == 0, checked.stdout + checked.stderr


def check_store(data: Path) -> None:
    """`nvr check` beside the daemon, in this process."""
    found: list[Reported] = []
    outcome = check_footage(data, load(None, data), Request(), found.append)
    assert found == [], "\n".join(str(r.finding) for r in found)
    assert (outcome.status, outcome.beside) == (0, True), outcome.unchecked


def check(data: Path, uri: str, video: list[bytes], audio: list[bytes]) -> list[ReplayedUnit]:
    """What the files held before is replayed from its first to its last sample, and so is what has come since."""
    assert track_samples(data, "VIDEO001")[: len(video)] == video, "recovery has lost pictures that were whole"
    assert track_samples(data, "AUDIO001")[: len(audio)] == audio, "recovery has lost sound that was whole"
    units = check_replay(data, uri, "VIDEO001", ReplayedUnit.h264, nal_units)
    check_replay(data, uri, "AUDIO001", ReplayedUnit.aac, lambda sample: sample)
    return units


def check_replay(
    data: Path, uri: str, track: str, told: Callable[[ReplayedUnit], T], on_disk: Callable[[bytes], T]
) -> list[ReplayedUnit]:
    """The units of a track, which are all that its files hold. The job has just ended: what it had of a run of which
    nothing was on the disk may still wait for the writer, and is in no timeline until then.
    """
    deadline_s = time.monotonic() + SETTLED_S
    while True:
        units = asyncio.run(replay(uri, track))
        found, there = [told(u) for u in units], [on_disk(s) for s in track_samples(data, track)]
        if found == there:
            return units
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    differs = next(
        (i for i, (a, b) in enumerate(zip(found, there, strict=False)) if a != b), min(len(found), len(there))
    )
    flags = [(i, u.flags) for i, u in enumerate(units) if u.flags.strip("C-")][-6:]
    raise AssertionError(
        f"{track}: {len(found)} of {len(there)} units are replayed, the first other one at {differs}; flags {flags}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.e2e.crash", description="Kill the recording daemon again and again.")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="of the random moments (default: a new one, printed)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="nvr-crash-") as directory:
        crash(Path(directory), arguments.times, random.Random(seed))


if __name__ == "__main__":
    main()
