"""The result says what really ran: natively, through pyarrow, or through the interpreter."""

import pyarrow as pa
import pytest

import wherry as wh
from wherry import col

TABLE = pa.table({"x": [1, 2, 300, 4], "text": ["1", "2", "many", "4"]})


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_a_chunk_the_interpreter_ran_says_so(system: str) -> None:
    narrow = wh.scan(TABLE).filter(col("x") < 100).select(y=col("x").cast(pa.int8()))
    result = narrow.run(system)
    assert result.table.to_pydict() == {"y": [1, 2, 4]}
    ((planned, happened),) = {e.residuals for e in result.evidence}
    assert "cast(x as int8)" in planned
    assert happened.startswith("this chunk: the interpreter, for rows that pass")


def test_what_is_native_says_nothing() -> None:
    result = wh.scan(TABLE).filter(col("x") < 100).select(y=col("x") * 2).run()
    assert {e.residuals for e in result.evidence} == {()}
    assert sum(e.rows_out for e in result.evidence) == 3


def test_strict_refuses_what_has_no_native_program() -> None:
    narrow = wh.scan(TABLE).select(y=col("x").cast(pa.int8()))
    with pytest.raises(wh.Refused, match="no native program") as refused:
        narrow.run(strict=True)
    assert any("cast(x as int8)" in reason for reason in refused.value.reasons)
