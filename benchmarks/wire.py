"""Microseconds of CPU for what a connection costs beside its media: packets off the fast way, messages, credentials.

    .venv/bin/python -m benchmarks.wire

Peers, where there is one that does the same work in the same run: dpkt for the RTP header (it leaves extension and
padding in the payload, so it does less) and aiortsp for RTSP messages and session descriptions. The best of several
rounds counts, for the machine may be busy with other things.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dpkt
from aiortsp.rtsp.parser import RTSPParser
from aiortsp.rtsp.sdp import SDP

from nvr.auth.client import ClientCredentials
from nvr.auth.digest import RTSP_POLICY, DigestServer, ha1
from nvr.media.rtcp import ReportBlock, SenderReport, SourceDescription, parse_compound
from nvr.media.rtp import RtpExtension, RtpPacket, payload_bounds
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import MessageParser, Response
from nvr.media.sdp import SessionDescription
from nvr.media.sequence import SequenceOrder

ROUNDS = 7
PACKET = bytes(RtpPacket(96, 1, 2, 3, bytes(1400)))
EXTENDED = bytes(RtpPacket(96, 1, 2, 3, bytes(1400), extension=RtpExtension(0xABAC, bytes(12)), padding=4))
DESCRIPTION = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.8\r\ns=Media\r\nt=0 0\r\na=control:*\r\n"
    b"m=video 0 RTP/AVP 96\r\na=control:trackID=1\r\na=rtpmap:96 H264/90000\r\n"
    b"a=fmtp:96 packetization-mode=1;profile-level-id=420029;sprop-parameter-sets=Z01AHppmAgBDL/gLUBAQFAg=,aO48gA==\r\n"
    b"m=audio 0 RTP/AVP 8\r\na=control:trackID=2\r\na=rtpmap:8 PCMA/8000\r\n"
)
ANSWER = bytes(
    Response(
        200,
        Headers(
            [
                ("CSeq", "4"),
                ("Session", "12345678;timeout=60"),
                ("Range", "clock=20260101T100000Z-"),
                ("RTP-Info", "url=rtsp://h/a;seq=5000;rtptime=6670000,url=rtsp://h/b;seq=1;rtptime=2"),
            ]
        ),
    )
)
REPORTS = bytes(SenderReport(1, 2, 3, 4, 5, (ReportBlock(1, 2, 3, 4, 5),))) + bytes(
    SourceDescription.cname(1, "camera")
)
NOW_NS = 1_767_261_600 * 10**9


def cost(work: Callable[[], object], count: int) -> float:
    """Microseconds a call."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(count):
            work()
        best = min(best, time.process_time_ns() - start)
    return best / count / 1000


def fast_way(packets: int = 1000) -> None:
    order: SequenceOrder[bytes] = SequenceOrder()
    order.push(0, 7, b"")
    ssrc = 7
    for n in range(1, packets):
        sequence = n & 0xFFFF
        if sequence == order.in_order and ssrc == order.ssrc:
            order.in_order = (sequence + 1) & 0xFFFF


def every_other_displaced(packets: int = 1000) -> None:
    order: SequenceOrder[bytes] = SequenceOrder(window=32)
    for n in range(0, packets, 2):
        order.push(n + 1 & 0xFFFF, 7, b"")
        order.push(n & 0xFFFF, 7, b"")


def message() -> None:
    parser = MessageParser()
    parser.feed(ANSWER)
    assert parser.next_event() is not None


def message_by_aiortsp() -> None:
    parser = RTSPParser()
    assert list(parser.parse(ANSWER))


def main() -> None:
    server = DigestServer("nvr", lambda name, algorithm: ha1(algorithm, name, "nvr", "password"), RTSP_POLICY)
    client = ClientCredentials("admin", "password")
    client.challenged(server.challenges(NOW_NS))

    def digest() -> None:
        assert server.verify("PLAY", "rtsp://h/x", client.authorization("PLAY", "rtsp://h/x"), NOW_NS)

    rows: list[tuple[str, float, float | None]] = [
        ("payload_bounds, plain packet", cost(lambda: payload_bounds(PACKET, 0, len(PACKET)), 20_000), None),
        (
            "payload_bounds, extension and padding",
            cost(lambda: payload_bounds(EXTENDED, 0, len(EXTENDED)), 20_000),
            None,
        ),
        ("RtpPacket.parse", cost(lambda: RtpPacket.parse(EXTENDED), 5000), cost(lambda: dpkt.rtp.RTP(EXTENDED), 5000)),
        ("order of a packet, fast way", cost(fast_way, 50) / 1000, None),
        ("order of a packet, every other displaced", cost(every_other_displaced, 20) / 1000, None),
        ("RTCP sender report and description", cost(lambda: parse_compound(REPORTS), 5000), None),
        ("RTSP answer to PLAY", cost(message, 2000), cost(message_by_aiortsp, 2000)),
        (
            "session description",
            cost(lambda: SessionDescription.parse(DESCRIPTION), 500),
            cost(lambda: SDP(DESCRIPTION.decode()), 500),
        ),
        ("Digest, answered and verified", cost(digest, 2000), None),
    ]
    print(f"{'us of CPU each':44}{'here':>8}{'peer':>8}")
    for name, here, peer in rows:
        print(f"{name:44}{here:8.2f}{'' if peer is None else f'{peer:8.2f}'}")


if __name__ == "__main__":
    main()
