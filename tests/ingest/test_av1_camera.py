"""A camera that sends AV1: its pictures are recorded as they were sent."""

from __future__ import annotations

import time

import pytest

from nvr.media.codecs.av1 import Av1Packetizer
from nvr.model.recording import TrackType
from tests.support.camera import Camera, CameraTrack
from tests.support.ingest import key, until
from tests.support.ingest_house import ACTIVE, RECEIVER, House
from tests.support.rtp_streams import decode_pictures, encode_pictures

TEMPORAL_DELIMITER = b"\x12\x00"
"""Encoders begin each picture with one, and RTP leaves it out (AV1 over RTP, 5)."""


@pytest.mark.requirement("RC-5.24-12")
async def test_pictures_of_av1_are_recorded_as_they_were_sent(house: House) -> None:
    track = CameraTrack("video", "AV1/90000")
    track.packetizer = Av1Packetizer(1400)
    encoded = encode_pictures("libsvtav1", 12, {"preset": "12", "svtav1-params": "keyint=5"})
    packets = [packet for at, data in encoded.units for packet in track.unit(data, at)]
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_packets(track, packets)
        await until(lambda: house.engine.counters()[RECEIVER].packets == len(packets))
        assert house.state() == (ACTIVE, None)
        await house.engine.stop()
    fragments = house.storage.recorder(key(), TrackType.VIDEO).fragments
    assert {type(f.configuration).__name__ for f in fragments} == {"Av1Configuration"}
    samples = [s.data for f in fragments for s in f.samples]
    sent = [data for _, data in encoded.units]
    assert samples == [data.removeprefix(TEMPORAL_DELIMITER) for data in sent]
    seen = decode_pictures("libdav1d", samples)
    assert seen == decode_pictures("libdav1d", sent)
    assert len(set(seen)) == len(sent)
