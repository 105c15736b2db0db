"""Movables that are accepted: from templates over types, operators, methods; and by hand.

A text is a module whose last function is the movable; arguments are made by its annotations.
"""

from __future__ import annotations

from wherry.flow import rules

TYPES = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "bytes": "bytes",
    "date": "date",
    "datetime": "datetime",
    "time": "time",
    "timedelta": "timedelta",
    "decimal": "Decimal",
    "option": "int | None",
    "pair": "tuple[int, str]",
    "several": "tuple[int, ...]",
    "nested": "tuple[tuple[str, int], ...]",
    "bounded": "Annotated[str, Most(1000)]",
    "none": "None",
}

OF_TYPE = {
    "carried": """
        async def f(x: {t}) -> {t}:
            await sleep(1)
            return x
        """,
    "chosen": """
        async def f(x: {t}, y: {t}, n: int) -> {t}:
            z = x if n > 1 else y
            await sleep(n)
            return z
        """,
    "awaited": """
        async def f(n: int) -> {t}:
            for i in range(3):
                x: {t} = await event(f"e{{i}}")
                if i == n:
                    return x
            y: {t} = await event("last")
            return y
        """,
    "optional": """
        async def f(x: {t}) -> bool:
            y: {t} | None = None
            await sleep(1)
            if y is None:
                y = x
            await sleep(2)
            return y is not None
        """,
    "of_many": """
        async def f(xs: tuple[{t}, ...]) -> tuple[{t}, ...]:
            out: tuple[{t}, ...] = ()
            for x in xs:
                await sleep(len(out))
                out = (x,) + out
            return out
        """,
    "compared": """
        async def f(x: {t}, y: {t}) -> str:
            await tell("begin")
            if x == y:
                return "same"
            if x != y and y == y:
                await tell("other")
            return f"{{x in (x, y)}}"
        """,
    "returned_by_call": """
        @movable
        async def inner(x: {t}, n: int) -> {t}:
            for i in range(n):
                await sleep(i)
            return x
        async def f(x: {t}, y: {t}) -> {t}:
            await tell("before")
            a = await inner(x, 2)
            b = await inner(y, 0)
            return a if a == b else b
        """,
}

BINARY = {
    "int": ("int", "int", ("+", "-", "*", "/", "//", "%", "&", "|", "^", "<<", ">>")),
    "float": ("float", "int", ("+", "-", "*", "/", "//", "%")),
    "floats": ("float", "float", ("+", "-", "*", "/")),
    "bool": ("bool", "bool", ("&", "|", "^", "+", "-")),
    "text": ("str", "str", ("+",)),
    "repeat": ("str", "int", ("*",)),
    "bytes": ("bytes", "bytes", ("+",)),
    "decimal": ("Decimal", "Decimal", ("+", "-", "*", "/", "%")),
    "decimal_int": ("Decimal", "int", ("+", "-", "*")),
    "days": ("date", "date", ("-",)),
    "day": ("date", "timedelta", ("+", "-")),
    "moments": ("datetime", "datetime", ("-",)),
    "moment": ("datetime", "timedelta", ("+", "-")),
    "spans": ("timedelta", "timedelta", ("+", "-", "/", "//", "%")),
    "span": ("timedelta", "int", ("*", "/", "//")),
    "tuples": ("tuple[int, ...]", "tuple[int, ...]", ("+",)),
    "fixed": ("tuple[int, str]", "tuple[float, ...]", ()),
}
OPERATION = """
    async def f(a: {a}, b: {b}) -> str:
        text = ""
        try:
            c = a {op} b
            await tell("made")
            text = {shown}
        except (ArithmeticError, ValueError) as problem:
            await tell(f"{{problem}}")
            text = str(problem)
        return text
    """
ORDERED = ("int", "float", "str", "bytes", "date", "datetime", "time", "timedelta", "Decimal")
COMPARISON = """
    async def f(a: {t}, b: {t}, c: {t}) -> tuple[bool, bool, str]:
        await sleep(1)
        chain = a < b <= c
        await sleep(2)
        low, high = min(a, b, c), max(a, b)
        return chain, (a >= c) is not True, "in" if a in (b, c) else f"{{low}} {{high > low}}"
    """
