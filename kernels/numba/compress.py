"""How a block's selected values are put side by side, on each kind of processor.

Skeletons call `compress_<bytes of a value>(target, source, mask)` and `compress_bits(bits, mask)`;
when they become an object, these become code for the processor it is for, and are inlined.

* AVX-512 has an instruction for it.
* AVX2 permutes 8 values at a time by a table of the 256 orders (4 at a time where they are of 8
  bytes), stores all of them, and goes on by as many as were selected.
* Elsewhere LLVM writes it out, lane by lane.
"""

from __future__ import annotations

from typing import Any, Final

import llvmlite.binding as llvm

WIDTHS: Final = (1, 2, 4, 8, 16)
BITS: Final = "compress_bits"
NAMES: Final = (BITS, *(f"compress_{width}" for width in WIDTHS))
_BLOCK: Final = 64
_VECTOR: Final = 64
"""Bytes that the portable form compresses at a time."""

_PROBE: Final = """
define <8 x i32> @permutes(<8 x i32> %a, <8 x i32> %b) {
  %sum = add <8 x i32> %a, %b
  ret <8 x i32> %sum
}
define <8 x i32> @compresses(<8 x i32> %a, <8 x i1> %b) {
  %made = call <8 x i32> @llvm.experimental.vector.compress.v8i32(
    <8 x i32> %a, <8 x i1> %b, <8 x i32> poison)
  ret <8 x i32> %made
}
define i64 @extracts(i64 %a, i64 %b) {
  %few = and i64 %b, 63
  %made = shl i64 %a, %few
  ret i64 %made
}
declare <8 x i32> @llvm.experimental.vector.compress.v8i32(<8 x i32>, <8 x i1>, <8 x i32>)
"""
"""Code that shows by its instructions what a processor has: a name alone does not say."""


def with_words(module: Any, machine: Any) -> Any:
    """Give a module with the words it calls defined for a target machine, and inlined."""
    if not {f.name for f in module.functions} & {*NAMES}:
        return module
    # What stands in for a word (`emit.word`) is weak, so it gives way.
    module.link_in(llvm.parse_assembly(words_for(machine)))
    for item in module.functions:
        if item.name in NAMES:
            item.linkage = "internal"
    manager = llvm.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return module


def words_for(machine: Any) -> str:
    """Give all words as a module of LLVM for a target machine."""
    probe = llvm.parse_assembly(_PROBE)
    probe.triple, probe.data_layout = machine.triple, str(machine.target_data)
    shown = machine.emit_assembly(probe)
    by_table = "ymm" in shown and "vpcompressd" not in shown
    words = _by_table() if by_table else "".join(map(_portable, WIDTHS))
    words += _EXTRACTED if "shlx" in shown else _PORTABLE_BITS
    # Several words use the same functions of LLVM, which may be declared once.
    lines = f"declare i64 @llvm.ctpop.i64(i64)\n{words}".split("\n")
    declared = dict.fromkeys(line for line in lines if line.startswith("declare"))
    return "\n".join((*declared, *(line for line in lines if line not in declared)))


_PORTABLE_BITS: Final = f"""
declare <64 x i8> @llvm.experimental.vector.compress.v64i8(<64 x i8>, <64 x i1>, <64 x i8>)
define i64 @{BITS}(i64 %bits, i64 %mask) alwaysinline {{
  %flags = bitcast i64 %bits to <64 x i1>
  %kept = bitcast i64 %mask to <64 x i1>
  %bytes = sext <64 x i1> %flags to <64 x i8>
  %packed = call <64 x i8> @llvm.experimental.vector.compress.v64i8(
    <64 x i8> %bytes, <64 x i1> %kept, <64 x i8> zeroinitializer)
  %set = icmp slt <64 x i8> %packed, zeroinitializer
  %made = bitcast <64 x i1> %set to i64
  ret i64 %made
}}
"""
_EXTRACTED: Final = f"""
declare i64 @llvm.x86.bmi.pext.64(i64, i64)
define i64 @{BITS}(i64 %bits, i64 %mask) alwaysinline {{
  %made = call i64 @llvm.x86.bmi.pext.64(i64 %bits, i64 %mask)
  ret i64 %made
}}
"""
"""One instruction, of three cycles but on AMD before Zen 3, where it is microcode."""


def _word(width: int, steps: list[str]) -> str:
    body = "".join(steps)
    head = f"define void @compress_{width}(i64 %t0, i64 %source, i64 %mask) alwaysinline"
    return f"{head} {{\n{body}  ret void\n}}\n"


def _go_on(n: int, rows: int, width: int) -> str:
    """Give the code that takes the mask of the rows of step `n`, and what comes after them."""
    return f"""
  %moved{n} = lshr i64 %mask, {n * rows}
  %part{n} = and i64 %moved{n}, {(1 << rows) - 1}
  %count{n} = call i64 @llvm.ctpop.i64(i64 %part{n})
  %nbytes{n} = mul i64 %count{n}, {width}
  %t{n + 1} = add i64 %t{n}, %nbytes{n}
  %to{n} = inttoptr i64 %t{n} to ptr
  %at{n} = add i64 %source, {n * rows * width}
  %from{n} = inttoptr i64 %at{n} to ptr
"""


