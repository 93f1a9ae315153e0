"""Header extensions on their way to the codecs that read them."""

from __future__ import annotations

import pytest

from nvr.ingest.stream import StreamReceiver
from nvr.media.codecs import ENCODINGS, depacketizer_for, stored_as
from nvr.media.codecs.jpeg import HEADER, JpegConfiguration
from nvr.media.codecs.jpeg_headers import frame_segment
from nvr.media.replay_extension import JpegExtension, ReplayExtension
from nvr.media.rtp import RtpExtension, RtpPacket

FRAME = frame_segment(2560, 1920, 2, 2, False) + b"\xff"
LIVE = RtpExtension(0xFFD8, FRAME)
REPLAYED = ReplayExtension(99, jpeg=JpegExtension(True, FRAME)).extension()


def packet(
    sequence: int, payload: bytes, extension: RtpExtension | None = None, marker: bool = False, padding: int = 0
) -> bytes:
    csrc = (1, 2) if extension is not None else ()
    return bytes(RtpPacket(26, sequence, 9, 7, payload, marker, extension, csrc, padding))


def receiver() -> StreamReceiver:
    made = StreamReceiver(26, 90_000, depacketizer_for("JPEG", 90_000))
    made.take = True
    return made


@pytest.mark.requirement("PB-8.3.3-04")
@pytest.mark.parametrize("extension", [LIVE, REPLAYED], ids=["live", "replayed"])
def test_a_large_image_is_put_together_with_what_its_extension_tells(extension: RtpExtension) -> None:
    made = receiver()
    head = HEADER.pack(0, 0, 0, 1, 50, 0, 0)
    packets = [
        packet(1, head + b"one", extension, padding=8),
        packet(2, b"", RtpExtension(0xFFFF, b"\xff\xff\xff\xff")),
        packet(3, HEADER.pack(0, 0, 3, 1, 50, 0, 0) + b"two", marker=True),
    ]
    for data in packets:
        made.irregular(memoryview(data), 0, len(data))
    [unit] = made.units
    assert unit.configuration == JpegConfiguration(2560, 1920)
    assert unit.data.endswith(b"onetwo\xff\xd9")
    assert (made.packets, made.dropped, made.order.lost) == (3, 0, 0)


def test_extensions_are_not_read_while_nobody_wants_the_stream_nor_for_other_codecs() -> None:
    made = receiver()
    made.take = False
    data = packet(1, HEADER.pack(0, 0, 0, 1, 50, 0, 0) + b"one", LIVE, marker=True)
    made.irregular(memoryview(data), 0, len(data))
    made.take = True
    plain = packet(2, HEADER.pack(0, 0, 0, 1, 50, 20, 12) + b"one", marker=True)
    made.irregular(memoryview(plain), 0, len(plain))
    assert [u.configuration for u in made.units] == [JpegConfiguration(160, 96)]
    sound = StreamReceiver(26, 8000, depacketizer_for("PCMU", 8000))
    sound.take = True
    sound.irregular(memoryview(data), 0, len(data))
    assert len(sound.units) == 1


def test_other_extensions_do_not_disturb_a_codec() -> None:
    """A dependency descriptor of AV1, as WebRTC senders have it in a one-byte extension (RFC 8285)."""
    made = StreamReceiver(26, 90_000, depacketizer_for("AV1", 90_000))
    made.take = True
    payload = bytes.fromhex("280b0800000003b4fdf12be40130") + b"\x10key frame"
    for sequence, size in ((1, 4), (2, 0)):
        data = packet(sequence, payload, RtpExtension(0xBEDE, bytes.fromhex("c2808001")[:size]), marker=True)
        made.irregular(memoryview(data), 0, len(data))
    assert [u.clean_point for u in made.units] == [True, True]
    assert made.units[0].data.endswith(b"\x10key frame")


def test_both_spellings_of_gzip_metadata_are_one_encoding_of_a_track() -> None:
    """What was recorded under the name of one edition goes on under that of another (RC-5.1 allows one encoding)."""
    for name in ("vnd.onvif.metadata.gzip", "vnd.onvif.metadata+gzip"):
        configuration = depacketizer_for(name, 90_000).configuration
        assert configuration is not None
        assert stored_as(name) == configuration.encoding
    for name in ENCODINGS:
        assert stored_as(name.lower()) in ENCODINGS
