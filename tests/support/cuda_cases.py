"""Passes that CUDA programs are made of; each has many expressions, since each is compiled."""

from datetime import date, datetime

import pyarrow as pa
from support.chunks import SCHEMA, TYPES, calls_of, rows_of, staged, where

from wherry import col, count, lit, when
from wherry.ir.resolve import resolve
from wherry.ir.stage import Groups, Pass, Totals

NARROW = {"m": (-(10**9), 10**9), "w": (-(10**18), 10**18), "d": (-20_000, 110_000)}
NARROW |= {"i8": (-9, 9), "i64": (-9, 9), "u16": (0, 9)}
"""What statistics would say of the columns of `support.chunks`."""
WRITTEN = [name for name in TYPES if name not in "slv"]


def every_type():
    return staged(Pass(where(col("i64") > 0), rows_of(**{n: col(n) for n in WRITTEN})))


def unfiltered():
    return staged(Pass(None, rows_of(n=col("i64") - col("i8"), b=~col("b"), c=col("c"))))


def numeric():
    x, m = col("f64"), col("m")
    outputs = {
        "sum": col("i8") + col("i8"),
        "product": col("i64") * col("i64"),
        "u": col("u16") * 3,
        "minus": -col("i8"),
        "less": -x,
        "float": col("f32") * x - 0.5,
        "ratio": x / col("i64"),
        "zero": col("i8") / (col("i8") - col("i8")),
        "cents": m + col("i8"),
        "more": m * m,
        "wide": col("w") - m,
        "of": col("b").cast(pa.int64()),
        "as": m.cast(pa.float64()),
        "negated": -m,
        "single": col("f32"),
        "high": m * 10,
    }
    return staged(Pass(where(x > -1.5), rows_of(**outputs)))


def truths():
    m, x, b = col("m"), col("f64"), col("b")
    outputs = {
        "and_": b & (x > 0),
        "or_": b | (x > 0),
        "not_": ~(x <= 0.25),
        "is": b == (x > 0),
        "before": b < (x > 0),
        "decimal": m >= col("w"),
        "same": x == x,
        "other": x != col("f32"),
        "in_": col("i64").is_in([-4, 0, 3]),
        "among": x.is_in([0.0, 0.5]),
        "none": (b & b).is_null(),
        "there": ~col("s").is_null(),
        "exact": m.is_in([1, 2]),
        "u": col("u16") > 4,
        "case": when(b).then(m).when(x > 0).then(col("w")).otherwise(None),
        "choice": when(x > 1).then(col("i8")).otherwise(col("i64") + 1),
        "truth": when(x > 1).then(b).otherwise(x < 0),
        "null": lit(None).cast(pa.int64()),
    }
    test = (col("i64") != 2) & (b | (x < 1)) & (x.is_null() | (x != 0.25))
    return staged(Pass(where(test), rows_of(**outputs)))


def texts():
    outputs = {}
    for name in "slv":
        text = col(name).str
        outputs |= {
            f"{name} equal": col(name) == "ab",
            f"{name} before": col(name) < "b",
            f"{name} prefix": text.starts_with("wherry"),
            f"{name} part": text.contains("carries a"),
            f"{name} parts": text.like("%r%c%y%"),
            f"{name} among": col(name).is_in(["", "ü", "a"]),
        }
    outputs |= {
        "other": col("s") != "a",
        "after": col("s") >= "wherry carries",
        "suffix": col("s").str.ends_with("query"),
        "few": col("s").str.like("a%b%"),
        "whole": col("s").str.like("ab"),
        "any": col("s").str.contains(""),
    }
    return staged(Pass(where(~col("s").str.like("%zz%")), rows_of(**outputs)))


def dictionaries():
    outputs = {
        "equal": col("c") == "ab",
        "like": col("e").str.like("w_erry%"),
        "in_": col("e").is_in(["a"]),
        "none": col("c").is_null(),
        "both": (col("c") == "a") | (col("e") == "b"),
        "number": when(col("c") == "a").then(1.5).otherwise(-2.5),
        "code": col("e"),
    }
    return staged(Pass(where(col("c") != "b"), rows_of(**outputs)))


