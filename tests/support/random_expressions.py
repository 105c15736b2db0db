"""Random expressions over the columns of `support.chunks`, and random chunks of them."""

from datetime import date, datetime

from hypothesis import strategies as st
from support.chunks import TEXTS, TYPES, batch_of

from wherry.ir.builder import col, lit, when

NUMBERS = ["i8", "i64", "u16", "f32", "f64", "m", "w"]
numbers = st.recursive(
    st.sampled_from(NUMBERS).map(col)
    | st.integers(-3, 3).map(lit)
    | st.sampled_from([0.5, -1.25]).map(lit),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/"), inner, inner).map(lambda x: _apply(*x)),
        inner.map(lambda e: -e),
        st.tuples(st.sampled_from(["i64", "f64"]), inner).map(lambda x: x[1].cast(TYPES[x[0]])),
        st.sampled_from("dt").map(lambda n: col(n).dt.year()),
        st.sampled_from("dt").map(lambda n: col(n).dt.month() + col(n).dt.day()),
    ),
    max_leaves=4,
)
texts = st.sampled_from("slvce").flatmap(
    lambda n: st.one_of(
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.sampled_from(TEXTS)).map(
            lambda x: _test(x[0], col(n), lit(x[1]))
        ),
        st.sampled_from(TEXTS).map(col(n).str.starts_with),
        st.sampled_from(TEXTS).map(col(n).str.ends_with),
        st.sampled_from(TEXTS).map(col(n).str.contains),
        st.sampled_from(["a%", "%c%ies%", "w%y", "a_", "%", "ab"]).map(col(n).str.like),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(col(n).is_in),
        st.just(col(n).is_null()),
    )
)
tests = st.recursive(
    st.one_of(
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers, numbers).map(
            lambda x: _test(*x)
        ),
        texts,
        st.just(col("b")),
        numbers.map(lambda e: e.is_null()),
        st.lists(st.integers(-4, 4), min_size=1, max_size=4).map(col("i64").is_in),
        st.just(col("d") < date(1994, 1, 1)),
        st.just(col("t") >= datetime(1970, 1, 1)),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda x: x[0] & x[1]),
        st.tuples(inner, inner).map(lambda x: x[0] | x[1]),
        inner.map(lambda e: ~e),
        st.tuples(inner, numbers, numbers).map(lambda x: when(x[0]).then(x[1]).otherwise(x[2]) > 0),
    ),
    max_leaves=4,
)
batches = st.builds(
    batch_of,
    st.sampled_from([0, 1, 63, 64, 65, 300]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2),
    st.sampled_from([0, 3]),
)


def _apply(op, left, right):
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[op]


def _test(op, left, right):
    return {
        "==": left == right, "!=": left != right, "<": left < right,
        "<=": left <= right, ">": left > right, ">=": left >= right,
    }[op]  # fmt: skip
