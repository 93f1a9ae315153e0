"""HTTPS and RTSPS of the daemon, seen with openssl and curl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from zeep.wsse.username import UsernameToken

from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.official_schema import official_client, validate_response
from tests.support.soap_http import envelope

CONFIG = '[listen]\nhttps = "127.0.0.1:0"\nrtsps = "127.0.0.1:0"\n[storage]\nfsync = "none"\n'
SERVICES = "<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>"


def s_client(address: str, version: str, ca_file: Path) -> subprocess.CompletedProcess[str]:
    where = urlsplit(address)
    command = ["openssl", "s_client", "-connect", f"{where.hostname}:{where.port}", version, "-CAfile", str(ca_file)]
    command += ["-verify_return_error", "-verify_hostname", "localhost", "-cipher", "ALL:@SECLEVEL=0"]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=20)


@pytest.mark.skipif(shutil.which("openssl") is None or shutil.which("curl") is None, reason="openssl or curl missing")
@pytest.mark.requirement("CO-17", "CO-23")
def test_tls_with_a_self_signed_certificate_that_lasts_over_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DaemonProcess(data, CONFIG) as daemon:
        ca_file = data / "tls" / "certificate.pem"
        for address in (daemon.https, daemon.rtsps):
            for version in ("-tls1_2", "-tls1_3"):
                tried = s_client(address, version, ca_file)
                assert tried.returncode == 0, tried.stderr
                assert "Verify return code: 0 (ok)" in tried.stdout
            for version in ("-tls1", "-tls1_1"):
                assert s_client(address, version, ca_file).returncode != 0
        port = urlsplit(daemon.https).port
        where = f"https://localhost:{port}/onvif"
        curl = ["curl", "-sS", "--cacert", str(ca_file), "-H", "Content-Type: application/soap+xml"]
        answer = subprocess.run(
            [*curl, "--data-binary", "@-", f"{where}/device_service"],
            input=envelope(SERVICES),
            capture_output=True,
            timeout=20,
        )
        assert answer.returncode == 0, answer.stderr
        told = validate_response(answer.stdout)
        addresses = [e.text or "" for e in told.iter("{http://www.onvif.org/ver10/device/wsdl}XAddr")]
        assert addresses
        assert all(a.startswith(where) for a in addresses)
        assert b'TLS1.2="true"' in answer.stdout
        assert_replay_uri_is_rtsps(daemon, where, ca_file)
        assert daemon.has_logged("self-signed certificate has been made")
        assert "BEGIN PRIVATE KEY" not in daemon.log
        before = ssl.get_server_certificate(("127.0.0.1", int(port or 0)))
    with DaemonProcess(data, CONFIG) as daemon:
        assert ssl.get_server_certificate(("127.0.0.1", int(urlsplit(daemon.https).port or 0))) == before
        assert "has been made" not in daemon.log
        assert daemon.stop() == 0


def assert_replay_uri_is_rtsps(daemon: DaemonProcess, where: str, ca_file: Path) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(ca_file)

        def proxy(service: str) -> object:
            token = UsernameToken(ADMIN, PASSWORD, use_digest=True)
            return official_client(service, f"{where}/{service}_service", session=session, wsse=token)

        source = {"SourceId": "", "Name": "gate", "Location": "", "Description": "", "Address": ""}
        recording = proxy("recording").CreateRecording(  # type: ignore[attr-defined]
            RecordingConfiguration={"Source": source, "Content": "", "MaximumRetentionTime": "PT0S"}
        )
        setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
        uri = proxy("replay").GetReplayUri(StreamSetup=setup, RecordingToken=recording)  # type: ignore[attr-defined]
    assert uri == f"rtsps://localhost:{urlsplit(daemon.rtsps).port}/replay/{recording}"


def test_plain_listeners_alone_need_no_certificate(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data") as daemon:
        assert (daemon.https, daemon.rtsps) == ("", "")
        assert not (tmp_path / "data" / "tls").exists()
        answer = requests.post(
            daemon.service("device"),
            envelope(SERVICES),
            headers={"Content-Type": "application/soap+xml"},
            timeout=10,
        )
        assert b'TLS1.2="false"' in answer.content