METHOD = """
    async def f(n: int) -> str:
        x: {t} = await event("x")
        try:
            y = x.{call}
            await tell(f"{{x}}")
            return {shown}
        except ValueError as e:
            return f"no: {{e}}"
    """
ARGUMENTS = {
    **dict.fromkeys(("startswith", "endswith", "removeprefix", "removesuffix"), "'a'"),
    **dict.fromkeys(("find", "rfind", "index", "count", "partition", "rpartition"), "'b'"),
    "replace": "'a', 'bb'",
    "zfill": "n % 7",
    "ljust": "n % 5, '*'",
    "rjust": "n % 9",
    "join": "('x', 'y')",
    "quantize": "Decimal('0.01')",
    "strip": "' ,'",
}
METHOD_TYPES = {"decimal": "Decimal"}
ATTRIBUTE = """
    async def f(x: {t}) -> int:
        await sleep(1)
        y = x.{name}
        await sleep(y)
        return y
    """
CALLS = {
    "len_text": ("str", "len(x)"),
    "len_bytes": ("bytes", "len(x)"),
    "len_tuple": ("tuple[int, ...]", "len(x)"),
    "min_tuple": ("tuple[int, ...]", "min(x)"),
    "max_tuple": ("tuple[float, ...]", "max(x)"),
    "sum_ints": ("tuple[int, ...]", "sum(x)"),
    "sum_floats": ("tuple[float, ...]", "sum(x, 0.5)"),
    "sum_spans": ("tuple[timedelta, ...]", "sum(x, timedelta(1)).days"),
    "abs_int": ("int", "abs(x)"),
    "abs_float": ("float", "abs(x)"),
    "abs_span": ("timedelta", "abs(x)"),
    "round_float": ("float", "round(x, 1)"),
    "round_whole": ("int", "round(x)"),
    "round_decimal": ("Decimal", "round(x, 1)"),
    "int_text": ("str", "int(x)"),
    "int_base": ("str", "int(x, 16)"),
    "int_float": ("float", "int(x)"),
    "int_bool": ("bool", "int(x)"),
    "float_text": ("str", "float(x)"),
    "float_int": ("int", "float(x)"),
    "float_decimal": ("Decimal", "float(x)"),
    "str_int": ("int", "str(x)"),
    "str_day": ("date", "str(x)"),
    "str_span": ("timedelta", "str(x)"),
    "str_none": ("int | None", "str(x)"),
    "bool_int": ("int", "bool(x)"),
    "bool_tuple": ("tuple[int, ...]", "bool(x)"),
    "tuple_range": ("int", "len(tuple(range(x % 9)))"),
    "sum_range": ("int", "sum(range(0, x % 9, 2))"),
    "divmod_ints": ("int", "divmod(x, 3)[1]"),
    "divmod_float": ("float", "divmod(2.5, x)[0]"),
    "day": ("int", "date(2000 + x % 9, 2, 1 + x % 28)"),
    "day_named": ("int", "date(day=1 + x % 28, month=2, year=1999)"),
    "moment": ("int", "datetime(2000, 1, 2, x % 24, minute=x % 60)"),
    "clock": ("int", "time(x % 25, 5)"),
    "span": ("int", "timedelta(days=x % 9, hours=-1)"),
    "span_float": ("float", "timedelta(seconds=x)"),
    "decimal_text": ("str", "Decimal(x)"),
    "decimal_int": ("int", "Decimal(x) / 7"),
    "power": ("int", "(x % 100) ** 3"),
    "power_float": ("float", "abs(x) ** 0.5"),
    "negative": ("float", "-x"),
    "inverted": ("int", "~x"),
    "positive": ("bool", "+x"),
    "denied": ("str", "not x"),
    "item": ("tuple[str, int]", "x[1]"),
    "last": ("tuple[str, int]", "x[-1]"),
    "items": ("tuple[int, ...]", "x[len(x) - 1]"),
    "character": ("str", "x[0]"),
    "byte": ("bytes", "x[0]"),
    "text_in": ("str", '"a" in x'),
    "not_in": ("int", "x not in (1, 2, 3)"),
    "width": ("int", 'f"{x:>12,}|{x:x}|{x:+d}"'),
    "digits": ("float", 'f"{x:.3f}|{x:e}|{x:10.2%}"'),
    "quoted": ("str", 'f"{x!r}|{x!s:>8}|{{}}"'),
    "either": ("int", "x or 7"),
    "both": ("int", "x and x - 1"),
    "logic": ("int", "x > 1 and x < 9 or not x == 5"),
    "default": ("str | None", 'x or "nothing"'),
    "known": ("str | None", "x is not None and len(x) > 1"),
    "guarded": ("int | None", "x + 1 if x is not None else 0"),
}
CALL = """
    async def f(x: {t}) -> str:
        try:
            y = {call}
        except (ArithmeticError, ValueError, LookupError) as e:
            await tell(f"{{e}}")
            return "error"
        await sleep(1)
        return f"{{y}}"
    """
