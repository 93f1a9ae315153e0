"""What is kept of a track's runs is, after every change, what the runs themselves say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.timeline import Extent, GapReason, Run, Timeline, in_order
from nvr.storage.runs import Runs
from nvr.storage.track import TrackFootage
from tests.support.ingest import key

_ids = st.sampled_from("abcd")
_times = st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda t: (t[0], t[0] + t[1]))
_runs = st.builds(lambda i, t, reason: Run(i, *t, reason), _ids, _times, st.sampled_from([None, GapReason.STORAGE]))
_changes = st.one_of(
    st.tuples(st.just("grow"), _ids, _times),
    st.tuples(st.just("end"), _ids),
    st.tuples(st.just("settle"), _ids, st.none() | _runs),
    st.tuples(st.just("keep"), st.lists(_runs, max_size=3), st.none() | _ids),
    st.tuples(st.just("cut"), st.dictionaries(_ids, st.none() | st.integers(0, 60), min_size=1)),
    st.tuples(st.just("ask")),
)


@given(st.lists(_changes, max_size=30))
def test_timeline_and_extent_are_always_those_of_the_runs(changes: list[tuple]) -> None:  # type: ignore[type-arg]
    footage, runs = TrackFootage(key()), dict[str, Run]()
    kept_timelines: list[tuple[Timeline, tuple[Run, ...]]] = []
    for change in changes:
        match change:
            case "grow", run_id, (start, end):
                known = runs.get(run_id)
                grown = Run(run_id, start, end)
                if known is not None:
                    grown = replace(known, start_ns=min(start, known.start_ns), end_ns=max(end, known.end_ns))
                assert footage.grow(run_id, start, end) is (known is None)
                runs[run_id] = grown
            case "end", run_id:
                known = runs.get(run_id)
                ended = footage.end(run_id, GapReason.SOURCE_LOST)
                if known is None or known.end_reason is not None:
                    assert ended is None
                else:
                    runs[run_id] = Run(run_id, known.start_ns, known.end_ns, GapReason.SOURCE_LOST)
                    assert ended == runs[run_id]
            case "settle", run_id, run:
                run = None if run is None else Run(run_id, run.start_ns, run.end_ns, run.end_reason)
                footage.settle(run_id, run)
                known = runs.pop(run_id, None)
                if known is not None and known.end_reason is None:  # it is being recorded
                    found = known if run is None else run
                    runs[run_id] = replace(known, start_ns=found.start_ns, end_ns=max(found.end_ns, known.end_ns))
                elif run is not None:
                    runs[run_id] = run
            case "keep", kept, growing:
                footage.keep(kept, growing)
                current = [runs[growing]] if growing in runs else []
                runs = {run.run_id: run for run in (*kept, *current)}
            case "cut", starts:
                footage.cut(starts)
                for run_id, start in starts.items():
                    if run_id in runs and start is None:
                        del runs[run_id]
                    elif run_id in runs:
                        known = runs[run_id]
                        runs[run_id] = replace(known, start_ns=min(max(known.start_ns, start), known.end_ns))
            case _:
                assert footage.timeline() is footage.timeline(), "made once"
        whole = Timeline.of(runs.values())
        assert footage.extent() == whole.extent
        assert sorted(footage.timeline().runs, key=lambda r: r.run_id) == sorted(whole.runs, key=lambda r: r.run_id)
        order = [in_order(run) for run in footage.timeline().runs]
        assert order == sorted(order)
        assert footage.timeline().reach == whole.reach
        kept_timelines.append((footage.timeline(), tuple(footage.timeline().runs)))
    for timeline, as_it_was in kept_timelines:
        assert timeline.runs == as_it_was, "what a reader has been given does not change"


def test_runs_that_come_grow_and_go_do_not_sort_the_others_again(monkeypatch: pytest.MonkeyPatch) -> None:
    footage = TrackFootage(key())
    footage.keep([Run(str(n), n * 10, n * 10 + 5, GapReason.SOURCE_LOST) for n in range(50)], None)
    footage.timeline()
    monkeypatch.setattr(Runs, "_sort", None)
    footage.grow("new", 1000, 1010)
    footage.grow("new", 1010, 1020)
    assert footage.timeline().runs[-1] == Run("new", 1000, 1020)
    footage.end("new", GapReason.JOB_STOPPED)
    assert footage.timeline().runs[-1] == Run("new", 1000, 1020, GapReason.JOB_STOPPED)
    footage.cut({"1": 13, "0": None})
    assert footage.timeline().runs[0] == Run("1", 13, 15, GapReason.SOURCE_LOST)
    footage.cut({"1": 14})
    footage.cut({str(n): None for n in range(50)})
    assert footage.timeline().runs == (Run("new", 1000, 1020, GapReason.JOB_STOPPED),)
    assert footage.extent() == Extent(1000, 1020)
