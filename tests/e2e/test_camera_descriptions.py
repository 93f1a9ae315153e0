"""A camera that offers ONVIF is asked who it is: here the camera's device service is that of another daemon."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.crash import camera
from tests.support.daemon import DaemonProcess
from tests.support.flow import Flow, until

pytestmark = pytest.mark.timeout(180)

DEVICE = """
[device]
name = "Yard camera"
location = "North gate"
manufacturer = "Acme"
model = "C 1"
"""


def test_searches_tell_what_the_camera_says_where_the_client_has_said_nothing(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "device", DEVICE) as device, camera() as uri:
        asking = f"[cameras]\nask = true\nports = [{urlsplit(device.http).port}]\ntimeout = '60s'\n"
        with DaemonProcess(tmp_path / "data", asking) as daemon:
            flow = Flow(daemon)
            source = {"SourceId": "urn:x", "Name": "", "Location": "", "Description": "Mine", "Address": ""}
            configuration = {"Source": source, "Content": "", "MaximumRetentionTime": "PT0S"}
            recording = flow.recording.CreateRecording(RecordingConfiguration=configuration)
            made = flow.recording.CreateRecordingJob(
                JobConfiguration={
                    "RecordingToken": recording,
                    "Mode": "Active",
                    "Priority": 1,
                    "Source": [{"AutoCreateReceiver": True}],
                }
            )
            receiver = made.JobConfiguration.Source[0].SourceToken.Token
            flow.configure(receiver, uri.replace("rtsp://", "rtsp://admin:correct%20horse@"))

            def told() -> object:
                found = flow.search.GetRecordingInformation(RecordingToken=recording).Source
                return found if found.Name else None

            found = until(told, "the camera's name", 90)
            assert (found.Name, found.Location, found.Description) == ("Yard camera", "North gate", "Mine")
            assert found.Address == f"http://127.0.0.1:{urlsplit(device.http).port}/onvif/device_service"

            wanted = 'boolean(//Source[Location = "North gate"])'
            token = flow.search.FindRecordings(Scope={"RecordingInformationFilter": wanted}, KeepAliveTime="PT10S")
            results = flow.search.GetRecordingSearchResults(SearchToken=token)
            assert [r.RecordingToken for r in results.RecordingInformation] == [recording]

            kept = flow.recording.GetRecordingConfiguration(RecordingToken=recording)
            assert (kept.Source.Name, kept.Source.Location) == (None, None) or kept.Source.Name == ""
            with urllib.request.urlopen(f"{daemon.http}/metrics", timeout=30) as answer:
                assert 'nvr_camera_questions_total{outcome="answered"} 1' in answer.read().decode()
        assert "correct" not in daemon.log