CHAINS = {
    "filter_lambda": "filter(lambda r: r.day >= lo)",
    "filter_item": 'filter(lambda r: r["day"] < lo)',
    "filter_column": 'filter(col("k") == k)',
    "filter_two": 'filter(col("k") == k, lambda r: r.x.is_null() | ~(r.y == name))',
    "filter_reversed": "filter(lambda r: k <= r.x)",
    "filter_arithmetic": "filter(lambda r: r.x * 2 + k > r.y - (k + 1) / 3)",
    "filter_in": "filter(lambda r: r.x.is_in([k, 5, 6]))",
    "filter_between": "filter(lambda r: r.day.is_between(lo, lo + timedelta(days=3)))",
    "filter_text": 'filter(lambda r: r.name.str.starts_with(name) & r.name.str.like("a%"))',
    "filter_when": "filter(lambda r: when(r.x > k).then(r.y).otherwise(k) > 0)",
    "filter_date": "filter(lambda r: r.day.dt.year() == 1994)",
    "filter_constant": "filter(lambda r: r.day > date(1994, 1, 1))",
    "filter_cast": "filter(lambda r: r.x.cast(pa.int64()) < k)",
    "select_names": 'select("a", "b")',
    "select_named": "select(x=lambda_free, y=col('y') * k)",
    "select_alias": 'select((col("a") + k).alias("b"))',
    "with_columns": 'with_columns(total=col("a") * col("b"))',
    "agg": 'agg(n=wherry.count(), s=col("x").sum())',
    "agg_lambda": "agg((col('x') * k).max().alias('m'))",
    "group_by": 'group_by("a", "b").agg(n=wherry.count())',
    "sort": 'sort("a", "b", descending=[True, False])',
    "top_k": 'top_k(k, by="a")',
    "top_k_of": 'top_k(k + 1, by=("a", "b"), descending=False)',
    "limit": "limit(k)",
    "limit_constant": "limit(LIMIT)",
    "distinct": 'distinct("a")',
    "join": 'join(shard, on="k")',
    "many": 'filter(lambda r: r.a > k).select("a", b=col("c")).sort("a").limit(10)',
}
CHAIN = """
    LIMIT = 5
    lambda_free = col("q")
    async def f(k: int, lo: date, name: str) -> Rows:
        shard = await route("orders", key=k)
        rows = await shard.{chain}
        rows = await rows.{chain}
        both = await scan("other").{chain}
        return await respond(rows if both.num_rows > rows.num_rows else both)
    """

