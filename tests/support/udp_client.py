"""The UDP ports of an RTSP client: datagrams as they come."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.support.rtsp_client import TIMEOUT_S, Packet


class ClientPorts:
    """A pair of ports on loopback, RTP on the even one. Close it, or use it as a context."""

    def __init__(self, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self.host = host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.rtp, self.rtcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
            self.rtp.bind((host, 0))
            self.first = self.rtp.getsockname()[1]
            try:
                if self.first % 2 == 0 and self.first < 65_534:
                    self.rtcp.bind((host, self.first + 1))
                    break
            except OSError:
                pass
            self.close()
        for sock in (self.rtp, self.rtcp):
            sock.setblocking(False)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    @property
    def transport(self) -> str:
        return f"RTP/AVP;unicast;client_port={self.first}-{self.first + 1}"

    async def packet(self) -> Packet:
        """The next RTP packet."""
        async with asyncio.timeout(TIMEOUT_S):
            return Packet(0, await asyncio.get_running_loop().sock_recv(self.rtp, 65_536))

    async def packets(self, count: int) -> list[Packet]:
        return [await self.packet() for _ in range(count)]

    async def report(self) -> bytes:
        """The next RTCP datagram."""
        async with asyncio.timeout(TIMEOUT_S):
            return await asyncio.get_running_loop().sock_recv(self.rtcp, 65_536)

    def waiting(self) -> list[Packet]:
        """The RTP packets that have come already."""
        found = []
        while True:
            try:
                found.append(Packet(0, self.rtp.recv(65_536)))
            except BlockingIOError:
                return found

    def send_receiver_report(self, server_port: int) -> None:
        self.rtcp.sendto(struct.pack(">BBHI", 0x80, 201, 1, 7), (self.host, server_port))

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()

    def __enter__(self) -> ClientPorts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
