"""Tickets and the rings of keys that seal them: time is given, so hours pass at once."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.base.errors import CorruptError, InputError, Retryable, WherryError
from wherry.serve.keyring import GRACE_NS, PERIOD_NS, KeyRing
from wherry.serve.peer import Peer
from wherry.serve.tickets import TICKET_BYTES_MAX, Ticket, open_ticket, seal_ticket

S = 1_000_000_000
ALICE, BOB = Peer("sales", "tls client alice 5f2c"), Peer("sales", "tls client bob 5f2d")

numbers = st.integers(-(1 << 63), (1 << 63) - 1)
tickets = st.builds(
    Ticket,
    query=st.binary(min_size=16, max_size=16),
    epoch=st.integers(0, (1 << 32) - 1),
    piece=st.tuples(numbers, numbers),
    tenant=st.text(max_size=16),
    until_ns=st.integers(1, GRACE_NS),
)


def ring(seed=1, **times):
    return KeyRing("tickets", random=random.Random(seed).randbytes, **times)


@given(tickets)
def test_a_ticket_is_read_as_it_was_written(ticket):
    keys = ring()
    data = seal_ticket(ticket, keys, 0)
    assert len(data) <= TICKET_BYTES_MAX
    assert open_ticket(data, keys, 0) == ticket
    assert open_ticket(data, keys, ticket.until_ns - 1) == ticket


@given(tickets, st.integers(0, 10 * PERIOD_NS))
def test_a_ticket_ends(ticket, late):
    keys = ring()
    data = seal_ticket(ticket, keys, 0)
    with pytest.raises(Retryable):
        open_ticket(data, keys, ticket.until_ns + late)


@given(tickets, st.data())
def test_no_bit_of_a_ticket_can_be_changed(ticket, data):
    keys = ring()
    sealed = bytearray(seal_ticket(ticket, keys, 0))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((CorruptError, Retryable)):
        open_ticket(bytes(sealed), keys, 0)


@given(st.binary(max_size=TICKET_BYTES_MAX + 8), st.booleans())
def test_bytes_are_refused(data, begun):
    keys = ring()
    magic = bytes((*b"WHRT", 1, keys.newest(None, 0).id)) if begun else b""
    with pytest.raises((CorruptError, Retryable)):
        open_ticket(magic + data, keys, 0)


def test_another_life_of_an_agent_opens_nothing():
    data = seal_ticket(Ticket(bytes(16), 1, (0, 1), "sales", S), ring(1), 0)
    for seed in range(2, 300):  # one in 255 has a key of the same id
        other = ring(seed)
        other.newest(None, 0)
        with pytest.raises((CorruptError, Retryable)):
            open_ticket(data, other, 0)


def test_what_does_not_fit_is_refused():
    for bad in (
        Ticket(bytes(15), 1, (0, 1), "sales", S),
        Ticket(bytes(16), 1 << 32, (0, 1), "sales", S),
        Ticket(bytes(16), 1, (0, 1), "s" * 65, S),
    ):
        with pytest.raises(InputError, match="ticket"):
            seal_ticket(bad, ring(), 0)


def test_a_ticket_ends_with_its_key():
    keys = ring()
    data = seal_ticket(Ticket(bytes(16), 1, (0, 1), "sales", 99 * PERIOD_NS), keys, 0)
    assert open_ticket(data, keys, PERIOD_NS + GRACE_NS - 1).until_ns == PERIOD_NS + GRACE_NS
    with pytest.raises(Retryable, match="Hello"):
        open_ticket(data, keys, PERIOD_NS + GRACE_NS)


def test_a_key_is_believed_for_its_grace_after_the_next_one_seals():
    keys = ring()
    old = keys.newest(ALICE, 0)
    assert keys.newest(ALICE, PERIOD_NS - 1) == old
    new = keys.newest(ALICE, PERIOD_NS)
    assert (new.id == old.id, new.key == old.key) == (False, False)
    assert keys.find(old.id, ALICE, PERIOD_NS + GRACE_NS - 1) == old
    with pytest.raises(Retryable):
        keys.find(old.id, ALICE, PERIOD_NS + GRACE_NS)
    assert new.until_ns == 2 * PERIOD_NS + GRACE_NS


def test_keys_of_peers_and_purposes_differ():
    keys = ring()
    found = {keys.newest(peer, 0).key for peer in (ALICE, BOB, Peer("ops", ALICE.how), None)}
    # The boundary between tenant and peer counts.
    found |= {keys.newest(Peer(t, h), 0).key for t, h in (("ab", "c"), ("a", "bc"), ("", "abc"))}
    found.add(KeyRing("sessions", random=random.Random(1).randbytes).newest(ALICE, 0).key)
    assert len(found) == 8


@settings(max_examples=50)
@given(st.integers(0, 1 << 32), st.lists(st.integers(0, 3 * PERIOD_NS), max_size=600))
def test_a_ring_holds_few_keys_and_never_two_of_one_id(seed, steps):
    keys, now, known = ring(seed), 0, {}
    for step in steps:
        now += step
        key = keys.newest(None, now)
        assert key.until_ns - now >= GRACE_NS
        assert 1 <= key.id <= 255
        known[key.id] = key
        believed = [one for one in known.values() if one.until_ns > now]
        assert len(believed) <= 3
        assert all(keys.find(one.id, None, now) == one for one in believed)


def test_a_grace_longer_than_its_period_is_refused():
    with pytest.raises(InputError, match="grace"):
        ring(period_ns=5, grace_ns=6)


def test_errors_are_of_wherry():
    with pytest.raises(WherryError, match="magic"):
        open_ticket(bytes(90), ring(), 0)
