"""The defaults, asked of a real daemon over SOAP: it answers, stops in order, and comes back.

SystemReboot is asked for in the middle of `test_contract_flow`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zeep.exceptions import Fault
from zeep.helpers import serialize_object
from zeep.wsse.username import UsernameToken

from tests.e2e.crash import camera
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.disk_samples import track_samples
from tests.support.flow import Flow, until
from tests.support.official_schema import official_client

pytestmark = pytest.mark.timeout(180)


def device_of(daemon: DaemonProcess, user: str = ADMIN, password: str = PASSWORD) -> Any:
    return official_client("device", daemon.service("device"), wsse=UsernameToken(user, password, use_digest=True))


def everything(daemon: DaemonProcess) -> dict[str, Any]:
    """What the getters say of objects and their configuration; states aside."""
    flow, device = Flow(daemon), device_of(daemon)
    recordings = serialize_object(flow.recording.GetRecordings())
    return {
        "recordings": recordings,
        "jobs": serialize_object(flow.recording.GetRecordingJobs()),
        "receivers": serialize_object(flow.receiver.GetReceivers()),
        "users": serialize_object(device.GetUsers()),
        "scopes": serialize_object(device.GetScopes()),
        "mode": device.GetDiscoveryMode(),
        "endpoint": device.GetEndpointReference().GUID,
        "information": serialize_object(device.GetDeviceInformation()),
    }


def test_a_soft_default_keeps_recordings_and_users_and_a_hard_one_is_refused(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data") as daemon:
        recording = Flow(daemon).create_recording()
        device = device_of(daemon)
        device.AddScopes(ScopeItem=["urn:a"])
        device.SetSystemFactoryDefault(FactoryDefault="Soft")
        assert "urn:a" not in [s.ScopeItem for s in device.GetScopes()]
        with pytest.raises(Fault, match="do not allow it") as caught:
            device.SetSystemFactoryDefault(FactoryDefault="Hard")
        assert [code.localname for code in caught.value.subcodes] == ["OperationProhibited"]
        assert [r.RecordingToken for r in Flow(daemon).recording.GetRecordings()] == [recording]
        assert daemon.stop() == 0


def test_a_hard_default_that_is_allowed_leaves_an_empty_recorder_that_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with camera() as uri, DaemonProcess(data, "[device]\nallow_hard_default = true\n") as daemon:
        _, job, _ = Flow(daemon).record(uri)
        Flow(daemon).until_job_is(job, "Active")
        until(lambda: track_samples(data, "VIDEO001"), "pictures on the disk")
        device = device_of(daemon)
        device.CreateUsers(User=[{"Username": "otto", "Password": "otto's", "UserLevel": "Administrator"}])
        device.SetSystemFactoryDefault(FactoryDefault="Hard")
        daemon.wait_ready()
        assert everything(daemon)["recordings"] == everything(daemon)["receivers"] == []
        assert [u.Username for u in device_of(daemon).GetUsers()] == [ADMIN]
        assert list(data.glob("volumes/*/footage/**/*.mp4")) == []
        assert daemon.stop() == 0
