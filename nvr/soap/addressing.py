"""WS-Addressing 1.0 as the event service uses it (ONVIF Core 9; WS-Addressing SOAP Binding).

A request may name its action, a message id, and where it goes; the answer names its own action and the message that it
relates to. Answers go back on the connection of the request: another ReplyTo is refused, also `none`, by which what a
pull takes off its queue would be lost. What the action header says is no condition, as the body tells the operation and
clients exist that send a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from nvr.soap.names import WSA

ANONYMOUS = f"{WSA}/anonymous"
NONE = f"{WSA}/none"
FAULT_ACTION = f"{WSA}/soap/fault"
_LONGEST = 2048
"""Characters of an address or message id that is taken."""


@dataclass(frozen=True, slots=True)
class Addressing:
    """What the headers of a request say, and what its answer says in turn. Without `action` there are none."""

    action: str = ""
    """Of the operation, without `Request` or `Response` at its end."""
    message_id: str | None = None
    to: str | None = None
    fault: str | None = None
    """Why the headers cannot be followed: the name of the subcode in the namespace of WS-Addressing."""

    @classmethod
    def of(cls, headers: Sequence[etree._Element], action: str) -> Addressing:
        found: dict[str, etree._Element] = {}
        fault = None
        for block in headers:
            name = etree.QName(block)
            if name.namespace == WSA:
                if name.localname in found and name.localname != "RelatesTo":
                    fault = "InvalidAddressingHeader"
                found[name.localname] = block
        message_id, to = (_text(found.get(name)) for name in ("MessageID", "To"))
        if len(message_id or "") > _LONGEST or len(to or "") > _LONGEST:
            fault, message_id = "InvalidAddressingHeader", None
        for name, taken in (("ReplyTo", (ANONYMOUS,)), ("FaultTo", (ANONYMOUS, NONE))):
            if name in found:
                address = _text(found[name].find(f"{{{WSA}}}Address"))
                if address is None:
                    fault = "InvalidAddressingHeader"
                elif address not in taken:
                    fault = "OnlyAnonymousAddressSupported"
        return cls(action, message_id, to, fault)

    def answer_header(self) -> str:
        """The header blocks of an answer."""
        return self._header(f"{self.action}Response")

    def fault_header(self) -> str:
        """The header blocks of a fault."""
        return self._header(FAULT_ACTION)

    def _header(self, action: str) -> str:
        if not self.action:
            return ""
        relates = "" if self.message_id is None else f"<wsa:RelatesTo {_WSA}>{escape(self.message_id)}</wsa:RelatesTo>"
        return f"<wsa:Action {_WSA}>{escape(action)}</wsa:Action>{relates}"


_WSA = f'xmlns:wsa="{WSA}"'


def _text(element: etree._Element | None) -> str | None:
    text = None if element is None else (element.text or "").strip()
    return text or None
