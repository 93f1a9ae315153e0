"""Where the RTSP server is, as a client of the web services sees it."""

from __future__ import annotations

from dataclasses import dataclass

from nvr.soap.service import Call


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """URIs name the host by which the client reached the service, and the ports of the listeners.

    A client that came over HTTPS gets rtsps, where there is such a listener: who has asked for secrecy shall not get
    footage in the clear. Without one it gets rtsp, as every other client does.
    `public` and `public_tls` (HOST or HOST:PORT, IPv6 in brackets) replace host and port behind a translation of
    addresses. Where `public` names a port, `public_tls` has to be given for rtsps: its port cannot be guessed.
    """

    port: int
    tls_port: int | None = None
    public: str | None = None
    public_tls: str | None = None

    def uri(self, call: Call, path: str) -> str:
        """The URI of a path, which begins with a slash."""
        if call.origin.startswith("https:"):
            authority = self._tls_authority(call.host)
            if authority is not None:
                return f"rtsps://{authority}{path}"
        return f"rtsp://{_with_port(self.public or call.host, self.port)}{path}"

    def _tls_authority(self, host: str) -> str | None:
        if self.tls_port is None:
            return None
        if self.public_tls is not None:
            return _with_port(self.public_tls, self.tls_port)
        if self.public is not None and _has_port(self.public):
            return None
        return _with_port(self.public or host, self.tls_port)


def _has_port(authority: str) -> bool:
    return ":" in authority.rpartition("]")[2]


def _with_port(authority: str, port: int) -> str:
    return authority if _has_port(authority) else f"{authority}:{port}"
