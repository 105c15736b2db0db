"""When a run asks to be planned again: once for each share that was not considered."""

import hypothesis.strategies as st
from hypothesis import given
from msgspec.structs import replace

from wherry.plan.watch import LEAST_ROUND, SWITCHES, Seen, Watch, decided, interval, round_of, saw

ROWS = 1000
PLANNED = Watch(0.2, 0.3)
chunks = st.lists(st.integers(0, ROWS), max_size=80)


def asked(watch: Watch, made: list[int], *, switch: bool = False) -> tuple[Watch, list[Seen]]:
    """Give the watch after chunks that made so many rows, and what it asked about."""
    found = []
    for rows in made:
        watch, seen = saw(watch, ROWS, rows)
        if seen is not None:
            found.append(seen)
            watch = decided(watch, seen, switched=switch)
    return watch, found


@given(st.lists(st.integers(200, 300), max_size=80))
def test_what_was_planned_with_is_not_asked_about(made: list[int]) -> None:
    assert asked(PLANNED, made)[1] == []


@given(st.integers(0, 140) | st.integers(360, ROWS), st.integers(1, 10))
def test_another_share_is_asked_about_after_the_first_round_and_once(
    rows: int, rounds: int
) -> None:
    watch, found = asked(PLANNED, [rows] * rounds * LEAST_ROUND)
    (seen,) = found
    assert (seen.chunks, seen.share) == (LEAST_ROUND, rows / ROWS)
    assert (seen.rows_in, seen.rows_out) == (LEAST_ROUND * ROWS, LEAST_ROUND * rows)
    assert (watch.low, watch.high) == (min(0.2, seen.low), max(0.3, seen.high))


@given(chunks)
def test_the_same_data_are_not_asked_about_again(made: list[int]) -> None:
    whole = made[: len(made) // LEAST_ROUND * LEAST_ROUND]
    watch, found = asked(PLANNED, whole)
    assert asked(watch, whole)[1] == []
    considered = (0.2, 0.3)
    for seen in found:
        assert (seen.planned_low, seen.planned_high) == considered
        assert seen.high < considered[0] or seen.low > considered[1]
        considered = min(considered[0], seen.low), max(considered[1], seen.high)


@given(chunks)
def test_a_run_switches_a_bounded_number_of_times(made: list[int]) -> None:
    watch, found = asked(PLANNED, made, switch=True)
    assert len(found) <= SWITCHES
    assert watch.switches == SWITCHES - len(found)


@given(st.lists(st.sampled_from([299, 301]), min_size=LEAST_ROUND, max_size=80))
def test_the_border_is_crossed_once_at_most(made: list[int]) -> None:
    assert len(asked(PLANNED, made)[1]) <= 1


def test_a_few_chunks_that_differ_tell_little() -> None:
    low, share, high = interval([(ROWS, 0), (ROWS, ROWS), (ROWS, 0), (ROWS, 0)])
    assert (low, share) == (0.0, 0.25)
    assert high == 1.0
    alike = interval([(ROWS, 240), (ROWS, 260), (ROWS, 250), (ROWS, 250)])
    assert 0.23 < alike[0] < alike[1] == 0.25 < alike[2] < 0.27


def test_rows_that_match_several_are_more_than_were_given() -> None:
    assert interval([(10, 30), (10, 50)])[1:] == (4.0, 4.0 + 3.0)


def test_chunks_without_rows_tell_nothing() -> None:
    assert saw(PLANNED, 0, 0) == (PLANNED, None)
    full = replace(PLANNED, switches=0)
    assert saw(full, ROWS, ROWS) == (full, None)


def test_who_switched_compares_with_what_was_seen() -> None:
    watch, (seen,) = asked(PLANNED, [900] * LEAST_ROUND, switch=True)
    assert (watch.low, watch.high, watch.since) == (seen.low, seen.high, (0, 0))
    _, (back,) = asked(watch, [250] * LEAST_ROUND, switch=True)
    assert (back.share, back.mean) == (0.25, 0.25)
    assert back.rows_out == LEAST_ROUND * (900 + 250)


def test_rounds_are_a_sixteenth_of_many_chunks() -> None:
    assert [round_of(n) for n in (1, 64, 65, 1600)] == [4, 4, 5, 100]
