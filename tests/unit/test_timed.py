"""A run that lasts too long stops between two pieces of work, and says so."""

import threading

import pytest

from wherry.base.errors import InputError
from wherry.render.team import alone, each, new_counter
from wherry.serve.timed import Timed

NS = 1_000_000_000


class Clock:
    now = 0

    def __call__(self):
        return self.now


def three(work):
    """Be a team of three threads."""
    counter = new_counter()
    threads = [threading.Thread(target=work, args=(counter.ctypes.data,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("team", [alone, three])
def test_a_run_in_time_does_all(team):
    clock = Clock()
    timed = Timed(clock)
    bounded = timed.team(team, 5, "sales")

    def task(number):
        clock.now = 5 * NS - 1
        timed.stop_late()
        return number

    assert each(bounded, 50, task) == list(range(50))
    clock.now = 100 * NS
    timed.stop_late()  # what is over is not touched
    clock.now = 0
    assert each(bounded, 50, task) == list(range(50))


@pytest.mark.parametrize("team", [alone, three])
def test_a_late_run_stops_and_says_so(team):
    clock, done = Clock(), []
    timed = Timed(clock)

    def task(number):
        done.append(number)
        if number == 7:
            clock.now = 5 * NS
            timed.stop_late()

    with pytest.raises(InputError, match="more than 5 s; possible for tenant 'sales': 5"):
        each(timed.team(team, 5, "sales"), 1000, task)
    assert len(done) <= 8 + 3 * (team is three)
    assert not timed._runs


def test_a_late_run_stops_others_go_on():
    clock = Clock()
    timed = Timed(clock)
    short, long = timed.team(alone, 1, "a"), timed.team(alone, 9, "b")

    def inner(number):
        clock.now = 2 * NS
        timed.stop_late()
        return number

    with pytest.raises(InputError, match="'a'"):
        each(short, 2, lambda _: each(long, 5, inner))


def test_what_fails_leaves_nothing():
    timed = Timed(Clock())
    with pytest.raises(ZeroDivisionError):
        each(timed.team(alone, 5, "sales"), 3, lambda number: 1 // number)
    assert not timed._runs
