"""nvr.auth.lockout: who fails too often waits, longer each time; who knows the password elsewhere does not."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.auth import lockout as room
from nvr.auth.access import Verdict
from nvr.auth.lockout import Lockout, LockoutSettings, network_of
from nvr.model.time import NS, parse_iso

NOW = parse_iso("2026-01-01T10:00:00Z")
SETTINGS = LockoutSettings(3, 6, 2 * NS, 16 * NS, 60 * NS)
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Door:
    """A lock-out with accounts anna and otto, and a clock."""

    def __init__(self, settings: LockoutSettings = SETTINGS) -> None:
        self.lockout = Lockout({"anna", "otto"}.__contains__, settings)
        self.now_ns = NOW

    def wrong(self, user: str = "anna", address: str = HOME, times: int = 1) -> Verdict:
        verdict = Verdict(None)
        for _ in range(times):
            verdict = self.lockout.judge(Verdict(None, "wrong", name=user, wrong=True), address, self.now_ns)
        return verdict

    def right(self, user: str = "anna", address: str = HOME) -> bool:
        return bool(self.lockout.judge(Verdict(user), address, self.now_ns))

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)


def test_some_failures_are_free_and_a_success_ends_their_count() -> None:
    door = Door()
    for _ in range(4):
        door.wrong(times=3)
        assert door.right()
        door.wait(61)  # the count of the address


def test_beyond_that_the_right_password_is_refused_until_the_delay_is_over() -> None:
    door = Door()
    door.wrong(times=4)
    assert not door.right()
    door.wait(1.9)
    assert not door.right()
    door.wait(0.1)
    assert door.right()
    assert door.lockout.refused == 2


def test_each_failure_beyond_doubles_the_delay_up_to_the_maximum() -> None:
    door = Door(LockoutSettings(3, 100, 2 * NS, 16 * NS, 60 * NS))
    door.wrong(times=3)
    for delay in (2, 4, 8, 16, 16):
        door.wrong()
        door.wait(delay - 0.001)
        assert not door.right()
        door.wait(0.001)
    assert door.right()


def test_what_comes_while_locked_neither_counts_nor_prolongs() -> None:
    door = Door()
    door.wrong(times=100)
    assert (door.lockout.failures, door.lockout.refused) == (4, 96)
    door.wait(2)
    assert door.right()


def test_a_locked_account_is_answered_as_a_wrong_password_is() -> None:
    door = Door()
    door.wrong(times=4)
    stale = Verdict(None, "the nonce is expired", stale=True, name="anna")
    assert not door.lockout.judge(stale, HOME, door.now_ns).stale
    locked = door.lockout.judge(Verdict("anna"), HOME, door.now_ns)
    assert (locked.user, locked.stale) == (None, False)


def test_only_a_judged_password_counts() -> None:
    door = Door()
    for _ in range(100):
        for verdict in (
            Verdict(None, "no credentials"),
            Verdict(None, "the nonce is expired", stale=True, name="anna"),
            Verdict(None, "the token was used before", name="anna"),
            Verdict(None, "the token was created 900 s off"),
        ):
            assert door.lockout.judge(verdict, HOME, door.now_ns) == verdict
    assert door.right()
    assert door.lockout.failures == 0


def test_an_account_is_locked_for_every_address_and_no_other_account_with_it() -> None:
    door = Door()
    door.wrong(times=2)
    door.wrong(address=ELSEWHERE, times=2)
    assert not door.right(address="203.0.113.5")
    assert door.right("otto")
    assert (door.lockout.locked_users(door.now_ns), door.lockout.locked_addresses(door.now_ns)) == (1, 0)


def test_an_address_is_locked_for_every_account_whatever_names_it_has_tried() -> None:
    door = Door()
    for n in range(7):
        door.wrong(f"guess{n}", ELSEWHERE)
    assert not door.right("otto", ELSEWHERE)
    assert door.right("otto", HOME)
    assert (door.lockout.locked_users(door.now_ns), door.lockout.locked_addresses(door.now_ns)) == (0, 1)


def test_a_success_does_not_end_the_count_of_the_address() -> None:
    door = Door()
    for _ in range(3):
        door.wrong("nobody", times=2)
        assert door.right("anna")
    door.wrong("nobody")
    assert not door.right("anna")


def test_strangers_cannot_lock_out_a_client_that_has_logged_in() -> None:
    door = Door()
    assert door.right()
    door.wrong(address=ELSEWHERE, times=4)
    assert door.right()
    assert not door.right(address="203.0.113.5")
    door.wrong(times=4)
    assert not door.right()


def test_a_count_is_forgotten_after_a_while_and_not_before() -> None:
    door = Door()
    door.wrong(times=3)
    door.wait(59)
    door.wrong()
    assert not door.right()
    door.wait(60)
    door.wrong(times=3)
    assert door.right()


def test_a_clock_that_is_set_back_prolongs_no_lock() -> None:
    door = Door()
    door.wrong(times=4)
    door.wait(-3600)
    assert door.right()


def test_exempt_addresses_are_not_locked_but_accounts_are() -> None:
    door = Door(LockoutSettings(3, 6, 2 * NS, 16 * NS, 60 * NS, (HOME,)))
    for n in range(50):
        door.wrong(f"guess{n}")
    assert door.right("otto")
    door.wrong("anna", times=4)
    assert not door.right("anna")


def test_a_lock_is_logged_once_with_its_length_and_where_it_came_from(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    with caplog.at_level(logging.WARNING):
        door.wrong(times=20)
    assert caplog.messages == [f"user 'anna' is locked for 2 s: 4 wrong passwords, the last one from {HOME}"]


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_count_by_what_one_subscriber_has(address: str, counts_as: str) -> None:
    assert network_of(address) == counts_as


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ADDRESSES", 10)
    monkeypatch.setattr(room, "MAX_PROVEN", 10)
    door = Door()
    for n in range(100):
        door.wrong(f"guess{n}", f"192.0.2.{n}")
        door.right("anna", f"198.51.100.{n}")
        door.wrong("anna", f"198.51.100.{n}")
    lockout = door.lockout
    assert (len(lockout._addresses), len(lockout._proven)) == (10, 10)
    assert len(lockout._users) <= 12


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["anna", "otto", "x"]), st.sampled_from([HOME, ELSEWHERE]), st.booleans(), st.integers(0, 5)
        ),
        max_size=80,
    )
)
def test_however_attempts_mix_nobody_gets_more_guesses_than_the_delays_allow(
    attempts: list[tuple[str, str, bool, int]],
) -> None:
    """Between two judged guesses at one account from one address beyond the free ones lies at least the first delay."""
    door = Door()
    judged: dict[tuple[str, str], list[int]] = {}
    for user, address, right, seconds in attempts:
        door.wait(seconds)
        before = door.lockout.failures
        if right and user != "x":
            if door.right(user, address):
                judged.pop((user, address), None)
        else:
            door.wrong(user, address)
            if door.lockout.failures > before:
                judged.setdefault((user, address), []).append(door.now_ns)
    for times in judged.values():
        recent = [t for t in times if times[-1] - t < SETTINGS.forget_ns]
        for earlier, later in itertools.pairwise(recent[6:]):
            assert later - earlier >= SETTINGS.first_delay_ns


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_failures": 0},
        {"first_delay_ns": 0},
        {"first_delay_ns": 600 * NS},
        {"forget_ns": 1},
        {"exempt": ("proxy.example",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|not be|no IP address"):
        LockoutSettings(**wrong)  # type: ignore[arg-type]
