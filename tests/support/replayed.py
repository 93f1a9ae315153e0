"""What a replay delivers, put together again by hand: no code of the recorder takes part."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.daemon import ADMIN, PASSWORD
from tests.support.rtsp_client import Packet, RtspClient

NTP_TO_UNIX_S = 2_208_988_800


@dataclass
class ReplayedUnit:
    """One access unit: its time from the replay extension, the flags of its packets together, its payloads."""

    utc_ns: int
    flags: str
    payloads: list[bytes] = field(default_factory=list)

    def h264(self) -> list[bytes]:
        """NAL units (RFC 6184: single NAL units and FU-A)."""
        units: list[bytes] = []
        for payload in self.payloads:
            if payload[0] & 31 == 28:
                if payload[1] & 0x80:
                    units.append(bytes([payload[0] & 0xE0 | payload[1] & 31]))
                units[-1] += payload[2:]
            else:
                units.append(payload)
        return units

    def h265(self) -> list[bytes]:
        """NAL units (RFC 7798: single NAL units and FU)."""
        units: list[bytes] = []
        for payload in self.payloads:
            if payload[0] >> 1 & 63 == 49:
                if payload[2] & 0x80:
                    units.append(bytes([payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]]))
                units[-1] += payload[3:]
            else:
                units.append(payload)
        return units

    def aac(self) -> bytes:
        """The one frame (RFC 3640, AAC-hbr: AU-headers-length and one AU-header in each packet)."""
        for payload in self.payloads:
            assert payload[:2] == b"\x00\x10"
        return b"".join(payload[4:] for payload in self.payloads)


def utc_of(ntp: int) -> int:
    """Nanoseconds since 1970 of a 64-bit NTP time stamp of era 0."""
    return ((ntp >> 32) - NTP_TO_UNIX_S) * 10**9 + ((ntp & 0xFFFFFFFF) * 10**9 >> 32)


async def replay(uri: str, track: str, **headers: str) -> list[ReplayedUnit]:
    """One track of a recording that has ended, with Rate-Control: no, up to the packet with flag T."""
    parts = urlsplit(uri)
    assert parts.port is not None
    client = await RtspClient.connect(parts.port)
    client.credentials = (ADMIN, PASSWORD)
    try:
        answer = await client.request("DESCRIBE", uri, Accept="application/sdp")
        assert answer.status == 200, answer
        await client.set_up(parts.path, track)
        answer = await client.request("PLAY", uri, **{"Range": "npt=0-", "Rate_Control": "no", **headers})
        assert answer.status == 200, answer
        units: list[ReplayedUnit] = []
        expected: int | None = None
        while True:
            packet = await client.packet()
            assert expected is None or packet.seq == expected, "the replay has a hole in its sequence numbers"
            expected = packet.seq + 1 & 0xFFFF
            if _collect(units, packet):
                return units
    finally:
        await client.close()


def _collect(units: list[ReplayedUnit], packet: Packet) -> bool:
    """Adds a packet to its unit; True behind the last one. Only the first packet of a unit must carry its time."""
    if packet.ntp is not None:
        utc_ns = utc_of(packet.ntp)
        if not units or units[-1].utc_ns != utc_ns:
            units.append(ReplayedUnit(utc_ns, ""))
        units[-1].flags += packet.flags
    units[-1].payloads.append(packet.payload)
    return "T" in (packet.flags if packet.word3 is not None else "")
