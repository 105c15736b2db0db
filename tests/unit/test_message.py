"""The messages of movables: what is frozen is thawed, and nothing else is."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.base.errors import CorruptError, InputError
from wherry.run import control, message
from wherry.run.control import (
    Alive,
    Fenced,
    Forget,
    Forgotten,
    Need,
    Noted,
    Passed,
    Renew,
    Ship,
    Taken,
)
from wherry.run.message import BUDGETS, RUN, Budget, Message, budget, freeze, state_digest, thaw

KEY = b"a key of thirty-two bytes........"[:32]
ID = bytes(range(16))
PROGRAM = bytes(range(16, 32))
PLAIN = Message(ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 30)

counts = st.integers(0, message.COUNT_MAX - 1)
names = st.text(max_size=16).filter(lambda name: len(name.encode()) <= message.NAME_BYTES_MAX)
budgets = st.dictionaries(st.sampled_from(BUDGETS), st.integers(-(2**63), 2**63 - 1)).map(
    lambda left: budget(**left)
)
messages = st.builds(
    Message, st.binary(min_size=16, max_size=16), st.integers(1, 6), counts, counts,
    st.binary(min_size=16, max_size=16), st.integers(0, 2**16 - 1), names, names,
    st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 4), st.integers(0, 7),
    st.integers(0, 2**64 - 1), st.integers(10, 2**32 - 1), budgets,
    st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 255),
    st.integers(0, 255),
)  # fmt: skip


@given(messages)
def test_what_is_frozen_is_thawed(m):
    assert thaw(freeze(m, KEY), KEY) == m


def test_the_layout_is_what_its_page_says():
    m = Message(
        ID, RUN, 5, 6, PROGRAM, 7, "home", "acme", b"frame", b"operand", 1, 2, 8, 9_000,
        budget(rows=10, hops=11), bytes(range(32, 48)), bytes(range(48, 56)), 12, 13,
    )  # fmt: skip
    data = freeze(m, KEY)
    assert data[:8] == b"WHRM\x01\x01\x02\x0d"
    assert data[8:12] == (6).to_bytes(4, "little")
    assert data[12:28] == ID
    assert data[28:32] == (5).to_bytes(4, "little")
    assert data[32:48] == PROGRAM
    assert data[48:52] == b"\x07\x00\x01\x0c"
    assert data[52:64] == (8).to_bytes(8, "little") + (9_000).to_bytes(4, "little")
    assert data[64:88] == bytes(range(32, 56))
    assert data[88:92] == bytes([0b1000100, 4, 4, 0])
    assert data[92:100] == (7).to_bytes(4, "little") + (5).to_bytes(4, "little")
    assert data[100:116] == struct.pack("<qq", 10, 11)
    assert data[116:-16] == b"homeacmeoperandframe"


def test_a_message_of_the_median_frame_fits_three_cache_lines():
    m = Message(
        ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 30, budget=budget(rows=1, bytes=2, hops=3)
    )
    assert len(freeze(m, KEY)) <= 192


def test_every_bit_is_sealed():
    data = freeze(PLAIN, KEY)
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            thaw(bytes(bad), KEY)


def test_every_cut_is_refused():
    data = freeze(PLAIN, KEY)
    for length in range(len(data)):
        with pytest.raises(CorruptError):
            thaw(data[:length], KEY)


def test_another_key_does_not_open_it():
    with pytest.raises(CorruptError, match="the seal at offset"):
        thaw(freeze(PLAIN, KEY), bytes(32))


@pytest.mark.parametrize(
    ("offset", "put", "named"),
    [
        (0, b"XXXX", "magic at offset 0"),
        (4, b"\x02", "version at offset 4 is 2, not 1"),
        (5, b"\x00", "kind at offset 5 is 0"),
        (5, b"\x07", "kind at offset 5 is 7"),
        (6, b"\x08", "flags at offset 6 are 8"),
        (8, b"\xff\xff\xff\xff", "hop 4294967295"),
        (28, b"\x00\x00\x00\x80", "epoch 2147483648"),
        (50, b"\x05", "given at offset 50 is 5"),
        (60, b"\x00\x00\x00\x00", "lease 0 ms"),
        (88, b"\x01", "lengths at offsets 88 to 96"),
        (89, b"\xff", "lengths at offsets 88 to 96"),
        (91, b"\x01", "reserved byte at offset 91 is 1"),
        (92, b"\xff\xff\xff\xff", "lengths at offsets 88 to 96"),
        (96, b"\x00\x00\x00\x00", "lengths at offsets 88 to 96"),
        (100, b"\xff", "name at offset 100"),
        (104, b"\xff", "name at offset 104"),
    ],
)
def test_what_does_not_fit_is_named(offset, put, named):
    bad = bytearray(freeze(PLAIN, KEY))
    bad[offset : offset + len(put)] = put
    bad[-16:] = message.sealed(bytes(bad[:-16]), KEY)
    with pytest.raises(CorruptError, match=named):
        thaw(bytes(bad), KEY)


def test_long_names_and_long_messages_are_not_written():
    with pytest.raises(InputError, match="names of 65 and 0"):
        freeze(Message(ID, RUN, 1, 0, PROGRAM, 0, "h" * 65), KEY)
    with pytest.raises(InputError, match="possible: 1048576"):
        freeze(Message(ID, RUN, 1, 0, PROGRAM, 0, "home", frame=bytes(1 << 20)), KEY)
    with pytest.raises(InputError, match="a field does not fit"):
        freeze(Message(ID, RUN, 1 << 32, 0, PROGRAM, 0, "home"), KEY)


def test_long_names_are_not_read():
    m = Message(ID, RUN, 1, 2, PROGRAM, 3, "h" * 64, frame=b"f")
    bad = bytearray(freeze(m, KEY))
    bad[89], bad[96] = 65, 0
    bad[-16:] = message.sealed(bytes(bad[:-16]), KEY)
    with pytest.raises(CorruptError, match="names at offset 89 of 65"):
        thaw(bytes(bad), KEY)


def test_budgets_are_found_by_name():
    left = budget(rows=5, money_micro=-7)
    assert left.get("rows") == 5
    assert left.get("money_micro") == -7
    assert left.get("hops") is None
    assert left.items() == {"rows": 5, "money_micro": -7}
    assert Budget().items() == {}
    with pytest.raises(InputError, match="no budget 'row'; budgets: time_ns, bytes, rows"):
        budget(row=1)


def test_states_are_told_apart_by_what_a_step_begins_with():
    same = Message(ID, RUN, 9, 2, PROGRAM, 3, "home", "acme", b"f" * 30, lease_ms=77)
    assert state_digest(PLAIN) == state_digest(same)
    others = [
        Message(ID, RUN, 1, 2, ID, 3, "home", "acme", b"f" * 30),
        Message(ID, RUN, 1, 2, PROGRAM, 4, "home", "acme", b"f" * 30),
        Message(ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 29),
        Message(ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 30, b"o"),
        Message(ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 29, b"f"),
        Message(ID, RUN, 1, 2, PROGRAM, 3, "home", "acme", b"f" * 30, given=1),
    ]
    assert len({state_digest(m) for m in [PLAIN, *others]}) == 7


@pytest.mark.parametrize(
    "said",
    [
        Taken(ID, 1, 2),
        Passed(ID, 1, 2, 3, "csd", "acme", b"receipt", b"message", leased=True),
        Noted(ID, 1, 2, 3),
        Alive(ID, 1, 2),
        Fenced(ID, 3),
        Need(PROGRAM),
        Ship(PROGRAM, b"body"),
        Renew(ID, 10),
        Forget(ID),
        Forgotten(ID),
    ],
)
def test_control_messages_are_thawed_and_every_bit_is_sealed(said):
    data = control.freeze(said, KEY)
    assert control.thaw(data, KEY) == said
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            control.thaw(bytes(bad), KEY)


@pytest.mark.parametrize(
    "body",
    [
        b"\x92\x01\xc4\x02ab",  # an id of two bytes
        b"\x94\x01\xc4\x10" + ID + b"\xff\x00",  # a negative epoch
        b"\x92\x63\xc4\x10" + ID,  # no such kind
        b"\x94\x07\xc4\x10" + ID + b"\xc6\xff\xff\xff\xff",  # a length far beyond the end
        b"\x81\xa1a\x01",  # not an array
    ],
)
def test_control_messages_that_are_not_well_formed_are_refused(body):
    data = b"WHRC\x01\x00" + body
    with pytest.raises(CorruptError, match="control message at offset 6"):
        control.thaw(data + message.sealed(data, KEY), KEY)


def test_reading_imports_nothing():
    known = set(sys.modules)
    thaw(freeze(PLAIN, KEY), KEY)
    control.thaw(control.freeze(Need(PROGRAM), KEY), KEY)
    assert set(sys.modules) == known
