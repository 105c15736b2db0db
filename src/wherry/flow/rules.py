"""What may be done with values of each type, and what comes out: the allow-lists of programs."""

from __future__ import annotations

from typing import Final

from wherry.flow.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    DECIMAL,
    FLOAT,
    INT,
    ITEMS_BOUND,
    STR,
    TIME,
    TIMEDELTA,
    Fixed,
    Many,
    Maybe,
    Reference,
    Scalar,
    Sized,
    WireType,
    item_type,
    joined,
)

OPERATORS: Final = frozenset({"+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>"})
UNARY: Final = frozenset({"-", "+", "~", "not"})
EQUALITY: Final = frozenset({"==", "!="})
ORDER: Final = frozenset({"<", "<=", ">", ">="})
MEMBERSHIP: Final = frozenset({"in", "not in"})
IDENTITY: Final = frozenset({"is", "is not"})
COMPARISONS: Final = EQUALITY | ORDER | MEMBERSHIP | IDENTITY

FIXED_MOST: Final = 256
"""Items of a tuple that the type names one by one."""
_NUMBERS: Final = {BOOL: 0, INT: 1, FLOAT: 2}
_KINDS: Final = {"date": DATE, "datetime": DATETIME, "timedelta": TIMEDELTA, "time": TIME}

_TIMES: Final[dict[tuple[WireType, str, WireType], WireType]] = {
    (DATE, "-", DATE): TIMEDELTA,
    (DATE, "+", TIMEDELTA): DATE,
    (TIMEDELTA, "+", DATE): DATE,
    (DATE, "-", TIMEDELTA): DATE,
    (DATETIME, "-", DATETIME): TIMEDELTA,
    (DATETIME, "+", TIMEDELTA): DATETIME,
    (TIMEDELTA, "+", DATETIME): DATETIME,
    (DATETIME, "-", TIMEDELTA): DATETIME,
    (TIMEDELTA, "+", TIMEDELTA): TIMEDELTA,
    (TIMEDELTA, "-", TIMEDELTA): TIMEDELTA,
    (TIMEDELTA, "*", INT): TIMEDELTA,
    (INT, "*", TIMEDELTA): TIMEDELTA,
    (TIMEDELTA, "*", FLOAT): TIMEDELTA,
    (FLOAT, "*", TIMEDELTA): TIMEDELTA,
    (TIMEDELTA, "/", INT): TIMEDELTA,
    (TIMEDELTA, "/", FLOAT): TIMEDELTA,
    (TIMEDELTA, "/", TIMEDELTA): FLOAT,
    (TIMEDELTA, "//", INT): TIMEDELTA,
    (TIMEDELTA, "//", TIMEDELTA): INT,
    (TIMEDELTA, "%", TIMEDELTA): TIMEDELTA,
}

ATTRIBUTES: Final[dict[str, dict[str, WireType]]] = {
    "date": dict.fromkeys(("year", "month", "day"), INT),
    "datetime": dict.fromkeys(
        ("year", "month", "day", "hour", "minute", "second", "microsecond"), INT
    ),
    "time": dict.fromkeys(("hour", "minute", "second", "microsecond"), INT),
    "timedelta": dict.fromkeys(("days", "seconds", "microseconds"), INT),
    "rows": dict.fromkeys(("num_rows", "num_columns", "nbytes"), INT),
    "shard": {"dataset": STR, "number": INT},
}
"""By kind of the value: attributes and their types."""

_TEXTS: Final = Many(STR, ITEMS_BOUND)
METHODS: Final[dict[str, dict[str, tuple[tuple[tuple[WireType, ...], ...], int, WireType]]]] = {
    "str": {
        **dict.fromkeys(("lower", "upper", "title", "capitalize", "casefold"), ((), 0, STR)),
        "swapcase": ((), 0, STR),
        **dict.fromkeys(("strip", "lstrip", "rstrip"), (((STR,),), 0, STR)),
        **dict.fromkeys(("startswith", "endswith"), (((STR,),), 1, BOOL)),
        **dict.fromkeys(("removeprefix", "removesuffix"), (((STR,),), 1, STR)),
        **dict.fromkeys(("find", "rfind", "index", "count"), (((STR,),), 1, INT)),
        **dict.fromkeys(
            ("isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isdecimal"),
            ((), 0, BOOL),
        ),
        "replace": (((STR,), (STR,)), 2, STR),
        "zfill": (((INT,),), 1, STR),
        **dict.fromkeys(("ljust", "rjust"), (((INT,), (STR,)), 1, STR)),
        "join": (((_TEXTS,),), 1, STR),
        "partition": (((STR,),), 1, Fixed((STR, STR, STR))),
        "rpartition": (((STR,),), 1, Fixed((STR, STR, STR))),
        "encode": ((), 0, BYTES),
    },
    "bytes": {
        "hex": ((), 0, STR),
        "decode": ((), 0, STR),
        **dict.fromkeys(("startswith", "endswith"), (((BYTES,),), 1, BOOL)),
        **dict.fromkeys(("find", "count"), (((BYTES,),), 1, INT)),
    },
    "int": {"bit_length": ((), 0, INT), "bit_count": ((), 0, INT)},
    "float": {"is_integer": ((), 0, BOOL), "hex": ((), 0, STR)},
    "date": {
        "isoformat": ((), 0, STR),
        "weekday": ((), 0, INT),
        "isoweekday": ((), 0, INT),
        "toordinal": ((), 0, INT),
    },
    "datetime": {
        "isoformat": ((), 0, STR),
        "weekday": ((), 0, INT),
        "isoweekday": ((), 0, INT),
        "date": ((), 0, DATE),
        "time": ((), 0, TIME),
    },
    "time": {"isoformat": ((), 0, STR)},
    "timedelta": {"total_seconds": ((), 0, FLOAT)},
    "decimal": {
        "is_nan": ((), 0, BOOL),
        "is_finite": ((), 0, BOOL),
        "normalize": ((), 0, DECIMAL),
        "quantize": (((DECIMAL,),), 1, DECIMAL),
    },
}
"""By kind of the value: methods, the types of their arguments, how many are needed, the result."""

