from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nvr.soap.wsdl import contract_directory
from nvr.sources.ask import Outcome, Question, ask

WSDL = str(contract_directory() / "devicemgmt.wsdl")
TIME = b"""<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:d="http://www.onvif.org/ver10/device/wsdl"
 xmlns:t="http://www.onvif.org/ver10/schema"><s:Body><d:GetSystemDateAndTimeResponse><d:SystemDateAndTime>
 <t:DateTimeType>NTP</t:DateTimeType><t:DaylightSavings>false</t:DaylightSavings><t:UTCDateTime><t:Time><t:Hour>1
 </t:Hour><t:Minute>2</t:Minute><t:Second>3</t:Second></t:Time><t:Date><t:Year>2001</t:Year><t:Month>2</t:Month>
 <t:Day>3</t:Day></t:Date></t:UTCDateTime></d:SystemDateAndTime></d:GetSystemDateAndTimeResponse></s:Body></s:Envelope>"""


class Heard:
    """A server that tells the time, and answers everything else with one status; and what has been sent to it."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, headers
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.address = ""

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        body = to.rfile.read(int(to.headers.get("Content-Length", 0)))
        self.requests.append((dict(to.headers), body))
        tells = b"GetSystemDateAndTime" in body
        to.send_response(200 if tells else self.status)
        for name, value in self.headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("Content-Type", "application/soap+xml")
        to.send_header("Content-Length", str(len(TIME) if tells else 0))
        to.end_headers()
        to.wfile.write(TIME if tells else b"")


@contextmanager
def listening(heard: Heard) -> Iterator[Heard]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.answer(self)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    heard.address = f"http://127.0.0.1:{server.server_port}/onvif/device_service"
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def question(*addresses: str) -> Question:
    return Question(addresses, WSDL, 30, "viewer", "very secret")


def test_the_password_stays_with_the_camera_and_is_never_sent_as_it_is() -> None:
    """Neither to a camera that asks for Basic, nor to where another one sends us; and a token has the camera's time."""
    with listening(Heard(200)) as elsewhere, listening(Heard(401, WWW_Authenticate='Basic realm="x"')) as basic:
        with listening(Heard(307, Location=elsewhere.address)) as redirects:
            for camera in (basic, redirects):
                answer = ask(question(camera.address))
                assert (answer.outcome, answer.description) == (Outcome.REFUSED, None)
                assert "very secret" not in answer.why
        sent = basic.requests + redirects.requests
    assert elsewhere.requests == []
    assert len(sent) == 6
    assert all("Authorization" not in headers and b"very secret" not in body for headers, body in sent)
    asking = [body for _, body in sent if b"GetDeviceInformation" in body]
    assert all(b"PasswordDigest" in body and b"2001-02-03T01:02:03Z" in body for body in asking)
    assert all(b"viewer" not in body for _, body in sent if b"GetSystemDateAndTime" in body)


def test_the_next_address_is_asked_where_one_is_no_device_service() -> None:
    class Garbage(Heard):
        def answer(self, to: BaseHTTPRequestHandler) -> None:
            to.wfile.write(b"220 ready\r\n")
            to.close_connection = True

    with listening(Garbage(200)) as garbage, listening(Heard(403)) as camera:
        assert ask(question(garbage.address)).outcome is Outcome.SILENT
        assert ask(question(garbage.address, camera.address)).outcome is Outcome.REFUSED
