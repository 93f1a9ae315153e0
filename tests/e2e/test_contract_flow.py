"""Recording control from the first request to the last, as clause 5.26.1 draws it, with a daemon as it is shipped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from zeep.helpers import serialize_object

from tests.e2e.crash import camera
from tests.e2e.test_events import Listener
from tests.e2e.test_restart import device_of, everything
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.disk_samples import track_samples
from tests.support.flow import Flow, until
from tests.support.rtsp_client import RtspClient

pytestmark = pytest.mark.timeout(180)


NOWHERE = {
    "Mode": "AutoConnect",
    "MediaUri": "rtsp://127.0.0.1:9/nobody",
    "StreamSetup": {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}},
}
"""The configuration of a receiver."""


def job_over(recording: str, source: dict[str, Any], mode: str = "Idle", priority: int = 1) -> dict[str, Any]:
    """A configuration that feeds the tracks that every recording has."""
    tracks = [{"SourceTag": "", "Destination": track} for track in ("VIDEO001", "AUDIO001", "META001")]
    return {
        "RecordingToken": recording,
        "Mode": mode,
        "Priority": priority,
        "Source": [{**source, "Tracks": tracks}],
    }


def grows(data: Path, known: int) -> bool:
    return len(track_samples(data, "VIDEO001")) > known


@pytest.mark.requirement("RC-5.26.1-01", "RC-5.26.1-02", "RC-5.18-05", "RC-5.16-06", "RC-5.14-04")
@pytest.mark.requirement("RX-10.3-02", "RX-10.3-03", "CO-73", "CO-40", "RC-5.2-02", "RC-5.24-11")
@pytest.mark.requirement("RP-7.1-02", "RP-7.1-03", "RP-7.5-03", "RP-7.5-04", "RP-7.5-05", "PB-8.1-03", "PB-8.1-13")
def test_a_recording_is_set_up_started_outranked_stopped_and_kept_by_its_jobs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with camera() as uri, DaemonProcess(data) as daemon:
        flow = Flow(daemon)
        recording = flow.create_recording()
        made = flow.recording.CreateRecordingJob(JobConfiguration=job_over(recording, {"AutoCreateReceiver": True}))
        job, receiver = made.JobToken, made.JobConfiguration.Source[0].SourceToken.Token
        flow.configure(receiver, uri)
        assert flow.job_state(job).State == "Idle"
        assert track_samples(data, "VIDEO001") == []

        listener = Listener(daemon)
        before = serialize_object(flow.recording.GetRecordingJobConfiguration(JobToken=job))
        flow.recording.SetRecordingJobMode(JobToken=job, Mode="Active")
        after = serialize_object(flow.recording.GetRecordingJobConfiguration(JobToken=job))
        assert after == {**before, "Mode": "Active"}
        listener.until("RecordingConfig/RecordingJobConfiguration", ("RecordingJobToken", job))
        flow.until_job_is(job, "Active")
        until(lambda: grows(data, 0), "pictures on the disk")

        # A job of a higher priority takes the track; when it is gone, the other one has it again.
        rival = job_over(recording, {"SourceToken": {"Token": receiver}}, "Active", 0)
        other = flow.recording.CreateRecordingJob(JobConfiguration=rival).JobToken
        assert (flow.job_state(job).State, flow.job_state(other).State) == ("Active", "Idle")
        changed = {**rival, "Priority": 5}
        told = flow.recording.SetRecordingJobConfiguration(JobToken=other, JobConfiguration=changed)
        assert (told.Priority, told.Mode) == (5, "Active")
        assert flow.recording.GetRecordingJobConfiguration(JobToken=other).Priority == 5
        flow.until_job_is(other, "Active")
        assert flow.job_state(job).State == "Idle"
        flow.recording.DeleteRecordingJob(JobToken=other)
        assert [j.JobToken for j in flow.recording.GetRecordingJobs()] == [job]

        spare = flow.receiver.CreateReceiver(Configuration=NOWHERE).Token
        device = device_of(daemon)
        device.CreateUsers(User=[{"Username": "otto", "Password": "otto's", "UserLevel": "Operator"}])
        device.AddScopes(ScopeItem=["onvif://www.onvif.org/location/gate"])
        device.SetDiscoveryMode(DiscoveryMode="NonDiscoverable")
        watching = flow.receiver.CreateReceiver(
            Configuration={**NOWHERE, "MediaUri": uri, "Mode": "AlwaysConnect"}
        ).Token
        before, process = everything(daemon), daemon.process.pid
        # Nothing is asked between the last changes and the restart.
        flow.configure(spare, "rtsp://127.0.0.1:9/changed")
        flow.receiver.SetReceiverMode(ReceiverToken=spare, Mode="NeverConnect")
        last = flow.receiver.CreateReceiver(Configuration=NOWHERE)
        assert device.SystemReboot()
        daemon.wait_ready()
        assert daemon.process.pid == process
        assert daemon.has_logged("asked for a restart")
        after = everything(daemon)
        changed_receiver = next(r for r in before["receivers"] if r["Token"] == spare)
        changed_receiver["Configuration"] |= {"MediaUri": "rtsp://127.0.0.1:9/changed", "Mode": "NeverConnect"}
        before["receivers"].append(serialize_object(last))
        assert after == before
        flow = Flow(daemon)
        flow.until_job_is(job, "Active")
        until(lambda: flow.receiver.GetReceiverState(ReceiverToken=watching).State == "Connected", "a receiver alone")
        flow.set_idle(job, recording)
        kept = track_samples(data, "VIDEO001")
        flow.recording.SetRecordingJobMode(JobToken=job, Mode="Active")
        until(lambda: grows(data, len(kept)), "pictures recorded once more")

        flow.recording.DeleteRecordingJob(JobToken=job)
        assert flow.recording.GetRecordingJobs() == []
        until(lambda: flow.information(recording).RecordingStatus == "Stopped", "the recording stopped")
        left = track_samples(data, "VIDEO001")
        assert len(left) > len(kept)
        assert left[: len(kept)] == kept
        assert flow.recording.GetServiceCapabilities().MetadataRecording is True
        assert b"MetadataStream" in b"".join(track_samples(data, "META001"))
        information = flow.information(recording)
        assert information.EarliestRecording < information.LatestRecording
        asyncio.run(replayed_as_announced(flow, recording))
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0


async def replayed_as_announced(flow: Flow, recording: str) -> None:
    """Each URI opens a session of its own, as it is; what the capabilities promise is so."""
    capabilities = flow.replay.GetServiceCapabilities()
    lowest, highest = capabilities.SessionTimeoutRange
    sessions = set()
    for uri, scale in [(flow.replay_uri(recording), "1.0"), (flow.replay_uri(recording), "-1.0")]:
        client = await RtspClient.connect(urlsplit(uri).port or 554)
        client.credentials = ADMIN, PASSWORD
        described = await client.request("DESCRIBE", uri)
        assert described.status == 200
        assert all(kind in described.body for kind in (b"m=video", b"m=audio", b"m=application"))
        setup = await client.request("SETUP", f"{uri}/VIDEO001", Transport="RTP/AVP/TCP;unicast;interleaved=0-1")
        assert (setup.status == 200) == capabilities.RTP_RTSP_TCP
        client.session, _, timeout = setup["Session"].partition(";timeout=")
        assert lowest <= float(timeout or 60) <= highest
        sessions.add(client.session)
        played = await client.request("PLAY", uri, Scale=scale, Rate_Control="no")
        assert (played.status == 200) == (scale == "1.0" or capabilities.ReversePlayback is True)
        if scale == "1.0":
            assert (await client.packet()).payload
        await client.close()
    assert len(sessions) == 2
