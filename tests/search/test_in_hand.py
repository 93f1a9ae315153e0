"""What searches that nobody collects hold together."""

from __future__ import annotations

import pytest

from nvr.model import topics
from nvr.model.errors import LimitReached
from nvr.model.event import TOPIC_NAMESPACE
from nvr.model.search import SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001
from nvr.search.in_hand import InHand
from nvr.search.sessions import SearchSettings
from tests.support.configuration import a_recording
from tests.support.search import Searched, a_message


class Holding:
    def __init__(self, held: int) -> None:
        self.held = held

    def let_go(self) -> None:
        self.held = 0


def test_who_has_stood_still_longest_lets_go_and_who_works_does_not() -> None:
    in_hand, searches = InHand(100), [Holding(40) for _ in range(4)]
    for search in searches[:2]:
        in_hand.put(search)
    in_hand.take(searches[0])
    for search in searches[2:]:
        in_hand.put(search)
    assert [s.held for s in searches] == [40, 0, 40, 40]
    assert in_hand.total == 80
    in_hand.put(searches[0])
    assert [s.held for s in searches] == [40, 0, 0, 40]
    largest = Holding(1000)
    in_hand.put(largest)
    assert (largest.held, in_hand.total) == (1000, 1000), "it could not go on otherwise"
    in_hand.take(largest)
    assert in_hand.total == 0


async def test_a_thousand_searches_that_nobody_collects_hold_no_more_than_a_few_and_find_everything() -> None:
    recorder = Searched(a_recording("rec-1"), settings=SearchSettings(sessions=1000, sessions_per_user=64))
    key = recorder.recorded("rec-1", META001, (0, 200))
    for n in range(12):
        topic: topics.Topic = ((TOPIC_NAMESPACE, "Rule"), ("", f"R{n}"))
        recorder.archive.add(key, n, a_message("x", topic), place=n)
    in_hand = recorder.searches._shares.in_hand
    in_hand._limit = 300
    users = [str(n // 64) for n in range(1000)]
    opened = [(await recorder.open(0, 200, user=user, keep_alive_ns=600 * NS), user) for user in users]
    with pytest.raises(LimitReached):
        await recorder.open(0, 200, user="late")
    # Each of them runs ahead; who asks comes in turn, however much the others have opened.
    for token, user in (opened[-1], opened[0], opened[500]):
        state, found = await recorder.searches.event_results(token, SearchWish(wait_ns=600 * NS, user=user))
        assert (state, len(found)) == (SearchState.COMPLETED, 12 + 4)
    assert recorder.searches.held == in_hand.total <= 300
    assert sum(search.held for search in in_hand._resting) == in_hand.total
    assert len(recorder.searches._sessions) == 1000 - 3
    await recorder.searches.stop()
    assert in_hand.total == 0