BY_HAND = {
    "empty": "async def f():\n    pass",
    "docstring": 'async def f() -> None:\n    """Does nothing."""',
    "constant": "LIMIT = 3\nasync def f() -> int:\n    return LIMIT",
    "tuple_constant": "XS = (1, 2)\nasync def f() -> int:\n    await sleep(1)\n    return XS[0]",
    "module_constant": "import math\nasync def f(x: float) -> float:\n    return math.pi * x",
    "no_annotation_result": "async def f(n: int):\n    await sleep(n)\n    return n, 'x'",
    "keyword_only": "async def f(a: int, *, b: str) -> str:\n    await sleep(a)\n    return b",
    "string_annotations": "async def f(a: 'int') -> 'str | None':\n    return str(a)",
    "table_annotation": """
        async def f(k: int) -> pa.Table:
            rows = await scan("t").limit(k)
            return await respond(rows)
        """,
    "all_of_dataset": """
        async def f() -> Rows:
            shard = await route("orders")
            rows = await shard.limit(1)
            return await respond(rows=rows)
        """,
    "while_await": """
        async def f(n: int) -> int:
            total = 0
            while total < n % 50:
                total += 1
                await sleep(total)
            return total
        """,
    "while_else": """
        async def f(n: int) -> str:
            i = 0
            while i < 5:
                ok: bool = await event("e")
                if not ok:
                    break
                i += 1
            else:
                return "all"
            return f"until {i}"
        """,
    "while_true": """
        async def f() -> int:
            i = 0
            while True:
                i += 1
                x: bool = await event("e")
                if x and i > 2:
                    return i
        """,
    "for_else": """
        async def f(n: int) -> int:
            found = -1
            for i in range(1, 6):
                if i * i == n % 30:
                    found = i
                    break
                await sleep(i)
            else:
                found = 100
            return found
        """,
    "for_down": """
        async def f(n: int) -> tuple[int, ...]:
            out: tuple[int, ...] = ()
            for i in range(n % 7, -4, -2):
                await sleep(i)
                out = out + (i,)
            return out
        """,
    "for_without_await": """
        async def f(n: int) -> int:
            total = 0
            for i in range(n % 100):
                for j in range(i % 3):
                    if j == 2:
                        continue
                    total += i * j
            await sleep(total)
            return total
        """,
    "for_bounds_change": """
        async def f(n: int) -> int:
            n = n % 5
            seen = 0
            for i in range(n):
                n = n + 1
                seen = seen + n
                await sleep(i)
            return seen + n
        """,
    "for_target_assigned": """
        async def f() -> int:
            total = 0
            for i in range(4):
                total += i
                i = 100
                await sleep(i)
                total += i
            return total
        """,
    "for_constant_tuple": """
        NAMES = ("a", "b", "c")
        async def f() -> str:
            out = ""
            for name in NAMES:
                await tell(name)
                out += name
            return out
        """,
    "for_literal_tuple": """
        async def f(a: int, b: int) -> int:
            out = 0
            for x in (a, b, 3):
                a = a + 1
                await sleep(x)
                out = out * 2 + x % 10
            return out + a
        """,
    "for_pairs": """
        async def f(xs: tuple[tuple[str, int], ...]) -> int:
            out = 0
            for name, n in xs:
                await tell(name)
                out += n % 100
            return out
        """,
    "for_nested": """
        async def f(n: int) -> int:
            out = 0
            for i in range(3):
                for j in range(i, 4):
                    if j == n % 5:
                        break
                    await sleep(j)
                    for k in (i, j):
                        out += k
                    else:
                        out += 100
            return out
        """,
    "if_chain": """
        async def f(n: int) -> str:
            if n == 0:
                await tell("zero")
                word = "zero"
            elif n < 0:
                word = "less"
            elif n > 5:
                await sleep(n)
                word = "much"
            else:
                word = "some"
            await tell(word)
            return word
        """,
    "early_return": """
        async def f(n: int) -> int | None:
            if n > 3:
                return n
            await sleep(1)
            if n == 1:
                return None
            return n - 1
        """,
    "dead_code": """
        async def f(n: int) -> int:
            while True:
                await sleep(n)
                return 1
                n += 1
            return 2
        """,
    "swap": """
        async def f(a: int, b: int) -> tuple[int, int]:
            for i in range(3):
                a, b = b, a
                await sleep(a)
            return a, b
        """,
    "unpack_many": """
        async def f(xs: tuple[int, ...]) -> int:
            try:
                a, b = xs
            except ValueError:
                return -1
            await sleep(1)
            return a - b
        """,
    "unpack_awaited": """
        async def f() -> int:
            x, y = await gather(scan("a").limit(1), scan("b").limit(2))
            return x.num_rows + y.num_columns
        """,
    "gathered_kept": """
        async def f(k: int) -> int:
            both = await gather(scan("a").filter(lambda r: r.k == k), scan("b").limit(k))
            await sleep(1)
            return both[0].num_rows
        """,
    "annotated_awaited": """
        async def f() -> int:
            rows = await scan("a").agg(n=wherry.count())
            n: int = await value(rows, "n")
            m: int | None = await value(rows=rows, column="m")
            if m is None:
                return n
            return n // 2 + m // 2
        """,
    "event_bytes": """
        async def f() -> int:
            data = await event("upload")
            return len(data)
        """,
    "return_event": "async def f() -> bytes:\n    return await event('x')",
    "try_await": """
        async def f(n: int) -> str:
            try:
                ok = await pay(n, "x")
                if ok:
                    await tell("paid")
                return "yes"
            except ValueError:
                await tell("no")
            return "no"
        """,
    "try_else": """
        async def f(n: int) -> int:
            out = 0
            try:
                out = 10 // n
            except ZeroDivisionError:
                out = -1
            else:
                await sleep(out)
                out = out + 1
            return out
        """,
    "try_nested": """
        async def f(n: int) -> str:
            text = ""
            try:
                try:
                    m = await note("a", n)
                    text = f"{10 // m}"
                except KeyError as e:
                    text = "key " + str(e)
                    k = await note("b", 1)
                    text = text + f"{5 // k}"
            except ArithmeticError as e:
                text = text + f" outer {e}"
            except ValueError:
                text = text + " value"
            await tell(text)
            return text
        """,
    "try_in_loop": """
        async def f() -> int:
            failed = 0
            for i in range(6):
                try:
                    n = await note("a", i)
                    if n > 3:
                        break
                    if n == 0:
                        continue
                    failed += 10 % n
                except (ValueError, ZeroDivisionError, InputError):
                    failed += 1
            return failed
        """,
    "try_retry": """
        async def f() -> int:
            tries = 0
            while tries < 3:
                try:
                    return await note("a", tries)
                except Retryable:
                    tries += 1
                    await sleep(tries * 2)
                except LookupError:
                    return -2
            return -1
        """,
    "try_keeps": """
        async def f(a: int, b: int) -> int:
            x = 1
            try:
                x = 2
                y = a // b
                x = 3
                z = await note("n", y)
                x = 4
                x = z // b
            except ZeroDivisionError:
                await sleep(x)
            except WherryError:
                x = x * 100
            return x
        """.replace("WherryError", "InputError"),
    "try_return_in_except": """
        async def f(xs: tuple[int, ...]) -> int:
            await sleep(1)
            try:
                return xs[2]
            except IndexError as e:
                await tell(str(e))
                return len(xs)
        """,
    "raised": """
        async def f(n: int) -> int:
            await sleep(1)
            if n < 3:
                raise ValueError(f"too few: {n}")
            return n
        """,
    "raised_caught": """
        async def f(n: int) -> str:
            try:
                if n > 2:
                    raise KeyError("many")
                await sleep(n)
                raise ValueError
            except KeyError as e:
                return f"{e}"
            except ValueError as e:
                raise InputError("wrapped " + str(e))
        """,
    "raise_in_loop": """
        async def f() -> int:
            n = 0
            for i in range(5):
                try:
                    if i % 2:
                        raise ValueError("odd")
                    n += await_free(i)
                except ValueError:
                    await sleep(n)
            return n
        """.replace("await_free(i)", "i"),
    "calls_movable": """
        @movable
        async def inner(x: int) -> int:
            y = await note("inner", x)
            await sleep(y)
            return x + 1
        async def f(n: int) -> int:
            n = n % 100
            a = await inner(n)
            for i in range(2):
                a = await inner(x=a)
            return a
        """,
    "calls_nested": """
        @movable
        async def one(x: int) -> int:
            n = await note("one", x)
            return n % 7
        @movable
        async def two(x: int) -> tuple[int, int]:
            a = await one(x)
            b = await one(a)
            return a, b
        async def f(n: int) -> int:
            x, y = await two(n)
            z, w = await two(y)
            return await one(x + z * w)
        """,
    "calls_that_fail": """
        @movable
        async def inner(x: int) -> int:
            try:
                y = await note("inner", x)
            except KeyError:
                y = 5
            return 10 // y
        async def f(n: int) -> str:
            out = ""
            for i in range(3):
                try:
                    a = await inner(n)
                    out = out + str(a)
                except (ValueError, ArithmeticError) as e:
                    out = out + f"<{e}>"
            return out
        """,
    "calls_without_await": """
        @movable
        async def twice(x: int) -> int:
            return x * 2
        async def f(n: int) -> int:
            n = n % 3
            while n < 40:
                n = await twice(n) if False else n + 1
                m = await twice(n)
                n = m + 1
            return n
        """.replace("                n = await twice(n) if False else n + 1\n", ""),
    "calls_with_rows": """
        @movable
        async def least(rows: Rows, k: int) -> Rows:
            if rows.num_rows > k:
                rows = await rows.limit(k)
            return rows
        async def f(k: int) -> Rows:
            found = await scan("t").filter(lambda r: r.k > k)
            found = await least(found, 5)
            return await respond(found)
        """,
    "effects": """
        async def f(n: int, to: str) -> str:
            paid = await pay(n, to)
            count = await note(count=n, to=to)
            said = await ask(f"{paid} {count}")
            await tell(said or "nothing")
            return said if said is not None else to
        """,
    "home_before_hop": """
        async def f(conn: Home[object], n: int) -> int:
            text = f"begin {n}"
            sent = await send(conn, text)
            return sent
        """,
    "home_between": """
        async def f(host: str) -> int:
            conn = await connect(host)
            sent = await send(conn, host)
            await sleep(sent)
            return sent
        """,
    "narrowed_by_and": """
        async def f(a: int | None, b: int | None) -> int:
            await sleep(1)
            if a is not None and b is not None and a > b:
                return a - b
            if a is None or b is None:
                return -1
            return b
        """,
    "narrowed_by_return": """
        async def f(a: str | None) -> int:
            if a is None:
                return 0
            await sleep(len(a))
            return len(a)
        """,
    "narrowed_by_not": """
        async def f(a: str | None) -> str:
            if not a:
                a = "none"
            await sleep(1)
            return a + "!"
        """,
    "becomes_option": """
        async def f(n: int) -> int | None:
            best = None
            for i in range(3):
                x = await note("n", i)
                if best is None or x > best:
                    best = x
            return best
        """,
    "walrus_free_order": """
        async def f(a: int, b: int) -> bool:
            await sleep(1)
            return a < b < a + b or b // (a - a + 1) > 3
        """,
    "short_circuit": """
        async def f(a: int) -> bool:
            await sleep(1)
            return a != 0 and 10 // a > 2
        """,
    "chain_stops": """
        async def f(a: int) -> bool:
            await sleep(1)
            return 0 < a < 100 // a
        """,
    "error_in_operand": """
        async def f(a: int, b: int) -> int:
            try:
                await sleep(a // b)
                return 1
            except ZeroDivisionError as e:
                await tell(str(e))
                return 2
        """,
    "operands_in_order": """
        async def f(a: int, xs: tuple[int, ...]) -> bool:
            try:
                return await pay(10 // a, str(xs[0]))
            except (ZeroDivisionError, IndexError) as e:
                await tell(f"{e}")
                return False
        """,
    "error_at_end": """
        async def f(a: int) -> int:
            try:
                await sleep(1)
                return 100 // a
            except ZeroDivisionError:
                return 0
        """,
    "frozen_loop_tuple": """
        async def f(n: int) -> int:
            xs = tuple(range(n % 5))
            total = 0
            for x in xs:
                xs = xs + (1,)
                await sleep(x)
                total += len(xs)
            return total
        """,
    "same_name_again": """
        async def f(n: int) -> int:
            for i in range(2):
                await sleep(i)
            for i in range(3):
                n = n // 2 + i
                await sleep(i)
            return n
        """,
    "expression_statement": """
        async def f(xs: tuple[int, ...]) -> str:
            try:
                xs[1]
                await sleep(1)
                "12".index("3")
            except IndexError:
                return "short"
            except ValueError:
                return "none"
            return "never"
        """,
    "long_text": """
        async def f(s: Annotated[str, Most(4000)]) -> Annotated[str, Most(4000)]:
            t: Annotated[str, Most(4000)] = s * 40
            await sleep(1)
            return t.upper()
        """,
    "rows_attributes": """
        async def f(k: int) -> tuple[int, int, int]:
            rows = await scan("t").limit(k)
            await sleep(1)
            return rows.num_rows, rows.num_columns, rows.nbytes
        """,
    "shard_attributes": """
        async def f(k: int) -> str:
            shard = await route("orders", k)
            return f"{shard.dataset} {shard.number}"
        """,
    "route_by_tuple": """
        async def f(a: int, b: str) -> int:
            shard = await route("orders", key=(a, b))
            return shard.number
        """,
    "augmented": """
        async def f(n: int, s: str) -> str:
            n += 3
            n -= 1
            n *= 2
            n //= 3
            n %= 50
            n <<= 2
            n |= 1
            await sleep(n)
            s += str(n)
            s *= 2
            return s
        """,
    "pass_and_ellipsis": """
        async def f(n: int) -> int:
            if n:
                pass
            else:
                ...
            for i in range(3):
                pass
            await sleep(1)
            return n
        """,
    "unicode_names": """
        async def f(größe: int) -> int:
            naïve = größe % 9
            await sleep(naïve)
            return naïve
        """,
    "many_slots": """
        async def f(a: int, b: float, c: str, d: date, e: bool, g: Decimal, h: bytes) -> str:
            await sleep(1)
            await tell(f"{a} {b}")
            return f"{a}{b}{c}{d}{e}{g}{h!r}"
        """.replace("{h!r}", "{len(h)}"),
    "top_orders": """
        async def top_orders(customer: int, since: date) -> pa.Table:
            shard = await route("orders", key=customer)
            rows = await shard.filter(col("o_custkey") == customer, lambda r: r.o_orderdate > since)
            if rows.num_rows > 1_000_000:
                rows = await rows.sort("o_totalprice", descending=True).limit(100)
            return await respond(rows)
        """,
}


