"""A camera watched through the recorder with a stock player, recorded or not, over RTSP and RTSPS."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from zeep.wsse.username import UsernameToken

from nvr.model.job import PROFILE_TYPE
from tests.e2e.crash import camera
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow, until
from tests.support.official_schema import official_client

pytestmark = pytest.mark.timeout(90)

CONFIG = '[listen]\nhttps = "127.0.0.1:0"\nrtsps = "127.0.0.1:0"\n[storage]\nfsync = "none"\n'


def uri_of(base: str, receiver: str) -> str:
    scheme, _, where = base.partition("://")
    return f"{scheme}://{ADMIN}:{PASSWORD.replace(' ', '%20')}@{where}/live/{receiver}"


def watched(base: str, receiver: str, pictures: int) -> tuple[set[str], int]:
    """What kinds of streams come, and how many pictures could be decoded."""
    kinds: set[str] = set()
    decoded = 0
    with av.open(uri_of(base, receiver), options={"rtsp_transport": "tcp"}, timeout=(20, 10)) as container:
        for packet in container.demux():
            kinds.add(packet.stream.type)
            if packet.stream.type == "video":
                decoded += len(packet.decode())
            if decoded >= pictures and len(kinds) > 1:
                break
    return kinds, decoded


def check_media_service(daemon: DaemonProcess, receiver: str) -> None:
    """It tells what FFmpeg has just seen, and gives the URI at which it was seen."""
    token = UsernameToken(ADMIN, PASSWORD, use_digest=True)
    media = official_client("media", daemon.service("media"), wsse=token)
    (profile,) = media.GetProfiles()
    setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
    assert media.GetStreamUri(StreamSetup=setup, ProfileToken=profile.token).Uri == f"{daemon.rtsp}/live/{receiver}"
    (source,) = media.GetVideoSources()
    with av.open(uri_of(daemon.rtsp, receiver), options={"rtsp_transport": "tcp"}, timeout=(20, 10)) as container:
        seen = container.streams.video[0].codec_context
        assert (source.Resolution.Width, source.Resolution.Height) == (seen.width, seen.height)
    encoder = profile.VideoEncoderConfiguration
    assert (encoder.Encoding, encoder.Resolution.Width) == ("H264", seen.width)
    until(lambda: media.GetVideoSources()[0].Framerate, "a measured frame rate")


def check_recording_from_a_profile(flow: Flow, profile: str) -> None:
    recording = flow.create_recording("by profile")
    source = {"SourceToken": {"Token": profile, "Type": PROFILE_TYPE}}
    flow.recording.CreateRecordingJob(
        JobConfiguration={"RecordingToken": recording, "Mode": "Active", "Priority": 1, "Source": [source]}
    )
    flow.until_recorded(recording, 1)


@pytest.mark.requirement("RC-5.3.3-13")
def test_ffmpeg_watches_a_receiver_that_is_not_recorded_and_then_one_that_is(tmp_path: Path) -> None:
    with camera() as uri, DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        flow = Flow(daemon)
        setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
        created = flow.receiver.CreateReceiver(
            Configuration={"Mode": "AutoConnect", "MediaUri": uri, "StreamSetup": setup}
        )
        for base in (daemon.rtsp, daemon.rtsps):
            kinds, decoded = watched(base, created.Token, 30)
            assert {"video", "audio"} <= kinds
            assert decoded >= 30
        assert str(flow.receiver.GetReceiverState(ReceiverToken=created.Token).State) == "Connected"
        check_media_service(daemon, created.Token)
        recording, job, receiver = flow.record(uri)
        flow.until_job_is(job, "Active")
        assert watched(daemon.rtsp, receiver, 30)[1] >= 30
        flow.until_recorded(recording, 1)
        until(
            lambda: str(flow.receiver.GetReceiverState(ReceiverToken=created.Token).State) == "NotConnected",
            "the receiver that nobody watches any more",
        )
        check_recording_from_a_profile(flow, created.Token)
        assert PASSWORD not in daemon.log
