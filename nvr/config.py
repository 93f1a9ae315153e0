"""Settings: one TOML file, read once, into the frozen settings classes that the rooms own.

A setting's key in the file is the field's name without its unit: `rotation_ns` is `rotation = "5m"`, `queue_bytes` is
`queue = "64MiB"`. A key that no class knows is an error, because a setting that nobody reads misleads.
The environment is read here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from nvr.auth.digest import Algorithm
from nvr.auth.lockout import LockoutSettings
from nvr.auth.users import PasswordPolicy
from nvr.control.state import ControlSettings
from nvr.discovery.links import DiscoverySettings
from nvr.events.settings import EventSettings
from nvr.http.settings import HttpSettings
from nvr.ingest.settings import IngestSettings
from nvr.model.errors import FormatError, OperatorError
from nvr.model.time import NS
from nvr.replay.server import RtspSettings
from nvr.search.sessions import SearchSettings
from nvr.soap.device import DeviceSettings
from nvr.soap.replay import ReplaySettings
from nvr.sources.cameras import CameraSettings
from nvr.storage.settings import StorageSettings

T = TypeVar("T")

ADMIN_PASSWORD_VARIABLE = "NVR_ADMIN_PASSWORD"  # noqa: S105  the name of the variable, not a password
CAMERA_PASSWORD_VARIABLE = "NVR_CAMERA_PASSWORD"  # noqa: S105

HTTPS_PORT = 8443
RTSPS_PORT = 8322
"""RTSP over TLS; IANA has registered 322, which needs a privilege."""

_DURATION_UNITS = {"ms": NS // 1000, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS}
_SIZE_UNITS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))? ?([A-Za-z]*)", re.ASCII)


def parse_duration(text: str) -> int:
    """`250ms`, `10s`, `1.5h`, `30d` to nanoseconds. Raises FormatError."""
    return _quantity(text, _DURATION_UNITS, "a duration such as 250ms, 10s, 5m, 12h or 30d")


def parse_size(text: str) -> int:
    """`64MiB`, `1.5TB`, `4096` to bytes. Raises FormatError."""
    return _quantity(text, _SIZE_UNITS, "a size such as 64MiB, 10GB or 4096")


def _quantity(text: str, units: dict[str, int], form: str) -> int:
    m = _QUANTITY.fullmatch(text.strip())
    if m is None or m[3] not in units:
        raise FormatError(f"{text!r} is not {form}")
    decimals = m[2] or ""
    return int(int(m[1] + decimals) * units[m[3]] // 10 ** len(decimals))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a TCP port to listen on. Port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`127.0.0.1:8080`, `[::1]:8080`, `:8080` (all interfaces). Raises FormatError."""
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isascii() or not port.isdigit() or (":" in host and not bracketed):
            raise FormatError(f"{text!r} is not HOST:PORT (an IPv6 address stands in brackets)")
        if len(port) > 5 or int(port) > 65535:
            raise FormatError(f"{text!r} is not HOST:PORT: a port is a number from 0 to 65535")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name: what it means is up to the resolver, but for this one (RFC 6761 6.3)
            return self.host.lower() == "localhost"

    @property
    def ip_version6(self) -> bool:
        """Whether IPv6 is listened to: an IPv6 address, or no host, which stands for all interfaces."""
        return not self.host or ":" in self.host