def _portable(width: int) -> str:
    element, rows = min(width, 8), _VECTOR // width
    lanes = _VECTOR // element
    vector, flags = f"<{lanes} x i{element * 8}>", f"<{lanes} x i1>"
    name = f"llvm.experimental.vector.compress.v{lanes}i{element * 8}"
    twice = ", ".join(f"i32 {lane * rows // lanes}" for lane in range(lanes))
    steps = []
    for n in range(_BLOCK // rows):
        short = f"trunc i64 %part{n} to i{rows}" if rows < _BLOCK else f"add i64 %part{n}, 0"
        steps.append(f"""{_go_on(n, rows, width)}
  %values{n} = load {vector}, ptr %from{n}, align 1
  %short{n} = {short}
  %each{n} = bitcast i{rows} %short{n} to <{rows} x i1>
  %kept{n} = shufflevector <{rows} x i1> %each{n}, <{rows} x i1> poison, <{lanes} x i32> <{twice}>
  %made{n} = call {vector} @{name}({vector} %values{n}, {flags} %kept{n}, {vector} poison)
  store {vector} %made{n}, ptr %to{n}, align 1
""")
    return f"declare {vector} @{name}({vector}, {flags}, {vector})\n" + _word(width, steps)


def _orders(rows: int, each: int) -> list[int]:
    """Give, for each mask of `rows` rows, the lanes of those it selects; a row has `each`."""
    found: list[int] = []
    for mask in range(1 << rows):
        chosen = [row for row in range(rows) if mask >> row & 1]
        lanes = [row * each + lane for row in chosen for lane in range(each)]
        found += lanes + [0] * (rows * each - len(lanes))
    return found


def _by_table() -> str:
    tables = ""
    for rows, each in ((8, 1), (4, 2)):
        orders = _orders(rows, each)
        items = ", ".join(f"i8 {lane}" for lane in orders)
        kind = f"[{len(orders)} x i8]"
        tables += f"@orders{rows} = internal constant {kind} [{items}], align 8\n"
    return f"""
{tables}
declare <8 x i32> @llvm.x86.avx2.permd(<8 x i32>, <8 x i32>)
declare <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8>, <16 x i8>)
{"".join(_word(width, [_permuted(n, width) for n in range(_steps(width))]) for width in WIDTHS)}"""


def _steps(width: int) -> int:
    return _BLOCK // {8: 4, 16: 1}.get(width, 8)


def _permuted(n: int, width: int) -> str:
    """Give the code of step `n`: rows loaded, permuted, stored."""
    if width == 16:
        return f"""{_go_on(n, 1, 16)}
  %values{n} = load <16 x i8>, ptr %from{n}, align 1
  store <16 x i8> %values{n}, ptr %to{n}, align 1
"""
    rows = 4 if width == 8 else 8
    return f"""{_go_on(n, rows, width)}
  %entry{n} = getelementptr [8 x i8], ptr @orders{rows}, i64 %part{n}
  %order{n} = load <8 x i8>, ptr %entry{n}, align 8
{_SHUFFLED[min(width, 4)].replace("#", str(n))}"""


_FIRST: Final = ", ".join(f"i32 {lane}" for lane in range(8))
_TWICE: Final = f"{_FIRST}, {_FIRST}"
_SHUFFLED: Final = {
    4: """
  %lanes# = zext <8 x i8> %order# to <8 x i32>
  %values# = load <8 x i32>, ptr %from#, align 1
  %made# = call <8 x i32> @llvm.x86.avx2.permd(<8 x i32> %values#, <8 x i32> %lanes#)
  store <8 x i32> %made#, ptr %to#, align 1
""",
    # The two bytes of value i are 2 i and 2 i + 1.
    2: f"""
  %wide# = zext <8 x i8> %order# to <8 x i16>
  %pairs# = mul <8 x i16> %wide#, <{", ".join(["i16 514"] * 8)}>
  %both# = add <8 x i16> %pairs#, <{", ".join(["i16 256"] * 8)}>
  %lanes# = bitcast <8 x i16> %both# to <16 x i8>
  %values# = load <16 x i8>, ptr %from#, align 1
  %made# = call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> %values#, <16 x i8> %lanes#)
  store <16 x i8> %made#, ptr %to#, align 1
""",
    1: f"""
  %values# = load <8 x i8>, ptr %from#, align 1
  %padded# = shufflevector <8 x i8> %values#, <8 x i8> poison, <16 x i32> <{_TWICE}>
  %lanes# = shufflevector <8 x i8> %order#, <8 x i8> poison, <16 x i32> <{_TWICE}>
  %all# = call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> %padded#, <16 x i8> %lanes#)
  %made# = shufflevector <16 x i8> %all#, <16 x i8> poison, <8 x i32> <{_FIRST}>
  store <8 x i8> %made#, ptr %to#, align 1
""",
}
