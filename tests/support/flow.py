"""The main job as a client written against the official WSDLs drives it; the official schema judges every answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zeep.wsse.username import UsernameToken

from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.official_schema import official_client


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    """Polls a process that can only be asked, and gives the first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.1)
    return answer


class Flow:
    """One zeep proxy a service, from the official WSDLs."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.recording = self._proxy(daemon, "recording")
        self.receiver = self._proxy(daemon, "receiver")
        self.search = self._proxy(daemon, "search")
        self.replay = self._proxy(daemon, "replay")

    @staticmethod
    def _proxy(daemon: DaemonProcess, name: str) -> Any:
        return official_client(name, daemon.service(name), wsse=UsernameToken(ADMIN, PASSWORD, use_digest=True))

    def create_recording(self, name: str = "camera") -> str:
        source = {"SourceId": name, "Name": name, "Location": "", "Description": "", "Address": ""}
        return str(
            self.recording.CreateRecording(
                RecordingConfiguration={"Source": source, "Content": "", "MaximumRetentionTime": "PT0S"}
            )
        )

    def record(self, uri: str, protocol: str = "RTSP") -> tuple[str, str, str]:
        """Recording, active job with an auto-created receiver, and the receiver configured: their tokens."""
        recording = self.create_recording()
        answer = self.recording.CreateRecordingJob(
            JobConfiguration={
                "RecordingToken": recording,
                "Mode": "Active",
                "Priority": 1,
                "Source": [{"AutoCreateReceiver": True}],
            }
        )
        receiver = answer.JobConfiguration.Source[0].SourceToken.Token
        self.configure(receiver, uri, protocol)
        return recording, str(answer.JobToken), str(receiver)

    def record_by_the_example(self, uri: str, protocol: str) -> tuple[str, str]:
        """Example 1 of the standard (5.26.1), with the fixed tokens of the default tracks: recording and job."""
        recording = self.create_recording()
        lines = [{"SourceTag": "", "Destination": track} for track in ("VIDEO001", "AUDIO001", "META001")]
        answer = self.recording.CreateRecordingJob(
            JobConfiguration={
                "RecordingToken": recording,
                "Mode": "Idle",
                "Priority": 1,
                "Source": [{"AutoCreateReceiver": True, "Tracks": lines}],
            }
        )
        self.configure(answer.JobConfiguration.Source[0].SourceToken.Token, uri, protocol)
        self.recording.SetRecordingJobMode(JobToken=answer.JobToken, Mode="Active")
        return recording, str(answer.JobToken)

    def configure(self, receiver: str, uri: str, protocol: str = "RTSP") -> None:
        self.receiver.ConfigureReceiver(
            ReceiverToken=receiver,
            Configuration={
                "Mode": "AutoConnect",
                "MediaUri": uri,
                "StreamSetup": {"Stream": "RTP-Unicast", "Transport": {"Protocol": protocol}},
            },
        )

    def job_state(self, job: str) -> Any:
        return self.recording.GetRecordingJobState(JobToken=job)

    def until_job_is(self, job: str, state: str, timeout_s: float = 30) -> None:
        until(lambda: self.job_state(job).State == state, f"job {job} {state}", timeout_s)

    def information(self, recording: str) -> Any:
        return self.search.GetRecordingInformation(RecordingToken=recording)

    def until_recorded(self, recording: str, seconds: float, timeout_s: float = 60) -> None:
        """Until the recording holds footage over at least this span."""

        def long_enough() -> bool:
            information = self.information(recording)
            if not information.EarliestRecording:
                return False
            return bool((information.LatestRecording - information.EarliestRecording).total_seconds() >= seconds)

        until(long_enough, f"{seconds} s of footage in {recording}", timeout_s)

    def set_idle(self, job: str, recording: str) -> None:
        """Ends the job and waits until its last file is closed."""
        self.recording.SetRecordingJobMode(JobToken=job, Mode="Idle")
        until(lambda: self.information(recording).RecordingStatus == "Stopped", f"{recording} stopped")

    def replay_uri(self, recording: str) -> str:
        return str(
            self.replay.GetReplayUri(
                StreamSetup={"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}, RecordingToken=recording
            )
        )
