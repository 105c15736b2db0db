"""Connections between agents: kept, used again, made anew, and closed."""

import pyarrow as pa
import pytest

from wherry.base.errors import InputError
from wherry.serve.received import Received, Unreached
from wherry.serve.suppliers import Suppliers

ROWS = Received(pa.schema([]), [])


class Way:
    def __init__(self, address):
        self.address, self.closed, self.says = address, False, None

    def ask(self, request, deadline_s):
        raise AssertionError

    def take(self, ticket, deadline_s):
        assert not self.closed
        if self.says is not None:
            raise self.says
        return ROWS

    def close(self):
        self.closed = True


@pytest.fixture
def made():
    return []


@pytest.fixture
def suppliers(made):
    return Suppliers(lambda address: made.append(Way(address)) or made[-1], kept=2)


def test_a_connection_is_used_again(suppliers, made):
    for address in ("a", "b", "a", "b", "a"):
        assert suppliers.take(address, b"t", 1.0) is ROWS
    assert [way.address for way in made] == ["a", "b"]


def test_one_that_was_closed_meanwhile_is_made_anew(suppliers, made):
    suppliers.take("a", b"t", 1.0)
    made[0].says = Unreached("closed")
    assert suppliers.take("a", b"t", 1.0) is ROWS
    assert [way.closed for way in made] == [True, False]


def test_what_an_agent_says_is_said(suppliers, made):
    suppliers.take("a", b"t", 1.0)
    made[0].says = InputError("no such piece")
    with pytest.raises(InputError, match="no such piece"):
        suppliers.take("a", b"t", 1.0)
    made[0].says = None
    suppliers.take("a", b"t", 1.0)
    assert len(made) == 1


def test_an_agent_that_is_lost_is_asked_twice_at_most(suppliers, made):
    suppliers.take("a", b"t", 1.0)
    made[0].says = Unreached("closed")
    suppliers._dial = lambda address: (_ for _ in ()).throw(Unreached(f"no agent at {address}"))
    with pytest.raises(Unreached, match="no agent at a"):
        suppliers.take("a", b"t", 1.0)
    assert made[0].closed


def test_few_are_kept_and_none_after_the_end(suppliers, made):
    for address in "abc":
        suppliers.take(address, b"t", 1.0)
    assert [way.closed for way in made] == [True, False, False]
    suppliers.close()
    assert all(way.closed for way in made)
    suppliers.take("d", b"t", 1.0)
    assert made[-1].closed
