"""Sender reports by mode (IEC 62676-2-32 8.11), on every transport."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nvr.media.rtcp import SenderReport, SourceDescription, parse_compound
from nvr.model.time import NS, utc_from_ntp
from nvr.model.tokens import VIDEO001
from tests.replay.conftest import PATH, Serve, worked_example
from tests.support.rtsp_client import RtspClient
from tests.support.udp_client import ClientPorts


@pytest.fixture
def ports() -> Iterator[ClientPorts]:
    with ClientPorts() as found:
        yield found


def report_of(data: bytes) -> SenderReport:
    report, name = parse_compound(data)
    assert isinstance(report, SenderReport)
    assert isinstance(name, SourceDescription)
    assert name.chunks[0][0] == report.ssrc
    return report


@pytest.mark.requirement("PB-8.11-02", "PB-8.11-03")
@pytest.mark.parametrize("transport", ["interleaved", "UDP"])
async def test_without_rate_control_both_times_are_zero_and_with_it_they_are_of_now(
    serve: Serve, ports: ClientPorts, transport: str
) -> None:
    client: RtspClient = await (await serve({VIDEO001: worked_example()})).client()
    over_udp = transport == "UDP"
    offered = ports.transport if over_udp else "RTP/AVP/TCP;unicast;interleaved=0-1"
    client.session = (await client.request("SETUP", f"{PATH}/VIDEO001", Transport=offered))["Session"].split(";")[0]
    for sent in (0, 16):
        wanted = {"Range": "clock=20260101T100000Z-", "Immediate": "yes", "Rate_Control": "no"}
        assert (await client.request("PLAY", PATH, **wanted)).status == 200
        report = report_of(await ports.report() if over_udp else (await client.report())[1])
        packets = await (ports if over_udp else client).packets(16)
        assert (report.ntp, report.rtp_time) == (0, 0)
        assert (report.ssrc, report.packets) == (packets[0].ssrc, sent)
    answer = await client.request("PLAY", PATH, Range="clock=20260101T100000Z-", Immediate="yes")
    report = report_of(await ports.report() if over_udp else (await client.report())[1])
    packet = await (ports if over_udp else client).packet()
    assert abs(utc_from_ntp(report.ntp) - time.time_ns()) < 60 * NS
    assert f"rtptime={packet.rtp_time}" in answer["RTP-Info"]
    assert (report.rtp_time - packet.rtp_time + 2**31) % 2**32 - 2**31 < 90_000 * 60