FUNCTIONS: Final = frozenset(
    {
        *("len", "min", "max", "abs", "round", "int", "float", "str", "bool", "sum", "tuple"),
        *("range", "divmod", "date", "datetime", "time", "timedelta", "Decimal"),
    }
)
KEYWORDS: Final[dict[str, tuple[str, ...]]] = {
    "timedelta": (
        *("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"),
    ),
    "date": ("year", "month", "day"),
    "datetime": ("year", "month", "day", "hour", "minute", "second", "microsecond"),
    "time": ("hour", "minute", "second", "microsecond"),
}
"""The only functions that take arguments by name, and the names, in order."""


def kind_of(t: WireType) -> str:
    """Give the kind by which attributes and methods are listed; "" if the type has none."""
    return t.kind if isinstance(t, Scalar | Sized | Reference) else ""


def binary(op: str, a: WireType, b: WireType) -> WireType | None:
    """Give the type of `a op b`; None if there is none."""
    if a in _NUMBERS and b in _NUMBERS:
        return _numeric(op, a, b)
    if (a, op, b) in _TIMES:
        return _TIMES[a, op, b]
    match a, b:
        case Sized("decimal"), Sized("decimal") if op in {"+", "-", "*", "/", "//", "%", "**"}:
            return DECIMAL
        case (Sized("decimal"), Scalar("int")) | (Scalar("int"), Sized("decimal")) if op in {
            *("+", "-", "*", "/", "//", "%", "**"),
        }:
            return DECIMAL
        case Sized("str" | "bytes" as one), Sized("str" | "bytes" as two) if one == two:
            return joined(a, b) if op == "+" else None
        case (Sized("str" | "bytes"), Scalar("int")) if op == "*":
            return a
        case (Scalar("int"), Sized("str" | "bytes")) if op == "*":
            return b
        case ((Fixed() | Many()), (Fixed() | Many())) if op == "+":
            return _added(a, b)
    return None


def _added(a: Fixed | Many, b: Fixed | Many) -> WireType | None:
    if not isinstance(a, Fixed) or not isinstance(b, Fixed):
        return joined(a, b)
    items = a.items + b.items
    return Fixed(items) if len(items) <= FIXED_MOST else None


def _numeric(op: str, a: WireType, b: WireType) -> WireType | None:
    bits = op in {"&", "|", "^", "<<", ">>"}
    if bits and FLOAT in {a, b}:
        return None
    if op in {"&", "|", "^"} and a == b == BOOL:
        return BOOL
    if op == "/":
        return FLOAT
    return FLOAT if FLOAT in {a, b} else INT


def unary(op: str, t: WireType) -> WireType | None:
    """Give the type of `op value`; None if there is none."""
    if op == "not":
        return BOOL
    if op == "~":
        return INT if t in {BOOL, INT} else None
    if t in _NUMBERS:
        return FLOAT if t == FLOAT else INT
    return t if t in {TIMEDELTA, DECIMAL} else None


def comparable(op: str, a: WireType, b: WireType) -> bool:
    """Tell whether `a op b` has a truth value in every run."""
    if op in EQUALITY:
        return True
    if op in MEMBERSHIP:
        match a, b:
            case Sized("str"), Sized("str"):
                return True
            case _, (Fixed() | Many()):
                return True
        return False
    if op in IDENTITY:
        return True
    if a in _NUMBERS and b in _NUMBERS:
        return True
    if {kind_of(a), kind_of(b)} <= {"int", "float", "decimal", "bool"} and kind_of(a):
        return True
    match a, b:
        case (Scalar("none") | Maybe(), _) | (_, Scalar("none") | Maybe()):
            return False
        case Scalar(), Scalar():
            return a == b
        case Sized(one), Sized(two):
            return one == two
        case ((Fixed() | Many()), (Fixed() | Many())):
            item = joined(a, b)
            return item is not None and _ordered(item)
    return False


