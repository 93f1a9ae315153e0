"""Questions of discovery as clients send them, and the hearing of a client on a free port of the loopback."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

from lxml import etree

from nvr.discovery.message import ENV, GROUP, WSA, WSD

NS = {"env": ENV, "wsa": WSA, "d": WSD}


def request(action: str, body: str, message_id: str = "urn:uuid:1", header: str = "") -> bytes:
    return (
        f'<e:Envelope xmlns:e="{ENV}" xmlns:a="{WSA}" xmlns:d="{WSD}"><e:Header><a:Action>{WSD}/{action}</a:Action>'
        f"<a:MessageID>{message_id}</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>{header}"
        f"</e:Header><e:Body>{body}</e:Body></e:Envelope>"
    ).encode()


def probe(
    types: str | None = None,
    scopes: str | None = None,
    match_by: str | None = None,
    *,
    more: str = "",
    message_id: str = "urn:uuid:1",
    header: str = "",
) -> bytes:
    """`more` are declarations of prefixes for `types`."""
    rule = "" if match_by is None else f' MatchBy="{match_by}"'
    inner = "" if types is None else f"<d:Types {more}>{types}</d:Types>"
    inner += "" if scopes is None else f"<d:Scopes{rule}>{scopes}</d:Scopes>"
    return request("Probe", f"<d:Probe>{inner}</d:Probe>", message_id, header)


def resolve(address: str, message_id: str = "urn:uuid:1") -> bytes:
    reference = f"<a:EndpointReference><a:Address>{address}</a:Address></a:EndpointReference>"
    return request("Resolve", f"<d:Resolve>{reference}</d:Resolve>", message_id)


def free_port() -> int:
    """A UDP port that nobody has now, at the loopback address and at the group's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


class Heard:
    """One message that a client has heard."""

    def __init__(self, datagram: bytes, peer: tuple[str, int]) -> None:
        self.peer = peer
        self.root = etree.fromstring(datagram)

    @property
    def action(self) -> str:
        return (self.root.findtext("env:Header/wsa:Action", namespaces=NS) or "").rpartition("/")[2]

    @property
    def message_id(self) -> str:
        return self.root.findtext("env:Header/wsa:MessageID", namespaces=NS) or ""

    @property
    def sequence(self) -> tuple[int, int]:
        element = self.root.find("env:Header/d:AppSequence", NS)
        return int(element.get("InstanceId")), int(element.get("MessageNumber"))

    def text(self, name: str) -> str:
        """Text of the first element with this name in the body."""
        return self.root.findtext(f"env:Body//{name}", namespaces=NS) or ""


class Client(asyncio.DatagramProtocol):
    """Sends to the group and to single addresses, over the loopback; hears what is sent to it and, if told, to the
    group. Messages that are repeated are heard once."""

    def __init__(self, port: int, *, group: bool = False) -> None:
        self._port = port
        self._group = group
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._seen: set[str] = set()
        self.repeated = 0

    async def __aenter__(self) -> Self:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        if self._group:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            membership = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            sock.bind((GROUP, self._port))
        else:
            sock.bind(("127.0.0.1", 0))
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=sock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        heard = Heard(data, addr)
        if heard.message_id in self._seen:
            self.repeated += 1
            return
        self._seen.add(heard.message_id)
        self._heard.put_nowait(heard)

    def ask(self, datagram: bytes, *, group: bool = True) -> None:
        self._transport.sendto(datagram, (GROUP if group else "127.0.0.1", self._port))

    async def next(self, action: str, timeout_s: float = 10) -> Heard:
        """The next message with this action; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while (heard := await self._heard.get()).action != action:
                pass
            return heard

    def rest(self) -> list[str]:
        """The actions of what has been heard and not been looked at."""
        return [self._heard.get_nowait().action for _ in range(self._heard.qsize())]

    def nothing(self) -> bool:
        return self._heard.empty()
