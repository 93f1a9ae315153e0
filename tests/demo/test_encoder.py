from __future__ import annotations

import av

from nvr.demo.encoder import AudioEncoder, VideoEncoder, frame_time, metadata_document, split_annex_b
from nvr.demo.picture import read_number
from nvr.media.codecs.h264 import H264Configuration

START_NS = 1_700_000_000_000_000_000


def nal_units(sample: bytes) -> list[bytes]:
    units, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4])
        units.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return units


def test_every_second_starts_with_a_key_frame_that_carries_its_parameter_sets() -> None:
    encoder = VideoEncoder(fps=5)
    for number in range(11):
        sample, clean = encoder.encode(number, frame_time(START_NS, number, 5))
        kinds = [nal[0] & 31 for nal in nal_units(sample)]
        assert clean == (number % 5 == 0)
        assert ({7, 8, 5} <= set(kinds)) == clean


def test_the_numbers_survive_coding() -> None:
    encoder = VideoEncoder()
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    numbers = []
    for number in range(30):
        sample, _ = encoder.encode(number, START_NS)
        for frame in decoder.decode(av.Packet(b"".join(b"\0\0\0\1" + n for n in nal_units(sample)))):
            numbers.append(read_number(memoryview(frame.planes[0]), frame.planes[0].line_size, frame.width))
    for frame in decoder.decode(None):
        numbers.append(read_number(memoryview(frame.planes[0]), frame.planes[0].line_size, frame.width))
    assert numbers == list(range(30))


def test_the_parameter_sets_make_a_configuration() -> None:
    sample, _ = VideoEncoder(width=320, height=240).encode(0, START_NS)
    units = nal_units(sample)
    configuration = H264Configuration(
        tuple(n for n in units if n[0] & 31 == 7), tuple(n for n in units if n[0] & 31 == 8)
    )
    assert (configuration.width, configuration.height) == (320, 240)


def test_audio_comes_in_frames_of_1024_samples() -> None:
    encoder = AudioEncoder()
    frames = [f for number in range(10) for f in encoder.encode(number)]
    assert len(frames) == 9
    assert encoder.specific_config[0] >> 3 == 2  # AAC-LC


def test_annex_b_is_split_at_both_start_codes() -> None:
    assert list(split_annex_b(b"\0\0\0\1ab\0\0\1c\0\0\0\1\0\1d")) == [b"ab", b"c", b"\0\1d"]
    assert list(split_annex_b(b"")) == []


def test_metadata_alternates() -> None:
    assert b'Value="false"' in metadata_document(0, START_NS)
    assert b'Value="true"' in metadata_document(1, START_NS)