def good() -> dict[str, str]:
    """Give every accepted text by a name of its own."""
    found = {f"hand {name}": text for name, text in BY_HAND.items()}
    for kind, t in TYPES.items():
        for way, text in OF_TYPE.items():
            if t != "None" or way != "optional":
                found[f"{way} {kind}"] = text.format(t=t)
    for name, (a, b, ops) in BINARY.items():
        for op in ops:
            shown = 'f"{len(c)}"' if name in {"tuples", "bytes"} else 'f"{c}"'
            text = OPERATION.format(a=a, b=b, op=op, shown=shown)
            if op == "<<" or name == "repeat":
                text = text.replace(f"{op} b", f"{op} (b % 9)")
            found[f"{name} {op}"] = text
    for t in ORDERED:
        text = COMPARISON if t != "bytes" else COMPARISON.replace("{{low}}", "{{len(low)}}")
        found[f"ordered {t}"] = text.format(t=t)
    for kind, methods in rules.METHODS.items():
        for name in methods:
            given = ARGUMENTS.get(name, "")
            given = given.replace("'", "b'") if kind == "bytes" else given
            shown = "str(len(y))" if name == "encode" else 'f"{y}"'
            shown = 'f"{y[0]}"' if name.endswith("partition") else shown
            text = METHOD.format(
                t=METHOD_TYPES.get(kind, kind), call=f"{name}({given})", shown=shown
            )
            found[f"method {kind}.{name}"] = (
                text.replace('f"{x}"', '"x"') if kind == "bytes" else text
            )
    for kind, attributes in rules.ATTRIBUTES.items():
        if kind not in {"rows", "shard"}:
            for name in attributes:
                found[f"attribute {kind}.{name}"] = ATTRIBUTE.format(t=kind, name=name)
    for name, (t, call) in CALLS.items():
        found[f"call {name}"] = CALL.format(t=t, call=call)
    for name, chain in CHAINS.items():
        found[f"chain {name}"] = CHAIN.format(chain=chain)
    return found
