"""What is read of states: the limits of decimals, and numbers in the types they are stored in."""

from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from wherry.render.cuda.answers import needs_more_digits, stored

MOST = 10**38 - 1


def words(*numbers):
    return np.frombuffer(b"".join(n.to_bytes(16, "little", signed=True) for n in numbers), "<u8")


@pytest.mark.parametrize(
    ("number", "more"),
    [
        (0, False),
        (-1, False),
        (MOST, False),
        (-MOST, False),
        (MOST + 1, True),
        (-MOST - 1, True),
        (-(1 << 127), True),
        ((1 << 127) - 1, True),
        (MOST & ~((1 << 64) - 1), False),
    ],
)
def test_more_than_38_digits_are_found(number, more):
    assert needs_more_digits(words(5, number, -7).reshape(-1, 2)) is more
    assert not needs_more_digits(words().reshape(-1, 2))


def test_numbers_are_stored_as_their_types_have_them():
    some = np.array([3, -4, 5])
    valid = np.array([True, True, False])
    t = pa.decimal128(38, 2)
    assert stored(some, t, valid).to_pylist() == [Decimal("0.03"), Decimal("-0.04"), None]
    wide = words(MOST, -MOST).reshape(-1, 2)
    assert stored(wide, t, None).to_pylist() == [Decimal(f"{s}{'9' * 36}.99") for s in ("", "-")]
    assert stored(some, pa.int8(), None).to_pylist() == [3, -4, 5]
    assert stored(some, pa.date32(), valid).to_pylist()[0] == date(1970, 1, 4)
    assert stored(np.array([0.5]), pa.float32(), None).to_pylist() == [0.5]
    assert stored(np.array([2**64 - 1], np.uint64), pa.uint64(), None)[0].as_py() == 2**64 - 1
    assert stored(some[:0], pa.int16(), None).to_pylist() == []
