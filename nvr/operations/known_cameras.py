"""Which camera is meant.

A camera, for an operator, is a recording with what records it: its jobs and their receivers.
"""

from __future__ import annotations

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.ingest.names import named
from nvr.model.errors import Refused, UnknownToken
from nvr.model.job import RecordingJob
from nvr.model.receiver import Receiver
from nvr.model.recording import Recording
from nvr.model.tokens import ReceiverToken, RecordingToken


class KnownCameras:
    """Reads what recording control has."""

    def __init__(self, control: RecordingControl, receivers: Receivers) -> None:
        self._control = control
        self._receivers = receivers

    def recordings(self) -> tuple[Recording, ...]:
        """All."""
        return self._control.recordings()

    def recording(self, token: str) -> Recording:
        """Raises UnknownToken."""
        return self._control.recording(RecordingToken(token))

    def find(self, camera: str) -> Recording:
        """By a token of the recording, of a job or a receiver of it, or by the name of its source. Raises Refused for
        none, and for several."""
        by_token = {r.token: r for r in self.recordings() if r.token == camera}
        for job in self._control.jobs():
            if camera in (job.token, *sources(job)):
                by_token[job.configuration.recording] = self.recording(job.configuration.recording)
        by_name = {r.token: r for r in self.recordings() if camera and r.configuration.source.name == camera}
        found = list((by_token or by_name).values())
        if not found:
            raise Refused(f"there is no camera {camera!r}; `nvr camera list` shows those that there are")
        if len(found) > 1:
            tokens = ", ".join(r.token for r in found)
            raise Refused(f"{len(found)} recordings are meant by {camera!r}: give the token of one: {tokens}")
        return found[0]

    def jobs(self, recording: Recording) -> list[RecordingJob]:
        """Those of this recording."""
        return [job for job in self._control.jobs() if job.configuration.recording == recording.token]

    def receivers(self, *jobs: RecordingJob) -> list[Receiver]:
        """Those from which the jobs record, each once."""
        tokens = dict.fromkeys(token for job in jobs for token in sources(job))
        return [receiver for token in tokens if (receiver := self.receiver(token)) is not None]

    def receiver(self, token: str) -> Receiver | None:
        """None for one that is not there, or is none."""
        try:
            return self._receivers.receiver(ReceiverToken(token))
        except UnknownToken:
            return None


def sources(job: RecordingJob) -> list[str]:
    """Tokens of what a job records from."""
    return [source.source.token for source in job.configuration.sources if source.source is not None]


def label(recording: Recording) -> str:
    """Token and name."""
    return named(recording.token, recording.configuration.source.name)
