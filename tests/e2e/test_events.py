"""What a client is told while a camera is recorded, lost and deleted, by a daemon as it is shipped."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from requests.auth import HTTPDigestAuth

from nvr.model.time import parse_iso
from nvr.soap.names import PREFIXES
from tests.e2e.crash import camera
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.event_house import Notification, pull_messages
from tests.support.flow import Flow, until
from tests.support.official_schema import validate_response
from tests.support.rtsp_client import RtspClient

pytestmark = pytest.mark.timeout(120)

CONFIG = '[storage]\nfsync = "none"\n[ingest]\nback_off = "200ms"\n'


class Listener:
    """A pull point, on everything unless `filter_` says otherwise; keeps what it has been told."""

    def __init__(self, daemon: DaemonProcess, filter_: str = "") -> None:
        self._session = requests.Session()
        self._session.auth = HTTPDigestAuth(ADMIN, PASSWORD)
        self._service = daemon.service("event")
        made = self.call(f"<tev:CreatePullPointSubscription>{filter_}</tev:CreatePullPointSubscription>")
        self._address = re.search(r"<wsa:Address>(.*?)</wsa:Address>", made)[1]  # type: ignore[index]
        self.told: list[Notification] = []

    def manage(self, body: str) -> str:
        """The answer of the pull point to this element."""
        return self.call(body, self._address)

    def call(self, body: str, address: str | None = None) -> str:
        """The answer to this element, which must be none of fault; without an address of the event service."""
        declared = " ".join(f'xmlns:{p}="{n}"' for n, p in PREFIXES.items())
        envelope = f"<env:Envelope {declared}><env:Body>{body}</env:Body></env:Envelope>"
        headers = {"Content-Type": "application/soap+xml"}
        answer = self._session.post(address or self._service, data=envelope, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        self._last = validate_response(answer.content)
        return answer.text

    def pull(self) -> None:
        self.manage(pull_messages(100, "PT1S"))
        found = self._last.findall("wsnt:NotificationMessage", {p: n for n, p in PREFIXES.items()})
        self.told += [Notification(e) for e in found]

    def of(self, topic: str) -> list[Notification]:
        return [m for m in self.told if m.topic == f"tns1:{topic}"]

    def until(self, topic: str, *values: tuple[str, str], operation: str | None = None) -> Notification:
        """The last message of the topic that has these items, and where given this property operation."""

        def there() -> Notification | None:
            found = [m for m in self.of(topic) if operation in (None, m.operation)]
            found = [m for m in found if set(values) <= {*m.items("Source").items(), *m.items("Data").items()}]
            if not found:
                self.pull()
            return found[-1] if found else None

        found = until(there, f"{topic} with {values}")
        assert isinstance(found, Notification)
        return found


async def described(uri: str) -> int:
    """The status of the answer to DESCRIBE."""
    client = await RtspClient.connect(urlsplit(uri).port or 554)
    client.credentials = (ADMIN, PASSWORD)
    try:
        return (await client.request("DESCRIBE", uri)).status
    finally:
        await client.close()


@pytest.mark.requirement("RX-10.7.1-01", "RX-10.7.2-01", "RS-6.17-05", "RC-5.25.2-01", "CO-48", "RC-5.5-07")
@pytest.mark.requirement("RC-5.25.4-01")
def test_a_client_is_told_how_a_camera_is_recorded_until_its_data_are_deleted(tmp_path: Path) -> None:
    with camera() as uri, DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        flow, listener = Flow(daemon), Listener(daemon)
        recording, job, receiver = flow.record(uri)
        listener.until("RecordingConfig/JobState", ("RecordingJobToken", job), ("State", "Active"))
        listener.until("RecordingHistory/Track/State", ("Track", "VIDEO001"), ("IsDataPresent", "true"))
        flow.until_recorded(recording, 2)
        flow.set_idle(job, recording)
        began = listener.until("RecordingHistory/Recording/State", ("IsRecording", "true"))
        ended = listener.until("RecordingHistory/Recording/State", ("IsRecording", "false"), operation="Changed")
        listener.until("Receiver/ChangeState", ("NewState", "NotConnected"))

        states = [m.items("Data")["NewState"] for m in listener.of("Receiver/ChangeState")]
        assert states == ["Connecting", "Connected", "NotConnected"]
        assert {m.items("Source")["ReceiverToken"] for m in listener.of("Receiver/ChangeState")} == {receiver}
        jobs = [(m.operation, m.items("Data")["State"]) for m in listener.of("RecordingConfig/JobState")]
        assert jobs[0][0] == "Initialized"
        assert {operation for operation, _ in jobs[1:]} == {"Changed"}
        assert jobs[-1][1] == flow.job_state(job).State == "Idle"

        information = flow.information(recording)
        # The first data that were on the disk, of whichever track: an earlier beginning is told by that of its track.
        assert any(abs(parse_iso(began.time) / 1e9 - t.DataFrom.timestamp()) < 0.001 for t in information.Track)
        assert abs(parse_iso(ended.time) / 1e9 - information.LatestRecording.timestamp()) < 0.001
        for track in information.Track:
            history = [
                m
                for m in listener.of("RecordingHistory/Track/State")
                if m.items("Source")["Track"] == track.TrackToken and m.operation == "Changed"
            ]
            assert [m.items("Data")["IsDataPresent"] for m in history] == ["true", "false"]
            assert abs(parse_iso(history[0].time) / 1e9 - track.DataFrom.timestamp()) < 0.001
            assert abs(parse_iso(history[1].time) / 1e9 - track.DataTo.timestamp()) < 0.001

        replayed, footage = flow.replay_uri(recording), daemon.data.glob(f"volumes/*/footage/{recording}")
        (directory,) = footage
        assert list(directory.rglob("*.mp4"))
        assert asyncio.run(described(replayed)) == 200
        flow.recording.DeleteRecording(RecordingToken=recording)
        assert list(directory.rglob("*.mp4")) == []
        assert asyncio.run(described(replayed)) == 404
        for track in information.Track:
            gone = listener.until("RecordingConfig/DeleteTrackData", ("TrackToken", track.TrackToken))
            assert abs(parse_iso(gone.items("Data")["StartTime"]) / 1e9 - track.DataFrom.timestamp()) < 0.001
            assert abs(parse_iso(gone.items("Data")["EndTime"]) / 1e9 - track.DataTo.timestamp()) < 0.001
            listener.until("RecordingConfig/DeleteTrack", ("TrackToken", track.TrackToken))
        listener.until("RecordingConfig/DeleteRecording", ("RecordingToken", recording))
        deleted = [m.items("Source")["TrackToken"] for m in listener.of("RecordingConfig/DeleteTrackData")]
        assert sorted(deleted) == sorted(track.TrackToken for track in information.Track), "each once"


@pytest.mark.requirement("RX-10.7.3-01", "RC-5.25.2-01")
def test_a_camera_that_cannot_be_reached_is_told_with_its_address(tmp_path: Path) -> None:
    with socket.socket() as closed, DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}/stream"
        flow, listener = Flow(daemon), Listener(daemon)
        _, job, receiver = flow.record(f"rtsp://anna:secret@{where}")
        failed = listener.until("Receiver/ConnectionFailed")
        assert failed.items("Source") == {"ReceiverToken": receiver}
        assert failed.items("Data") == {"MediaUri": f"rtsp://{where}"}
        told = listener.until("RecordingConfig/JobState", ("RecordingJobToken", job), ("State", "Error"))
        assert told.element_item("Information").findtext(".//{*}Error")
        assert "secret" not in daemon.log
