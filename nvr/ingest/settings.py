"""What can be set about ingest, and where time comes from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nvr.ingest.clock import ClockSettings
from nvr.ingest.pipeline import PipelineSettings
from nvr.model.time import NS


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Durations in nanoseconds, sizes in bytes."""

    connect_timeout_ns: int = 10 * NS
    """For TCP and TLS together."""
    request_timeout_ns: int = 10 * NS
    """For the answer to one RTSP request."""
    no_data_timeout_ns: int = 10 * NS
    """A session without any packet, or whose video has stopped, for this long is given up."""
    teardown_timeout_ns: int = 1 * NS
    keep_alive_ns: int = 30 * NS
    """The longest pause between keep-alives; half of the session's time-out when that is shorter."""
    report_interval_ns: int = 5 * NS
    """Between receiver reports (RFC 3550 6.2: not below 5 s without bandwidth arithmetic)."""
    drain_interval_ns: int = 250_000_000
    """Between two drains of a source that is only recorded."""
    live_interval_ns: int = 30_000_000
    """The same while somebody watches, and until the clock of the source is fixed."""
    receive_buffer_bytes: int = 1 << 20
    """SO_RCVBUF: a drain interval of the fastest stream and an I-frame."""
    udp_receive_buffer_bytes: int = 4 << 20
    """The same for each stream over UDP, where a full buffer is lost footage. The kernel counts about twice the size of
    a datagram."""
    udp_first_port: int = 0
    """The range of ports on which RTP over UDP is received, for a firewall; 0: the kernel chooses."""
    udp_last_port: int = 0
    udp_silence_ns: int = 5 * NS
    """How long a session over UDP may be without a single packet before the connection is made over TCP."""
    reorder_window: int = 64
    """Packets over UDP that wait for a late one ..."""
    reorder_hold_ns: int = 100_000_000
    """... and how long they do."""
    transport_fallback: bool = True
    """Whether TCP is taken where a camera refuses UDP or nothing comes over it, and UDP where it refuses TCP."""
    back_off_ns: int = 2 * NS
    """Pause behind the first failed attempt; doubles with every further one."""
    back_off_maximum_ns: int = 60 * NS
    refused_back_off_ns: int = 60 * NS
    """The same behind attempts in which the camera has refused the password: many cameras lock an account."""
    refused_back_off_maximum_ns: int = 600 * NS
    configure_grace_ns: int = 5 * NS
    """How long tracks stay Active while a reconfigured receiver connects anew."""
    hand_over_ns: int = 10 * NS
    """How long the receiver of an outranked job records on in a track while the new one has no picture yet."""
    maximum_redirects: int = 3
    maximum_streams: int = 16
    tls_verify: bool = True
    """Whether the certificate of an rtsps source must be valid. Many cameras have one that is not."""
    tls_ca_file: Path | None = None
    """Certificates to trust beside the system's."""
    tls_fingerprints: tuple[str, ...] = ()
    """SHA-256 fingerprints of certificates to trust as they are, for cameras with certificates of their own making."""
    clock: ClockSettings = field(default_factory=ClockSettings)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_ns",
            "request_timeout_ns",
            "no_data_timeout_ns",
            "teardown_timeout_ns",
            "keep_alive_ns",
            "report_interval_ns",
            "drain_interval_ns",
            "live_interval_ns",
            "receive_buffer_bytes",
            "back_off_ns",
            "back_off_maximum_ns",
            "refused_back_off_ns",
            "refused_back_off_maximum_ns",
            "udp_receive_buffer_bytes",
            "udp_silence_ns",
            "maximum_streams",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if min(self.configure_grace_ns, self.hand_over_ns, self.maximum_redirects) < 0:
            raise ValueError("configure_grace, hand_over and maximum_redirects must not be below 0")
        if not 0 <= self.reorder_window <= 1000 or self.reorder_hold_ns < 0:
            raise ValueError("reorder_window must be 0 to 1000 packets, and reorder_hold not below 0")
        if (self.udp_first_port, self.udp_last_port) != (0, 0) and not (
            0 < self.udp_first_port + self.udp_first_port % 2 < self.udp_last_port <= 65_535
        ):
            raise ValueError("udp_first_port and udp_last_port must be a range that holds an even port and the next")


@dataclass(frozen=True, slots=True)
class Times:
    """The daemon's clocks, in nanoseconds; replaced in tests."""

    utc: Callable[[], int] = time.time_ns
    monotonic: Callable[[], int] = time.monotonic_ns