def _ordered(t: WireType) -> bool:
    match t:
        case Fixed(items):
            return all(map(_ordered, items))
        case Many(item):
            return _ordered(item)
    return comparable("<", t, t)


def call(name: str, types: tuple[WireType, ...], names: tuple[str, ...]) -> WireType | None:
    """Give the type of a listed function's result; None if it does not take these arguments."""
    if names and (
        name not in KEYWORDS or len(set(names)) != len(names) or not set(names) <= {*KEYWORDS[name]}
    ):
        return None
    if name in KEYWORDS:
        return _constructed(name, types, names)
    if len(types) == 1:
        return _call_one(name, types[0])
    if name in {"min", "max"} and len(types) > 1:
        return _least(types)
    if name == "range" and 1 <= len(types) <= 3 and all(t == INT for t in types):
        return Many(INT, ITEMS_BOUND)
    match name, types:
        case "divmod", (a, b) if a in _NUMBERS and b in _NUMBERS:
            whole = FLOAT if FLOAT in {a, b} else INT
            return Fixed((whole, whole))
        case "divmod", (Scalar("timedelta"), Scalar("timedelta")):
            return Fixed((INT, TIMEDELTA))
        case "round", (Scalar("float" | "int") | Sized("decimal") as t, Scalar("int")):
            return t
        case "int", (Sized("str"), Scalar("int")):
            return INT
        case "sum", (Fixed() | Many() as t, start):
            item = item_type(t)
            found = start if item is None else binary("+", start, item)
            return found if found in {INT, FLOAT, DECIMAL, TIMEDELTA} else None
    return None


def _constructed(name: str, types: tuple[WireType, ...], names: tuple[str, ...]) -> WireType | None:
    possible = KEYWORDS[name]
    by_place = len(types) - len(names)
    given = {*possible[:by_place], *names}
    needed = possible[:3] if name in {"date", "datetime"} else ()
    whole = name != "timedelta"
    if by_place > len(possible) or not {*needed} <= given or {*possible[:by_place]} & {*names}:
        return None
    if not all(t == INT or (not whole and t == FLOAT) for t in types):
        return None
    return _KINDS[name]


def _least(types: tuple[WireType, ...]) -> WireType | None:
    found = types[0]
    for t in types[1:]:
        both = joined(found, t)
        if both is None:
            return None
        found = both
    return found if _ordered(found) else None


def _call_one(name: str, t: WireType) -> WireType | None:
    kind = kind_of(t)
    sequence = isinstance(t, Fixed | Many)
    if name == "len":
        return INT if sequence or kind in {"str", "bytes"} else None
    if name == "bool":
        return BOOL
    if name == "str":
        scalar = isinstance(t, Scalar) or kind in {"str", "decimal"} or isinstance(t, Maybe)
        return STR if scalar and not (isinstance(t, Maybe) and not _texty(t.item)) else None
    if name == "int":
        return INT if kind in {"int", "float", "bool", "str", "decimal"} else None
    if name == "float":
        return FLOAT if kind in {"int", "float", "bool", "str", "decimal"} else None
    if name == "Decimal":
        return DECIMAL if kind in {"int", "str", "decimal"} else None
    if name == "abs":
        return (INT if kind == "bool" else t) if kind in _SIGNED else None
    if name == "round":
        return INT if kind in {"int", "float", "decimal", "bool"} else None
    if name == "range":
        return Many(INT, ITEMS_BOUND) if t == INT else None
    return _call_sequence(name, t) if isinstance(t, Fixed | Many) else None


_SIGNED: Final = frozenset({"int", "float", "bool", "decimal", "timedelta"})


def _texty(t: WireType) -> bool:
    return isinstance(t, Scalar) or kind_of(t) in {"str", "decimal"}


def _call_sequence(name: str, t: Fixed | Many) -> WireType | None:
    item = item_type(t)
    match name:
        case "tuple":
            return t
        case "min" | "max":
            return item if item is not None and _ordered(item) else None
        case "sum":
            if t == Fixed(()):
                return INT
            total = None if item is None else binary("+", INT, item)
            return total if total in {INT, FLOAT, DECIMAL} else None
    return None


def method(t: WireType, name: str, types: tuple[WireType, ...]) -> WireType | None:
    """Give the type of a listed method's result; None if there is none for these arguments."""
    found = METHODS.get(kind_of(t), {}).get(name)
    if found is None:
        return None
    wanted, needed, result = found
    if not needed <= len(types) <= len(wanted):
        return None
    for given, possible in zip(types, wanted, strict=False):
        if not any(_suits(given, p) for p in possible):
            return None
    if isinstance(result, Sized) and isinstance(t, Sized) and result.kind == t.kind:
        return t
    return result


def _suits(given: WireType, wanted: WireType) -> bool:
    if isinstance(wanted, Sized):
        return kind_of(given) == wanted.kind
    if isinstance(wanted, Many):
        return isinstance(given, Fixed | Many) and all(
            kind_of(i) == kind_of(wanted.item)
            for i in (given.items if isinstance(given, Fixed) else (given.item,))
        )
    return given == wanted
