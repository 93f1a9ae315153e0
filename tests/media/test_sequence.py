"""nvr.media.sequence: order, loss, duplicates, restarts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.sequence import MAX_DROPOUT, MAX_MISORDER, Release, SequenceOrder

MS = 1_000_000
SSRC = 0xCAFE


def fed(order: SequenceOrder[int], *sequences: int, ssrc: int = SSRC, now_ns: int = 0) -> list[Release[int]]:
    """Feed packets as the hot loop does; the item is the sequence number."""
    released: list[Release[int]] = []
    for sequence in sequences:
        if sequence == order.in_order and ssrc == order.ssrc:
            order.in_order = (sequence + 1) & 0xFFFF
            order.received += 1
            released.append(Release(sequence, sequence))
        else:
            released += order.push(sequence, ssrc, sequence, now_ns)
    return released


def steps(released: list[Release[int]]) -> list[tuple[int, int] | tuple[int, str]]:
    """(sequence, lost before it), or (sequence, "restart")."""
    assert all(r.item == r.sequence for r in released)
    assert not any(r.restart and r.lost for r in released)
    return [(r.sequence, "restart") if r.restart else (r.sequence, r.lost) for r in released]


def test_packets_in_order_take_the_fast_way_over_the_wrap() -> None:
    order: SequenceOrder[int] = SequenceOrder()
    assert steps(fed(order, 65_534)) == [(65_534, 0)]
    for expected in (65_535, 0, 1):
        assert order.in_order == expected
        fed(order, expected)
    assert (order.received, order.lost, order.restarts) == (4, 0, 0)


@pytest.mark.parametrize("missing", [1, 2, 500, MAX_DROPOUT - 1])
def test_without_a_window_a_hole_is_a_loss_at_once(missing: int) -> None:
    order: SequenceOrder[int] = SequenceOrder()
    after = (65_000 + 1 + missing) & 0xFFFF
    assert steps(fed(order, 65_000, after, (after + 1) & 0xFFFF)) == [
        (65_000, 0),
        (after, missing),
        ((after + 1) & 0xFFFF, 0),
    ]
    assert order.lost == missing


def test_a_repeated_packet_is_dropped() -> None:
    for window in (0, 8):
        order: SequenceOrder[int] = SequenceOrder(window)
        assert steps(fed(order, 5, 6, 6, 7)) == [(5, 0), (6, 0), (7, 0)]
        assert (order.duplicates, order.lost, order.restarts) == (1, 0, 0)


@pytest.mark.parametrize("window", [0, 8])
@pytest.mark.parametrize("repeated", [2, 3, 20, MAX_MISORDER])
def test_packets_repeated_in_a_bunch_are_no_restart(window: int, repeated: int) -> None:
    order: SequenceOrder[int] = SequenceOrder(window)
    first = list(range(500, 500 + MAX_MISORDER + 1))
    assert steps(fed(order, *first)) == [(n, 0) for n in first]
    assert fed(order, *first[-repeated:]) == []
    assert order.in_order == first[-1] + 1, "the fast way stays open"
    assert steps(fed(order, first[-1] + 1)) == [(first[-1] + 1, 0)]
    assert (order.restarts, order.lost, order.strays) == (0, 0, 0)
    assert order.duplicates + order.late == repeated


@pytest.mark.parametrize("jump", [MAX_DROPOUT, 30_000, -MAX_MISORDER - 5])
def test_a_source_that_jumps_and_goes_on_from_there_has_restarted_and_nothing_of_it_is_lost(jump: int) -> None:
    order: SequenceOrder[int] = SequenceOrder()
    there = (1000 + 1 + jump) & 0xFFFF
    assert steps(fed(order, 1000, there)) == [(1000, 0)], "one packet proves nothing"
    assert steps(fed(order, there + 1, there + 2)) == [(there, "restart"), (there + 1, 0), (there + 2, 0)]
    assert (order.restarts, order.lost, order.received, order.strays) == (1, 0, 4, 0)
    assert order.in_order == there + 3


def test_a_single_stray_is_dropped_and_the_stream_goes_on() -> None:
    order: SequenceOrder[int] = SequenceOrder()
    fed(order, 10, 11)
    assert fed(order, 40_000) == []
    assert order.in_order == -1, "the fast way is closed while the stray may be a restart"
    assert steps(fed(order, 12, 13)) == [(12, 0), (13, 0)]
    assert (order.strays, order.restarts, order.in_order) == (1, 0, 14)


def test_another_ssrc_is_a_restart_from_its_second_packet_on() -> None:
    order: SequenceOrder[int] = SequenceOrder()
    fed(order, 10, 11)
    assert fed(order, 12, ssrc=2) == []
    assert steps(fed(order, 13, ssrc=2)) == [(12, "restart"), (13, 0)]
    assert order.ssrc == 2
    assert steps(fed(order, 14, ssrc=2)) == [(14, 0)]


def test_stray_packets_of_another_source_disturb_nothing() -> None:
    order: SequenceOrder[int] = SequenceOrder()
    released = fed(order, 10)
    for n in range(11, 15):
        released += fed(order, 7 * n, ssrc=3)
        released += fed(order, n)
    assert steps(released) == [(n, 0) for n in range(10, 15)]
    assert order.strays == 4


def test_within_the_window_packets_are_put_in_order_over_the_wrap() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=4)
    assert steps(fed(order, 65_534, 0, 1, 65_535, 2)) == [(65_534, 0), (65_535, 0), (0, 0), (1, 0), (2, 0)]
    assert (order.lost, order.reordered, order.received) == (0, 1, 5)
    assert order.in_order == 3


def test_a_hole_is_given_up_when_the_window_is_exceeded() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=3)
    assert steps(fed(order, 1, 4, 5)) == [(1, 0)]
    assert steps(fed(order, 6)) == [(4, 2), (5, 0), (6, 0)]
    assert order.lost == 2
    assert fed(order, 3) == []
    assert order.late == 1


def test_a_hole_larger_than_the_window_is_given_up_at_once() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=3)
    assert steps(fed(order, 1, 3, 500)) == [(1, 0), (3, 1), (500, 496)]


def test_a_hole_is_given_up_when_its_time_is_over() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=16, hold_ns=100 * MS)
    fed(order, 1)
    fed(order, 3, now_ns=10 * MS)
    fed(order, 5, now_ns=50 * MS)
    assert list(order.due(109 * MS)) == []
    assert steps(list(order.due(110 * MS))) == [(3, 1)]
    assert list(order.due(149 * MS)) == []
    assert steps(list(order.due(150 * MS))) == [(5, 1)]
    assert order.in_order == 6


def test_a_held_packet_that_comes_twice_is_dropped_once() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=8)
    assert steps(fed(order, 1, 3, 3, 2)) == [(1, 0), (2, 0), (3, 0)]
    assert order.duplicates == 1


def test_flush_releases_everything_that_waits_also_a_possible_restart() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=8)
    fed(order, 1, 3, 40_000)
    assert steps(list(order.flush())) == [(3, 1), (40_000, "restart")]
    assert list(order.flush()) == []


def test_a_restart_behind_held_packets_releases_them_first() -> None:
    order: SequenceOrder[int] = SequenceOrder(window=8)
    assert steps(fed(order, 1, 3, 40_000, 40_001)) == [(1, 0), (3, 1), (40_000, "restart"), (40_001, 0)]


@settings(max_examples=100)
@given(st.integers(0, 65_535), st.integers(2, 20), st.data())
def test_packets_displaced_by_less_than_the_window_lose_nothing(start: int, window: int, data: st.DataObject) -> None:
    count = 60
    delays = data.draw(st.lists(st.integers(0, window - 1), min_size=count, max_size=count))
    arrivals = sorted(range(count), key=lambda n: (n + (delays[n] if n else -1), n))
    order: SequenceOrder[int] = SequenceOrder(window)
    released = fed(order, *((start + n) & 0xFFFF for n in arrivals)) + list(order.flush())
    assert steps(released) == [((start + n) & 0xFFFF, 0) for n in range(count)]
    assert (order.received, order.lost, order.late) == (count, 0, 0)


@settings(max_examples=100)
@given(
    st.sampled_from([0, 1, 5, 32]), st.integers(0, 65_535), st.sets(st.integers(1, 200)), st.lists(st.integers(0, 199))
)
def test_losses_and_duplicates_are_accounted_for_exactly(
    window: int, start: int, lost: set[int], twice: list[int]
) -> None:
    sent = [n for n in range(202) if n not in lost]
    arrivals = sorted(sent + [n for n in twice if n not in lost])
    order: SequenceOrder[int] = SequenceOrder(window)
    released = fed(order, *((start + n) & 0xFFFF for n in arrivals)) + list(order.flush())
    assert [r.sequence for r in released] == [(start + n) & 0xFFFF for n in sent]
    assert sum(r.lost for r in released) == order.lost == len(lost)
    assert order.received == len(sent)
    assert order.duplicates + order.late == len(arrivals) - len(sent)


@settings(max_examples=200)
@given(st.sampled_from([0, 7]), st.lists(st.tuples(st.integers(0, 65_535), st.sampled_from([1, 2])), max_size=80))
def test_whatever_arrives_is_released_once_or_counted(window: int, arrivals: list[tuple[int, int]]) -> None:
    order: SequenceOrder[int] = SequenceOrder(window)
    released: list[Release[int]] = []
    for sequence, ssrc in arrivals:
        released += fed(order, sequence, ssrc=ssrc)
        assert len(order._held) <= max(window, 0)
    released += order.flush()
    assert len(released) == order.received
    assert order.received + order.duplicates + order.late + order.strays == len(arrivals)


def test_a_window_beyond_what_sequence_numbers_can_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        SequenceOrder(window=MAX_DROPOUT + 1)


@pytest.mark.parametrize("window", [0, 8])
@pytest.mark.parametrize("missing", [MAX_DROPOUT, 40_000, 65_000])
def test_a_jump_that_is_said_to_be_a_loss_is_counted_as_one(window: int, missing: int) -> None:
    asked: list[tuple[int, int]] = []
    order: SequenceOrder[int] = SequenceOrder(window)

    def is_loss(item: int, gone: int) -> bool:
        asked.append((item, gone))
        return True

    order.is_loss = is_loss
    there = (13 + missing) & 0xFFFF
    released = fed(order, 10, 12, there, (there + 1) & 0xFFFF, (there + 2) & 0xFFFF)
    assert steps(released) == [(10, 0), (12, 1), (there, missing), (there + 1, 0), (there + 2, 0)]
    assert asked == [(there, missing)]
    assert (order.lost, order.restarts, order.received) == (missing + 1, 0, 5)


def test_another_ssrc_is_never_a_loss() -> None:
    order: SequenceOrder[int] = SequenceOrder()
    order.is_loss = lambda item, missing: True
    fed(order, 10)
    assert steps(fed(order, 5000, 5001, ssrc=2)) == [(5000, "restart"), (5001, 0)]