def from_table(cls: type[T], table: dict[str, Any], where: str = "") -> T:
    """A settings dataclass from a TOML table. Raises OperatorError that names the key and what is wrong with it."""
    hints = typing.get_type_hints(cls)
    fields = {_key(f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        known = ", ".join(sorted(fields))
        raise OperatorError(f"{where}{unknown[0]}: there is no such setting (known here: {known})")
    values = {}
    for key, value in table.items():
        name = fields[key].name
        try:
            values[name] = _value(hints[name], name, value, f"{where}{key}")
        except FormatError as e:
            raise OperatorError(f"{where}{key}: {e}") from e
    try:
        return cls(**values)
    except (TypeError, ValueError) as e:
        text = str(e)
        for f in fields.values():  # as they stand in the file
            text = re.sub(rf"\b{f.name}\b", _key(f.name), text)
        raise OperatorError(f"{where.rstrip('.') or 'configuration'}: {text}") from e


def _key(name: str) -> str:
    return name.removesuffix("_ns").removesuffix("_bytes")


def _value(hint: Any, name: str, value: object, where: str) -> object:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise FormatError("a list is expected")
        item = typing.get_args(hint)[0]
        return tuple(_value(item, name, v, f"{where}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint) and hint is not Endpoint:
        if not isinstance(value, dict):
            raise FormatError("a table is expected")
        return from_table(typing.cast("type[Any]", hint), value, f"{where}.")
    if name.endswith("_ns"):
        return parse_duration(value if isinstance(value, str) else f"{value!r}s")
    if name.endswith("_bytes"):
        return parse_size(str(value))
    if hint is Endpoint:
        return Endpoint.parse(_of(str, value))
    if hint is Path:
        return Path(_of(str, value))
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise FormatError(f"{value!r} is none of {', '.join(repr(m.value) for m in hint)}") from None
    return _of(hint, value)


def _of(kind: type[T], value: object) -> T:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return typing.cast("T", float(value))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise FormatError(f"{_KINDS.get(kind, kind.__name__)} is expected, not {_as_in_file(value)}")
    return value


_KINDS: dict[type, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _as_in_file(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`level` is a name of Python's logging: debug, info, warning, error."""

    level: str = "info"

    def __post_init__(self) -> None:
        if self.level.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError(f"level {self.level!r} is none of debug, info, warning, error")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How credentials are taken."""

    digest_algorithms: tuple[Algorithm, ...] = (Algorithm.MD5,)
    """Offered over HTTP and RTSP in this order. SHA-256 is stronger; some clients fail when they see it at all."""
    username_token_skew_ns: int = 300 * NS
    """How far the time of a WS-UsernameToken may lie from the daemon's."""
    passwords: PasswordPolicy = field(default_factory=PasswordPolicy)
    lockout: LockoutSettings = field(default_factory=LockoutSettings)

    def __post_init__(self) -> None:
        if not self.digest_algorithms or len(set(self.digest_algorithms)) != len(self.digest_algorithms):
            raise ValueError("digest_algorithms names each algorithm once, and at least one")
        if self.username_token_skew_ns <= 0:
            raise ValueError("username_token_skew must be above 0")


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the daemon listens. `https` and `rtsps` use the certificate of [http], or else a self-signed one.

    A certificate without either of them opens both, on the hosts of `http` and `rtsp` and the default ports.
    """

    http: Endpoint = Endpoint("127.0.0.1", 8080)
    https: Endpoint | None = None
    rtsp: Endpoint = Endpoint("127.0.0.1", 8554)
    rtsps: Endpoint | None = None

    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(e for e in (self.http, self.https, self.rtsp, self.rtsps) if e is not None)

    def secure(self) -> tuple[Endpoint, ...]:
        """Those that speak TLS."""
        return tuple(e for e in (self.https, self.rtsps) if e is not None)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; one table of the file each."""

    storage: StorageSettings
    listen: ListenSettings = field(default_factory=ListenSettings)
    log: LogSettings = field(default_factory=LogSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    rtsp: RtspSettings = field(default_factory=RtspSettings)
    control: ControlSettings = field(default_factory=ControlSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    cameras: CameraSettings = field(default_factory=CameraSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    events: EventSettings = field(default_factory=EventSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    auth: AuthSettings = field(default_factory=AuthSettings)


def load(file: Path | None, data: Path, *, http: str | None = None, rtsp: str | None = None) -> Settings:
    """Settings from a TOML file, or the defaults without one; `http` and `rtsp` override. Raises OperatorError.

    Relative volume roots are taken from the data directory.
    """
    data = data.absolute()
    table: dict[str, Any] = {}
    if file is not None:
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as e:
            raise OperatorError(f"cannot read the configuration file {file}: {e.strerror}") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise OperatorError(f"{file} is not TOML: {e}") from e
    table["storage"] = _storage_table(table.get("storage", {}), data)
    settings = from_table(Settings, table)
    for name, text in (("http", http), ("rtsp", rtsp)):  # a broken setting is told though a flag overrides it
        if text is not None:
            try:
                endpoint = Endpoint.parse(text)
            except FormatError as e:
                raise OperatorError(f"--{name}: {e}") from e
            settings = dataclasses.replace(settings, listen=dataclasses.replace(settings.listen, **{name: endpoint}))
    if settings.http.certificate is not None and not settings.listen.secure():
        plain = settings.listen
        https, rtsps = Endpoint(plain.http.host, HTTPS_PORT), Endpoint(plain.rtsp.host, RTSPS_PORT)
        settings = dataclasses.replace(settings, listen=dataclasses.replace(plain, https=https, rtsps=rtsps))
    return settings


def _storage_table(table: Any, data: Path) -> Any:
    if not isinstance(table, dict):
        return table
    if "registry" in table:
        raise OperatorError("storage.registry: there is no such setting; the registry stands in the data directory")
    volumes = table.get("volumes", [{"root": str(data / "volumes" / "default")}])
    if isinstance(volumes, list):
        volumes = [
            {**v, "root": str(data / str(v["root"]))} if isinstance(v, dict) and "root" in v else v for v in volumes
        ]
    recordings = table.get("recordings", [])
    if isinstance(recordings, list):
        recordings = [
            {**r, "volumes": [str(data / str(root)) for root in r["volumes"]]}
            if isinstance(r, dict) and isinstance(r.get("volumes"), list)
            else r
            for r in recordings
        ]
    return {**table, "volumes": volumes, "recordings": recordings, "registry": str(data / "volumes.json")}


def camera_password() -> str | None:
    """The password of a camera for `nvr camera change --password`, from the environment."""
    return os.environ.get(CAMERA_PASSWORD_VARIABLE) or None


def admin_password() -> str | None:
    """The password for a first administrator, from the environment."""
    return os.environ.get(ADMIN_PASSWORD_VARIABLE) or None
