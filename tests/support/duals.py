"""An expression twice, as Wherry's and as SQL, and the simplest of them: columns and constants."""

from collections.abc import Callable, Mapping

import hypothesis.strategies as st
import pyarrow as pa
from msgspec import Struct
from support.typed import Known, pool, sql_literal

from wherry import Expr, InputError, col
from wherry.ir.resolve import resolve, type_of

Draw = Callable[[st.SearchStrategy], object]
Columns = Mapping[str, Known]


class Dual(Struct, frozen=True):
    """An expression with its SQL and what is known of its values."""

    expr: Expr
    sql: str
    known: Known

    @property
    def type(self) -> pa.DataType:
        return self.known.type


def schema_of(columns: Columns) -> pa.Schema:
    return pa.schema([(name, known.type) for name, known in columns.items()])


def column(name: str, columns: Columns) -> Dual:
    return Dual(col(name), f'"{name}"', columns[name])


def typed(expr: Expr, columns: Columns) -> pa.DataType | None:
    """Give the type Wherry finds, or None if it refuses (then the generator draws another)."""
    try:
        return type_of(resolve(expr.node, schema_of(columns)))
    except InputError:
        return None


def literal(draw: Draw, t: pa.DataType) -> tuple[object, str]:
    value = draw(st.sampled_from(pool(t)))
    return value, sql_literal(value, t)


def pick(draw: Draw, columns: Columns, fits: Callable[[Known], bool]) -> Dual | None:
    names = [name for name, known in columns.items() if fits(known)]
    return column(draw(st.sampled_from(names)), columns) if names else None
