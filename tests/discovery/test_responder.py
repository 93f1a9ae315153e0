"""What is answered, how soon, and how much of it."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.discovery import responder as limits
from nvr.discovery.message import ANONYMOUS, WSA, WSD, Announcement
from nvr.discovery.responder import Answer, Responder
from nvr.model.time import NS
from tests.support.discovery import Heard, probe, resolve

ENDPOINT = UUID(int=7)
TOLD = Announcement(ENDPOINT, ("onvif://www.onvif.org/Profile/G",), ("http://192.0.2.7/onvif/device_service",), 3)
PEER = "192.0.2.20"


class House:
    def __init__(self) -> None:
        self.responder = Responder(77, NS // 2, random.Random(1))
        self.now_ns = 0

    def ask(self, datagram: bytes, peer: str = PEER, *, multicast: bool = True) -> Answer | None:
        return self.responder.answer(datagram, peer, TOLD, self.now_ns, multicast=multicast)


def heard(answer: Answer | None) -> Heard:
    assert answer is not None
    return Heard(answer.datagram, ("", 0))


def test_a_probe_that_matches_is_answered_in_relation_to_it() -> None:
    reply = heard(House().ask(probe(message_id="urn:uuid:42")))
    assert reply.action == "ProbeMatches"
    assert reply.root.findtext(f".//{{{WSA}}}RelatesTo") == "urn:uuid:42"
    assert reply.text("wsa:Address") == ENDPOINT.urn


@pytest.mark.requirement("CO-45")
def test_a_probe_that_does_not_match_is_not_answered() -> None:
    house = House()
    assert house.ask(probe("x:Printer", more='xmlns:x="urn:x"')) is None
    assert house.ask(probe(scopes="onvif://www.onvif.org/Profile/T", message_id="urn:2"), multicast=False) is None
    assert house.responder.counts == {"unmatched": 2}


@pytest.mark.requirement("CO-46")
def test_a_resolve_is_answered_by_who_is_looked_for_only() -> None:
    house = House()
    assert heard(house.ask(resolve(ENDPOINT.urn.upper()))).action == "ResolveMatches"
    assert house.ask(resolve(UUID(int=8).urn, "urn:2")) is None


def test_answers_to_the_group_are_spread_over_half_a_second_and_others_come_at_once() -> None:
    house = House()
    delays = []
    for n in range(limits.PEER_BURST):
        answer = house.ask(probe(message_id=f"urn:{n}"), f"192.0.2.{n}")
        assert answer is not None
        delays.append(answer.delay_ns)
    assert all(0 <= d <= NS // 2 for d in delays)
    assert len(set(delays)) > 5
    answer = house.ask(probe(message_id="urn:x"), multicast=False)
    assert answer is not None
    assert answer.delay_ns == 0


def test_an_unknown_matching_rule_is_told_to_who_asked_us_alone_and_ignored_on_the_group() -> None:
    house = House()
    strange = probe(scopes="urn:a", match_by=f"{WSD}/ldap")
    assert house.ask(strange) is None
    reply = heard(house.ask(probe(scopes="urn:a", match_by=f"{WSD}/ldap", message_id="urn:2"), multicast=False))
    assert reply.action == "fault"
    assert reply.text("env:Value") == "env:Sender"


def test_a_repeated_datagram_is_answered_once_but_another_sender_may_use_the_same_id() -> None:
    house = House()
    assert house.ask(probe()) is not None
    assert house.ask(probe()) is None
    assert house.ask(probe(), "192.0.2.21") is not None
    assert house.responder.counts["repeated"] == 1


def test_every_message_of_a_start_has_the_instance_and_a_number_of_its_own() -> None:
    house = House()
    messages = [
        Heard(house.responder.hello(TOLD), ("", 0)),
        heard(house.ask(probe())),
        heard(house.ask(resolve(ENDPOINT.urn, "urn:2"))),
        Heard(house.responder.bye(ENDPOINT), ("", 0)),
    ]
    assert [m.sequence for m in messages] == [(77, n) for n in (1, 2, 3, 4)]
    assert len({m.message_id for m in messages}) == 4


def test_one_sender_gets_no_more_than_its_rate() -> None:
    house = House()
    answered = sum(house.ask(probe(message_id=f"urn:{n}")) is not None for n in range(50))
    assert answered == limits.PEER_BURST
    assert house.ask(probe(message_id="urn:other"), "192.0.2.99") is not None, "others are answered"
    house.now_ns += NS
    answered = sum(house.ask(probe(message_id=f"urn:later{n}")) is not None for n in range(50))
    assert answered == limits.PEER_PER_SECOND


def test_many_forged_senders_get_no_more_than_the_rate_of_all() -> None:
    house = House()
    sent = answered = 0
    for second in range(10):
        house.now_ns = second * NS
        for n in range(1000):
            request = probe(message_id=f"urn:{second}-{n}")
            answer = house.ask(request, f"10.{second}.{n // 250}.{n % 250}")
            sent += len(request)
            answered += 0 if answer is None else len(answer.datagram)
    assert answered < sent / 2, "a flood of questions must not become a flood of answers"
    assert house.responder.counts["answered"] <= limits.ALL_BURST + 9 * limits.ALL_PER_SECOND
    assert house.responder.counts["flooded"] > 0


def test_memory_stays_bounded() -> None:
    house = House()
    for n in range(3 * limits.REMEMBERED_MESSAGES):
        house.now_ns += NS
        house.ask(probe(message_id=f"urn:{n}"), f"10.0.{n // 250}.{n % 250}")
    assert len(house.responder._seen) == limits.REMEMBERED_MESSAGES
    assert len(house.responder._peers) == limits.REMEMBERED_PEERS


def test_a_reply_address_of_the_senders_choice_is_not_obeyed() -> None:
    forged = f"<a:ReplyTo><a:Address>soap.udp://198.51.100.1:1</a:Address></a:ReplyTo><a:From>{ANONYMOUS}</a:From>"
    reply = House().ask(probe(header=forged))
    assert reply is not None
    assert b"198.51.100.1" not in reply.datagram


@given(st.binary(max_size=200), st.booleans())
def test_no_datagram_makes_the_responder_raise(datagram: bytes, multicast: bool) -> None:
    house = House()
    assert house.ask(datagram, multicast=multicast) is None
    assert sum(house.responder.counts.values()) == 1