def moments():
    d, t = col("d"), col("t")
    outputs = {
        "year": d.dt.year(),
        "month": d.dt.month(),
        "day": d.dt.day(),
        "y": t.dt.year(),
        "m": t.dt.month(),
        "dd": t.dt.day(),
        "date": t.cast(pa.date32()),
        "ms": d.cast(pa.date64()),
        "clock": t.cast(pa.time64("us")),
        "apart": t - d,
        "coarse": t.cast(pa.timestamp("s")),
        "count": d.cast(pa.int32()),
        "late": d > date(1994, 1, 1),
        "stamp": t >= datetime(1970, 1, 1),
    }
    return staged(Pass(where(d.dt.year() > 1900), rows_of(**outputs)))


def totals():
    x, m, w = col("f64"), col("m"), col("w")
    calls = {
        "rows": count(),
        "texts": col("s").count(),
        "codes": col("c").count(),
        "x": x.sum(),
        "f": (col("f32") * 0.5).sum(),
        "i": (col("i64") * col("i8")).sum(),
        "u": col("u16").sum(),
        "m": (m * m).sum(),
        "w": w.sum(),
    }
    return staged(Pass(where(x > -1), Totals(calls_of(**calls))))


def extremes():
    calls = {}
    for name in ("i8", "u16", "f32", "f64", "d", "w", "b"):
        calls |= {f"{name} least": col(name).min(), f"{name} most": col(name).max()}
    return staged(Pass(where(col("i64") != 5), Totals(calls_of(**calls))))


def forecast():
    """TPC-H's sixth query: columns are read as rows are left."""
    d, x = col("d"), col("f64")
    test = (d >= date(1950, 1, 1)) & (d < date(1990, 1, 1)) & x.is_between(-1.5, 1.5)
    call = {"revenue": (col("f32") * x).sum()}
    return staged(Pass(where(test & (col("i64") < 5)), Totals(calls_of(**call))))


def nothing_passes():
    calls = {"x": col("f64").sum(), "m": col("m").min(), "n": count()}
    return staged(Pass(where(col("i64") > 100), Totals(calls_of(**calls))))


def grouped(*keys, **calls):
    found = tuple((name, resolve(col(name).node, SCHEMA)) for name in keys)
    return staged(Pass(where(col("i64") != 0), Groups(found, calls_of(**calls))))


def by_code():
    """TPC-H's first query, but for its second key."""
    x = col("f64")
    return grouped("c", x=x.sum(), y=(x * (1 - col("f32"))).sum(), m=col("m").sum(), n=count())


def by_several():
    return grouped("b", "u16", n=count(), least=col("d").min(), most=col("b").max())


def by_date():
    days = (resolve((col("i64") > 3).node, SCHEMA), resolve(col("u16").node, SCHEMA))
    keys = tuple(zip(("late", "u"), days, strict=True))
    return staged(Pass(None, Groups(keys, calls_of(w=col("w").max(), n=col("s").count()))))


def by_many():
    """Floats by more groups than fit on chip without asking."""
    return grouped("i8", "u16", x=col("f64").sum())


def by_anything():
    calls = {"n": count(), "texts": col("s").count(), "m": (col("m") * col("m")).sum()}
    for name in ("i8", "u16", "f32", "f64", "d", "b"):
        calls |= {f"{name} least": col(name).min(), f"{name} most": col(name).max()}
    return grouped("f64", "w", "c", u=col("u16").sum(), i=(col("i64") * 3).sum(), **calls)


def by_truth_and_number():
    return grouped("f32", "b", "t", n=count())


TOTALS = [totals, extremes, forecast, nothing_passes]
GROUPS = [by_code, by_several, by_date, by_many, by_anything, by_truth_and_number]
FILTERS = [every_type, unfiltered, numeric, truths, texts, dictionaries, moments]
