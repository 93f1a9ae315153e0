"""TLS and IPv6 towards cameras, and the way into real track files."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import ipaddress
import re
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nvr.ingest.engine import IngestEngine
from nvr.ingest.settings import IngestSettings
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Response
from nvr.model.errors import OperatorError
from nvr.model.job import RecordingJobState
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.settings import StorageSettings
from tests.support.camera import Camera, h264_track, key_frame, picture
from tests.support.ingest import QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, key, until

JOB = JobToken("job-1")


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(secret, hashes.SHA256())
    )
    at, key_at = directory / "camera.pem", directory / "camera.key"
    at.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_at.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return at, key_at


def server_context(directory: Path) -> tuple[ssl.SSLContext, Path]:
    at, key_at = certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(at, key_at)
    return context, at


@pytest.mark.parametrize("trust", ["by the certificate", "without verification"])
async def test_a_camera_on_tls_is_recorded(tmp_path: Path, trust: str) -> None:
    context, trusted = server_context(tmp_path)
    settings = dataclasses.replace(
        QUICK,
        tls_ca_file=trusted if trust == "by the certificate" else None,
        tls_verify=trust == "by the certificate",
    )
    storage, track = FakeStorage(), h264_track()
    engine = IngestEngine(storage, settings)
    await engine.start()
    async with Camera([track], tls=context) as camera:
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(camera.uri)])
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        for n in range(60):
            camera.send_unit(track, key_frame(n) if n % 25 == 0 else picture(n), n * 3600)
        await until(lambda: len(storage.recorders[key()].samples) == 50)
        camera.hang_up()
        await until(lambda: GapReason.SOURCE_LOST in storage.recorders[key()].reasons)
        assert len(storage.recorders[key()].samples) == 60
        await engine.stop()


async def test_a_certificate_that_nobody_has_signed_is_told(tmp_path: Path) -> None:
    context, _ = server_context(tmp_path)
    engine = IngestEngine(FakeStorage(), QUICK)
    await engine.start()
    async with Camera([h264_track()], tls=context) as camera:
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(camera.uri)])
        await until(lambda: engine.job_state(JOB).state is RecordingJobState.ERROR)
        assert "its certificate is not valid" in (engine.job_state(JOB).sources[0].tracks[0].error or "")
        await engine.stop()


async def test_a_failed_verification_tells_the_fingerprint_that_would_be_trusted(tmp_path: Path) -> None:
    context, _ = server_context(tmp_path)
    track = h264_track()
    async with Camera([track], tls=context) as camera:
        engine = IngestEngine(FakeStorage(), dataclasses.replace(QUICK, tls_fingerprints=("00" * 32,)))
        await engine.start()
        job = a_job(a_source("rcv-1", ("", "VIDEO001")))
        engine.apply([a_recording()], [job], [a_receiver(camera.uri.replace("://", "://u:secret@"))])
        await until(lambda: engine.job_state(JOB).state is RecordingJobState.ERROR)
        told = engine.job_state(JOB).sources[0].tracks[0].error or ""
        assert camera.requests == [], "nothing is said to a camera that is not trusted"
        await engine.stop()
        found = re.search(r'trust it with tls_fingerprints = \["([0-9A-F:]{95})"\]', told)
        assert found is not None, told
        assert "secret" not in told

        engine = IngestEngine(FakeStorage(), dataclasses.replace(QUICK, tls_fingerprints=(found[1],)))
        await engine.start()
        engine.apply([a_recording()], [job], [a_receiver(camera.uri)])
        await camera.playing()
        await engine.stop()


async def test_a_port_that_does_not_speak_tls_is_told() -> None:
    engine = IngestEngine(FakeStorage(), QUICK)
    await engine.start()
    async with Camera([h264_track()], answers={}) as camera:
        uri = camera.uri.replace("rtsp:", "rtsps:")
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(uri)])
        await until(lambda: bool(engine.job_state(JOB).sources[0].tracks[0].error))
        assert "cannot connect" in (engine.job_state(JOB).sources[0].tracks[0].error or "")
        await engine.stop()


@pytest.mark.parametrize("text", ["", "AB:CD", "g" * 64, "ab" * 33])
async def test_what_is_no_fingerprint_stops_the_start(text: str) -> None:
    engine = IngestEngine(FakeStorage(), IngestSettings(tls_fingerprints=(text,)))
    with pytest.raises(OperatorError, match=r"tls_fingerprints: .* is no SHA-256 fingerprint"):
        await engine.start()


async def test_a_redirect_to_tls_is_followed_in_tls(tmp_path: Path) -> None:
    context, trusted = server_context(tmp_path)
    engine = IngestEngine(FakeStorage(), dataclasses.replace(QUICK, tls_ca_file=trusted))
    await engine.start()
    async with Camera([h264_track()], tls=context) as target, Camera([h264_track()]) as gate:
        gate.answers["DESCRIBE"] = lambda q, a: bytes(
            Response(302, Headers([("CSeq", str(q.cseq)), ("Location", target.uri)]))
        )
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(gate.uri)])
        await target.playing()
        await engine.stop()


async def test_a_file_without_certificates_stops_the_start(tmp_path: Path) -> None:
    engine = IngestEngine(FakeStorage(), IngestSettings(tls_ca_file=tmp_path / "none.pem"))
    with pytest.raises(OperatorError, match=r"none\.pem cannot be used"):
        await engine.start()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_camera_on_ipv6_is_connected() -> None:
    engine = IngestEngine(FakeStorage(), QUICK)
    await engine.start()
    async with Camera([h264_track()], host="::1") as camera:
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(camera.uri)])
        await camera.playing()
        assert camera.requests[0].uri == f"rtsp://[::1]:{camera.port}/stream"
        await engine.stop()


@pytest.mark.requirement("RC-5.3.3-03")
async def test_what_a_camera_sends_stands_in_track_files_byte_for_byte(tmp_path: Path) -> None:
    index = await asyncio.to_thread(SqlFootageIndex.open, tmp_path / "index.db")
    storage = StorageEngine(StorageSettings.in_directory(tmp_path), index)
    await storage.start()
    engine = IngestEngine(storage, QUICK)
    await engine.start()
    track, now = h264_track(), time.time_ns()
    async with Camera([track]) as camera:
        engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(camera.uri)])
        await camera.playing()
        camera.send_report(track, now, 0)
        sent = [key_frame(n) if n % 25 == 0 else picture(n) for n in range(110)]
        for n, data in enumerate(sent):
            camera.send_unit(track, data, n * 3600)
        await until(lambda: engine.counters()[a_receiver("").token].fragments == 4)
        camera.hang_up()
        await camera.playing(2)
        await engine.stop()
    await storage.stop()

    storage = StorageEngine(StorageSettings.in_directory(tmp_path), index)
    await storage.start()
    footage = storage.footage(key())
    samples = [s for ref in footage.fragments(0) for s in footage.read(ref)]
    assert [s.data for s in samples] == sent
    assert max(abs(s.utc_ns - now - n * 40_000_000) for n, s in enumerate(samples)) < 100_000
    assert [r.end_reason for r in storage.timeline(key()).runs] == [GapReason.SOURCE_LOST]
    await storage.stop()
    index.shut()
