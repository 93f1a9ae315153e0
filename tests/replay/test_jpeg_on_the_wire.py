"""JPEG too large for RTP/JPEG, byte by byte as it leaves the server's sockets (IEC 62676-2-32 8.3.3, RFC 2435)."""

from __future__ import annotations

import asyncio
import struct

import pytest

from nvr.media.codecs.jpeg import JpegConfiguration
from nvr.media.unit import Sample
from nvr.model.time import NS, ntp_from_utc
from nvr.model.tokens import VIDEO001
from tests.replay.conftest import PATH, TEN, Serve
from tests.replay.test_sender_jpeg import DATA, FRAME, LARGE, image
from tests.support.replay_store import MemoryTrack
from tests.support.rtsp_client import TIMEOUT_S, RtspClient
from tests.support.udp_client import ClientPorts

SMALL = image(160, 96)
ABAC, SOI = b"\xab\xac", b"\xff\xd8"


async def interleaved(client: RtspClient) -> bytes:
    """The next RTP packet; frames on odd channels are RTCP."""
    while True:
        head = await client.reader.readexactly(4)
        data = await client.reader.readexactly(int.from_bytes(head[2:], "big"))
        assert head[:1] == b"$"
        if head[1] % 2 == 0:
            return data


def images(packets: list[bytes]) -> list[list[tuple[bytes, bytes, bytes]]]:
    """(identifier and length, content, payload) of the packets of each image, cut behind markers."""
    found: list[list[tuple[bytes, bytes, bytes]]] = [[]]
    for packet in packets:
        end = 12
        if packet[0] & 0x10:
            end = 16 + 4 * int.from_bytes(packet[14:16], "big")
        found[-1].append((packet[12:16] if end > 12 else b"", packet[16:end], packet[end:]))
        if packet[1] & 0x80:
            found.append([])
    return found[:-1]


@pytest.mark.requirement("PB-8.3.3-01", "PB-8.3.3-02", "PB-8.3.3-03", "PB-8.3.3-05", "PB-8.3.3-06")
@pytest.mark.parametrize("way", ["interleaved", "udp"])
async def test_replay_words_come_first_then_the_jpeg_part_and_its_length_counts_both(serve: Serve, way: str) -> None:
    """An image of 2560 x 1920, one whose marker segments go on in the second packet, and a small one."""
    noted = LARGE[:2] + b"\xff\xfe" + (1602).to_bytes(2, "big") + b"n" * 1600 + LARGE[2:]
    track = MemoryTrack(JpegConfiguration(2560, 1920)).starting_at(TEN)
    for data in (LARGE, noted, SMALL):
        track.with_unit_list([Sample(track.at_ns, data, True)], track.at_ns + NS)
    served = await serve({VIDEO001: track.with_end()}, payload=None)
    client = await served.client()
    packets: list[bytes] = []
    with ClientPorts() as ports:
        transport = ports.transport if way == "udp" else "RTP/AVP/TCP;unicast;interleaved=0-1"
        answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=transport)
        client.session = answer["Session"].partition(";")[0]
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        async with asyncio.timeout(TIMEOUT_S):
            while sum(p[1] >> 7 for p in packets) < 3:
                if way == "udp":
                    packets.append(await asyncio.get_running_loop().sock_recv(ports.rtp, 65_536))
                else:
                    packets.append(await interleaved(client))
        await client.request("TEARDOWN", PATH)
    large, continued, small = images(packets)

    identifier, content, _ = large[0]
    assert identifier[:2] == ABAC
    words, jpeg_words = int.from_bytes(identifier[2:], "big"), int.from_bytes(content[14:16], "big")
    assert content[8:12] == bytes([0x80, 2, 0, 0]), "C, and the number of the PLAY, which was the second request"
    assert content[12:14] == SOI
    assert words == jpeg_words + 4 > 3
    assert content[16:] == FRAME + b"\xff" * (4 * jpeg_words - len(FRAME))
    assert [head for head, _, _ in large[1:]] == [b""] * (len(large) - 1)

    identifier, content, _ = continued[0]
    assert (identifier[:2], content[12:14]) == (ABAC, SOI)
    others = [(head, extension) for head, extension, _ in continued[1:] if head]
    assert others
    assert all(head[:2] == b"\xff\xff" for head, _ in others), "no replay words, so as in live streaming"
    told = content[16:] + b"".join(extension for _, extension in others)
    assert told.rstrip(b"\xff") == noted[2 : 4 + 1602] + FRAME

    assert small[0][0] == ABAC + b"\0\3"
    assert small[-1][1][8] & 0x50 == 0x50, "E and T on the last packet"
    for sent in (large, continued, small):
        assert scan_of(sent) == DATA, "the scan is whole"


@pytest.mark.requirement("PB-8.6.2-05")
async def test_in_reverse_images_fall_and_the_packets_of_each_go_forwards(serve: Serve) -> None:
    track = MemoryTrack(JpegConfiguration(160, 96)).starting_at(TEN)
    track.with_unit_list([Sample(TEN + i * NS, SMALL, True) for i in range(3)], TEN + 3 * NS)
    track.with_gap(TEN + 60 * NS).with_unit_list([Sample(TEN + 60 * NS, SMALL, True)], TEN + 61 * NS)
    served = await serve({VIDEO001: track.with_end()}, payload=None)
    client = await served.client()
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH, Scale="-1.0", Rate_Control="no")).status == 200
    packets: list[bytes] = []
    async with asyncio.timeout(TIMEOUT_S):
        while sum(p[1] >> 7 for p in packets) < 4:
            packets.append(await interleaved(client))
    sequence = [int.from_bytes(p[2:4], "big") for p in packets]
    assert sequence == [(sequence[0] + n) & 0xFFFF for n in range(len(packets))]
    sent = images(packets)
    assert all(len(image_packets) > 1 for image_packets in sent)
    assert all(scan_of(image_packets) == DATA for image_packets in sent), "forwards: the offsets of the scan rise"
    firsts = [image_packets[0][1] for image_packets in sent]
    assert [int.from_bytes(content[:8], "big") for content in firsts] == [
        ntp_from_utc(TEN + second * NS) for second in (60, 2, 1, 0)
    ]
    assert [content[8] & 0xE0 for content in firsts] == [0xE0, 0xA0, 0xA0, 0xE0], "C and D on each, E where one ends"


def scan_of(packets: list[tuple[bytes, bytes, bytes]]) -> bytes:
    """Scan data out of RFC 2435 payloads: 8 octets of header, and quantization tables in the first."""
    data = b""
    for _, _, payload in packets:
        offset, kind, quality = int.from_bytes(payload[1:4], "big"), payload[4], payload[5]
        at = 8 + (4 if 64 <= kind <= 127 else 0)
        if offset == 0 and quality >= 128:
            at += 4 + struct.unpack_from(">H", payload, at + 2)[0]
        assert offset == len(data)
        data += payload[at:]
    return data
