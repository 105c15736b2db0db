"""Tables for people: what Python has no value for is shown all the same."""

import pyarrow as pa

from wherry.cli.output import _values


def test_nanoseconds_are_shown_as_arrow_writes_them():
    ns = pa.array([1, None])
    fields = [ns.view(t) for t in (pa.timestamp("ns"), pa.time64("ns"), pa.duration("ns"))]
    struct = pa.StructArray.from_arrays(fields, ["t", "c", "d"], mask=pa.array([False, True]))
    first = {"t": "1970-01-01 00:00:00.000000001", "c": "00:00:00.000000001", "d": "1 ns"}
    assert _values(pa.chunked_array([struct])) == [first, None]
