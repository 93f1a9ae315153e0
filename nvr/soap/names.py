"""Namespaces and the fixed prefixes under which this daemon writes them."""

from __future__ import annotations

ENV = "http://www.w3.org/2003/05/soap-envelope"
ENV11 = "http://schemas.xmlsoap.org/soap/envelope/"
XML = "http://www.w3.org/XML/1998/namespace"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XS = "http://www.w3.org/2001/XMLSchema"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
WSA = "http://www.w3.org/2005/08/addressing"
WSNT = "http://docs.oasis-open.org/wsn/b-2"
WSTOP = "http://docs.oasis-open.org/wsn/t-1"
TNS1 = "http://www.onvif.org/ver10/topics"
TT = "http://www.onvif.org/ver10/schema"
TER = "http://www.onvif.org/ver10/error"
TDS = "http://www.onvif.org/ver10/device/wsdl"
TEV = "http://www.onvif.org/ver10/events/wsdl"
TRC = "http://www.onvif.org/ver10/recording/wsdl"
TSE = "http://www.onvif.org/ver10/search/wsdl"
TRP = "http://www.onvif.org/ver10/replay/wsdl"
TRV = "http://www.onvif.org/ver10/receiver/wsdl"
TRT = "http://www.onvif.org/ver10/media/wsdl"

PREFIXES: dict[str, str] = {
    ENV: "env",
    TT: "tt",
    TER: "ter",
    TDS: "tds",
    TEV: "tev",
    TRC: "trc",
    TSE: "tse",
    TRP: "trp",
    TRV: "trv",
    TRT: "trt",
    WSA: "wsa",
    WSNT: "wsnt",
    WSTOP: "wstop",
    TNS1: "tns1",
}
"""Prefix of each namespace that a message can be written in. A service with another namespace adds its own here."""
