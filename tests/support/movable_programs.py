"""Random movables: statements within statements over a few ints and a text."""

from __future__ import annotations

import random

_NAMES = ("a", "b", "c")
_ERRORS = ("ZeroDivisionError", "ValueError", "(KeyError, ValueError)", "ArithmeticError")


class Writer:
    """Writes the text of one random movable."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.loops = 0
        self.count = 0

    def text(self) -> str:
        """Give the whole text."""
        body = self.block(1, 0)
        head = "async def f(a: int, b: int, c: int, s: str) -> tuple[int, int, int, str]:"
        return "\n".join((head, *body, "    return a, b, c, s", ""))

    def block(self, depth: int, loop: int) -> list[str]:
        """Give some statements; `loop` says how many loops surround them."""
        lines: list[str] = []
        for _ in range(self.chance.randint(1, 4 if depth < 3 else 2)):
            lines += self.statement(depth, loop)
        return lines

    def statement(self, depth: int, loop: int) -> list[str]:
        """Give one statement."""
        pad = "    " * depth
        kinds = ["let", "let", "await", "await", "text", "swap"]
        if depth < 4 and self.count < 40:
            kinds += ["if", "for", "while", "try", "items"]
        if loop:
            kinds += ["leave"]
        self.count += 1
        kind = self.chance.choice(kinds)
        match kind:
            case "let":
                return [f"{pad}{self.name()} = ({self.number(2)}) % 1000"]
            case "swap":
                return [f"{pad}a, {self.chance.choice('bc')} = {self.number(1)}, a % 7"]
            case "text":
                return [f'{pad}s = f"{{s[1:1]}}{{{self.name()}}}"'.replace("{s[1:1]}", "")]
            case "await":
                return [pad + self.awaits()]
            case "leave":
                word = self.chance.choice(["break", "continue", "return a, b, c, s"])
                return [f"{pad}if {self.test()}:", f"{pad}    {word}"]
        return self.nested(kind, depth, loop)

    def nested(self, kind: str, depth: int, loop: int) -> list[str]:
        """Give a statement that holds statements."""
        pad = "    " * depth
        inner = self.block(depth + 1, loop)
        self.loops += 1
        i = f"i{self.loops}"
        match kind:
            case "if":
                other = self.block(depth + 1, loop)
                return [f"{pad}if {self.test()}:", *inner, f"{pad}else:", *other]
            case "for":
                inner = self.block(depth + 1, loop + 1)
                bounds = self.chance.choice(["4", "1, 3", "3, 0, -1", "a % 3", "b % 2, 4"])
                last = self.otherwise(depth, loop)
                return [f"{pad}for {i} in range({bounds}):", *inner, f"{pad}    b = {i}", *last]
            case "items":
                inner = self.block(depth + 1, loop + 1)
                last = self.otherwise(depth, loop)
                return [
                    f"{pad}for {i} in (a, 2, {self.number(1)}):",
                    f"{pad}    c = {i}",
                    *inner,
                    *last,
                ]
            case "while":
                inner = self.block(depth + 1, loop + 1)
                turn = [f"{pad}    {i} = {i} + 1", f"{pad}    {self.awaits()}"]
                last = self.otherwise(depth, loop)
                return [f"{pad}{i} = 0", f"{pad}while {i} < 3:", *turn, *inner, *last]
        return self.tried(inner, depth, loop)

    def otherwise(self, depth: int, loop: int) -> list[str]:
        """Give the else of a loop, or nothing."""
        if self.chance.random() < 0.7:
            return []
        return ["    " * depth + "else:", *self.block(depth + 1, loop)]

    def tried(self, inner: list[str], depth: int, loop: int) -> list[str]:
        """Give a try with its clauses."""
        pad = "    " * depth
        lines = [f"{pad}try:", *inner, f"{pad}    b = 100 // (a % 4)"]
        for _ in range(self.chance.randint(1, 2)):
            self.loops += 1
            e = f"e{self.loops}"
            lines += [
                f"{pad}except {self.chance.choice(_ERRORS)} as {e}:",
                f"{pad}    s = str({e})",
            ]
            lines += self.block(depth + 1, loop)
        if self.chance.random() < 0.3:
            lines += [f"{pad}else:", *self.block(depth + 1, loop)]
        return lines

    def awaits(self) -> str:
        """Give a statement that awaits."""
        return self.chance.choice(
            [
                f"await sleep({self.number(1)})",
                f"{self.name()} = await note(s, {self.number(1)})",
                f'await tell(f"{{s}} {{{self.name()}}}")',
                f"ok{self.loops} = await pay({self.number(1)}, s)",
                f"{self.name()} = await inner({self.name()} % 5, {self.number(1)} % 3)",
            ]
        )

    def name(self) -> str:
        """Give a variable."""
        return self.chance.choice(_NAMES)

    def number(self, depth: int) -> str:
        """Give an expression of type int."""
        if not depth or self.chance.random() < 0.3:
            return self.chance.choice((*_NAMES, "0", "1", "3", "len(s)"))
        left, right = self.number(depth - 1), self.number(depth - 1)
        op = self.chance.choice(["+", "-", "*", "//", "%", "&", "|"])
        if op in {"//", "%"} and self.chance.random() < 0.9:
            right = self.chance.choice(["3", "7", "-2"])  # by zero only now and then
        whole = f"({left} {op} {right})"
        return f"({whole} if {self.test()} else {left})" if self.chance.random() < 0.15 else whole

    def test(self) -> str:
        """Give an expression of type bool."""
        first = f"{self.name()} {self.chance.choice(['<', '==', '!=', '>='])} {self.number(1)}"
        if self.chance.random() < 0.3:
            second = f"{self.name()} > {self.number(0)}"
            return f"{first} {self.chance.choice(['and', 'or', 'and not'])} {second}"
        return first


INNER = """
@movable
async def inner(x: int, n: int) -> int:
    for i in range(n):
        try:
            y = await note("inner", i)
            x = (x + 10 // y) % 100
        except ZeroDivisionError:
            await sleep(x)
    return x
"""
