from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from nvr.config import Endpoint, Settings, from_table, load, parse_duration, parse_size
from nvr.model.errors import FormatError, OperatorError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("250ms", 250_000_000), ("10s", 10**10), ("1.5h", 5_400 * 10**9), ("30d", 2_592_000 * 10**9), ("0s", 0)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "1e3s", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(FormatError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("64MiB", 64 << 20), ("1KB", 1000), ("1.5 GB", 1_500_000_000), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "host", "port", "canonical"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"),
        ("[::1]:554", "::1", 554, "[::1]:554"),
        (":8080", "", 8080, ":8080"),
        ("recorder.example:0", "recorder.example", 0, "recorder.example:0"),
    ],
)
def test_endpoints(text: str, host: str, port: int, canonical: str) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host, port)
    assert str(endpoint) == canonical


def test_a_port_that_is_none_is_told_the_range() -> None:
    with pytest.raises(FormatError, match="a port is a number from 0 to 65535"):
        Endpoint.parse("host:99999")


def test_a_flag_does_not_hide_a_broken_setting_and_names_of_fields_do_not_show(tmp_path: Path) -> None:
    file = tmp_path / "nvr.toml"
    file.write_text("[listen]\nhttp = 8080\n")
    with pytest.raises(OperatorError, match=r"^listen\.http: text in quotes is expected, not 8080$"):
        load(file, tmp_path, http="127.0.0.1:0")
    with pytest.raises(OperatorError, match=r"^--rtsp: 'here' is not HOST:PORT"):
        load(None, tmp_path, rtsp="here")
    file.write_text('[storage]\nrotation = "0s"\n')
    with pytest.raises(OperatorError, match=r"^storage: rotation is 0; it must be above 0$"):
        load(file, tmp_path)


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:65536", "::1:80", "host:http"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(FormatError, match="is not HOST:PORT"):
        Endpoint.parse(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert Endpoint("127.0.0.9", 1).loopback
    assert Endpoint("::1", 1).loopback
    assert not Endpoint("", 1).loopback
    assert Endpoint("0:0:0:0:0:0:0:1", 1).loopback
    assert Endpoint("localhost", 1).loopback
    assert not Endpoint("192.0.2.1", 1).loopback
    assert not Endpoint("127.example.org", 1).loopback


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    wait_ns: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    queue_bytes: int = 0
    where: Path | None = None
    ratio: float = 0.5
    colour: Colour = Colour.RED
    count: int = 3

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count must be 1 or more")


def test_a_table_becomes_typed_settings() -> None:
    table = {
        "inner": {"wait": "2s", "names": ["a", "b"]},
        "several": [{"wait": 3}],
        "queue": "1KiB",
        "where": "/x",
        "ratio": 2,
    }
    assert from_table(Outer, table) == Outer(
        Inner(2 * 10**9, ("a", "b")), (Inner(3 * 10**9),), 1024, Path("/x"), 2.0, Colour.RED
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inner": {"wiat": "2s"}}, r"inner\.wiat: there is no such setting \(known here: names, wait\)"),
        ({"inner": {"wait": "soon"}}, r"inner\.wait: 'soon' is not a duration"),
        ({"several": [{"names": [1]}]}, r"several\[0\]\.names: text in quotes is expected, not 1"),
        ({"count": True}, "count: a whole number is expected, not true"),
        ({"count": 0}, "count must be 1 or more"),
        ({"colour": "blue"}, "colour: 'blue' is none of 'red'"),
        ({"inner": 1}, "inner: a table is expected"),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        from_table(Outer, table)


EXAMPLE = Path(__file__).parent.parent / "config" / "nvr.example.toml"


def uncommented(text: str) -> str:
    """The example with every setting that it shows commented out switched on."""
    return re.sub(r"(?m)^# (\[\[.*\]\]|\w+ = .*)$", r"\1", text)


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    assert load(EXAMPLE, tmp_path) == load(None, tmp_path)


def test_the_example_names_every_setting_and_nothing_else(tmp_path: Path) -> None:
    table = tomllib.loads(uncommented(EXAMPLE.read_text(encoding="utf-8")))
    table["storage"]["registry"] = ""

    def compare(cls: type, given: dict[str, object], where: str) -> None:
        hints = typing.get_type_hints(cls)
        names = {f.name.removesuffix("_ns").removesuffix("_bytes"): f.name for f in dataclasses.fields(cls)}
        assert set(given) == set(names), where
        for key, value in given.items():
            hint = hints[names[key]]
            if isinstance(value, dict):
                compare(hint, value, f"{where}{key}.")
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                compare(typing.get_args(hint)[0], value[0], f"{where}{key}.")

    compare(Settings, table, "")


def test_flags_override_the_file(tmp_path: Path) -> None:
    settings = load(EXAMPLE, tmp_path, http="127.0.0.1:0", rtsp="[::1]:0")
    assert settings.listen.http == Endpoint("127.0.0.1", 0)
    assert settings.listen.rtsp == Endpoint("::1", 0)


def test_relative_volumes_lie_in_the_data_directory(tmp_path: Path) -> None:
    file = tmp_path / "nvr.toml"
    file.write_text('[[storage.volumes]]\nroot = "a"\n[[storage.volumes]]\nroot = "/b"\nminimum_free = "2GB"\n')
    first, second = load(file, tmp_path / "data").storage.volumes
    assert first.root == tmp_path / "data" / "a"
    assert (second.root, second.minimum_free_bytes) == (Path("/b"), 2 * 10**9)


def test_recordings_have_quotas_and_volumes_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "nvr.toml"
    file.write_text(
        '[storage]\nrecording_quota = "1TB"\nreserve = "2GiB"\noverwrite = false\n'
        '[[storage.volumes]]\nroot = "a"\nquota = "10GB"\ndedicated = true\n'
        '[[storage.recordings]]\nrecording = "rec-1"\nquota = "5GB"\nvolumes = ["a"]\n'
        '[[storage.recordings]]\nrecording = "rec-2"\n'
    )
    storage = load(file, tmp_path / "data").storage
    assert (storage.recording_quota_bytes, storage.reserve_bytes, storage.overwrite) == (10**12, 2 << 30, False)
    assert (storage.volumes[0].quota_bytes, storage.volumes[0].dedicated) == (10**10, True)
    first, second = storage.recordings
    assert (first.quota_bytes, first.volumes) == (5 * 10**9, (tmp_path / "data" / "a",))
    assert (second.quota_bytes, second.volumes) == (None, ())
    file.write_text('[[storage.recordings]]\nrecording = "rec-1"\nvolumes = ["elsewhere"]\n')
    with pytest.raises(OperatorError, match="no configured volume"):
        load(file, tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[storage", "is not TOML"),
        ('[http]\nkey = "server.key"\n', "certificate and key belong together"),
        ('[log]\nlevel = "loud"\n', "log: level 'loud' is none of"),
        ("[storage]\nvolumes = []\n", "no volume is configured"),
        ('[auth]\ndigest_algorithms = ["MD4"]\n', "'MD4' is none of 'MD5', 'SHA-256'"),
        ("storage = 3\n", "storage: a table is expected"),
    ],
)
def test_a_configuration_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "nvr.toml"
    file.write_text(text)
    with pytest.raises(OperatorError, match=re.escape(message)):
        load(file, tmp_path)


def test_a_certificate_alone_opens_the_default_ports_of_tls_and_a_named_listener_opens_only_itself(
    tmp_path: Path,
) -> None:
    file = tmp_path / "nvr.toml"
    http = '[http]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    file.write_text('[listen]\nhttp = "192.0.2.1:80"\n' + http)
    listen = load(file, tmp_path).listen
    assert listen.secure() == (Endpoint("192.0.2.1", 8443), Endpoint("127.0.0.1", 8322))
    file.write_text('[listen]\nrtsps = "127.0.0.1:1"\n' + http)
    listen = load(file, tmp_path).listen
    assert listen.secure() == (Endpoint("127.0.0.1", 1),)
    assert load(None, tmp_path).listen.secure() == ()


def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot read the configuration file"):
        load(tmp_path / "absent.toml", tmp_path)


def test_a_relative_data_directory_is_taken_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, Path("data")) == load(None, tmp_path / "data")
    (volume,) = load(None, Path("data")).storage.volumes
    assert volume.root == tmp_path / "data" / "volumes" / "default"
