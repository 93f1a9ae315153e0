"""By which address a client has reached the device, so that addresses in answers work for it (NAT, HTTPS, names)."""

from __future__ import annotations

import re

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")


def origin(scheme: str, host_header: str | None, local: tuple[str, int]) -> tuple[str, str]:
    """Scheme, host and port as one prefix for addresses, and the host alone (in brackets for IPv6).

    A Host header that is absent or no host is replaced by the address at which the connection arrived: what a client
    writes there must not get into documents unseen.
    """
    match = _HOST.fullmatch(host_header.strip()) if host_header else None
    if match is not None and int(match[2] or 0) <= 65535:
        return f"{scheme}://{match[0]}", match[1]
    host = f"[{local[0]}]" if ":" in local[0] else local[0]
    return f"{scheme}://{host}:{local[1]}", host
