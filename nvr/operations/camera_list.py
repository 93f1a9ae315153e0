"""`nvr camera list`: what is recorded, how, since when, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nvr.control.recordings import RecordingControl
from nvr.ingest.offer import without_credentials
from nvr.model.job import RecordingJob, RecordingJobMode
from nvr.model.receiver import Receiver, Reception
from nvr.model.recording import Recording
from nvr.model.time import format_iso
from nvr.model.tokens import ReceiverToken
from nvr.operations.control_socket import Row
from nvr.operations.dispatch import Handler
from nvr.operations.footage import Footage
from nvr.operations.known_cameras import KnownCameras, sources
from nvr.operations.media_uri import name_of

STOPPED = "Stopped"
"""Beside the states of jobs: no recorder runs."""
NO_JOB = "NoJob"
"""Beside the states of jobs: nothing records, there is footage of before."""


class CameraList:
    """One row a recording job, and one for each recording without a job. `control` tells states where a recorder runs,
    `reception` how a receiver at work fares."""

    def __init__(
        self,
        control: RecordingControl,
        known: KnownCameras,
        footage: Footage,
        *,
        running: bool = True,
        reception: Callable[[ReceiverToken], Reception | None] = lambda token: None,
    ) -> None:
        self._control = control
        self._known = known
        self._footage = footage
        self._running = running
        self._reception = reception

    def handlers(self) -> Mapping[str, Handler]:
        return {"camera list": self.rows}

    async def rows(self) -> list[Row]:
        """No URI holds its credentials; what is not known or does not apply is empty."""
        rows = [self._row(self._known.recording(j.configuration.recording), j) for j in self._control.jobs()]
        recorded = {row["recording"] for row in rows}
        return rows + [self._row(r, None) for r in self._known.recordings() if r.token not in recorded]

    def _row(self, recording: Recording, job: RecordingJob | None) -> Row:
        receivers = () if job is None else self._known.receivers(job)
        configuration = recording.configuration
        oldest_ns = self._footage.begin_of(recording.token)
        return {
            "name": configuration.source.name,
            **self._state(job),
            **self._received(receivers),
            "recording": recording.token,
            "job": "" if job is None else job.token,
            "receiver": " ".join(r.token for r in receivers),
            "oldest": "" if oldest_ns is None else format_iso(oldest_ns, 0),
            "retention_ns": str(configuration.maximum_retention_ns or ""),
            "uri": " ".join(without_credentials(r.configuration.media_uri) for r in receivers),
        }

    def _state(self, job: RecordingJob | None) -> Row:
        if job is None:
            return {"state": NO_JOB, "why": "nothing records it any more"}
        if not self._running:
            if job.configuration.mode is RecordingJobMode.ACTIVE:
                return {"state": STOPPED, "why": "the recorder is not running"}
            return {"state": job.configuration.mode.value, "why": ""}
        state = self._control.job_state(job.token)
        told = [t.error for s in state.sources for t in s.tracks if t.error]
        receptions = (self._reception(ReceiverToken(token)) for token in sources(job))
        told += [r.remark for r in receptions if r is not None and r.remark]
        return {"state": state.state.value, "why": told[0] if told else ""}

    def _received(self, receivers: tuple[Receiver, ...] | list[Receiver]) -> Row:
        """`transport` is what media come by now, `asked` what they shall come by, `next_attempt_ns` when the first
        receiver tries again."""
        receptions = [r for receiver in receivers if (r := self._reception(receiver.token)) is not None]
        waiting = [r.next_attempt_ns for r in receptions if r.next_attempt_ns is not None]
        return {
            "transport": " ".join(name_of(r.transport) for r in receptions if r.transport is not None),
            "asked": " ".join(name_of(r.configuration.stream_setup.protocol) for r in receivers),
            "next_attempt_ns": str(min(waiting)) if waiting else "",
        }
