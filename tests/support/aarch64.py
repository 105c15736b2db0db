"""An aarch64 processor in this process: programs compiled for it run on the buffers of this one.

Unicorn emulates the processor. Guest addresses are host addresses: a page is mapped, at the same
place, when the guest first touches it. So pools, contexts and Arrow buffers need no translation,
and whatever runs through the engine, blocks and skeletons alike, is aarch64 code.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import unicorn as uni
from unicorn import arm64_const as arm

from wherry.kernels.engine import Engine, Target

TARGET = Target("aarch64-unknown-linux-gnu", "cortex-a72", "")
"""The cores of BlueField-2; its successors run the same code."""
_PAGE = 4096
_CODE, _CODE_BYTES = 0x2_0000_0000, 1 << 28
_STACK, _STACK_BYTES = 0x1_0000_0000, 1 << 20
_END = 0x1_8000_0000
_REGISTERS = [getattr(arm, f"UC_ARM64_REG_X{number}") for number in range(8)]
_LIBRARY = ("memcpy", "memmove", "memset")


class Aarch64(Engine):
    """An engine whose code runs in the emulator."""

    def __init__(self, folder: Path) -> None:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        super().__init__(folder, TARGET)
        self.calls = 0
        self._turn = threading.RLock()
        self._failure: Exception | None = None
        self._free = _CODE
        self._cpu = uni.Uc(uni.UC_ARCH_ARM64, uni.UC_MODE_ARM)
        self._cpu.mem_map(_CODE, _CODE_BYTES)
        self._cpu.mem_map(_STACK, _STACK_BYTES)
        self._cpu.mem_map(_END, _PAGE)
        unmapped = uni.UC_HOOK_MEM_READ_UNMAPPED | uni.UC_HOOK_MEM_WRITE_UNMAPPED
        self._cpu.hook_add(unmapped, self._touch)
        self._library = {name: self._provide(name) for name in _LIBRARY}

    def addresses(self, code: bytes, symbols: Sequence[str]) -> list[int]:
        """Lay an object into the guest's memory; give where its functions lie."""
        with self._turn:
            found = _Object(code).place(self._free, self._library)
            self._cpu.mem_write(self._free, bytes(found.image))
            self._free += -(-len(found.image) // _PAGE) * _PAGE
            return [found.symbols[name] for name in symbols]

    def function(self, address: int, arguments: int) -> Any:
        """Give a function of the guest as a callable."""
        return _Function(self, address, arguments)

    def call(self, address: int, arguments: Sequence[int]) -> int:
        """Run a function of the guest to its end; give what it gives."""
        with self._turn:
            self.calls += 1
            cpu, stacked = self._cpu, [a & (1 << 64) - 1 for a in arguments[8:]]
            stack = _STACK + _STACK_BYTES - 4096 - (len(stacked) * 8 + 15) // 16 * 16
            cpu.mem_write(stack, struct.pack(f"<{len(stacked)}Q", *stacked))
            for register, value in zip(_REGISTERS, arguments, strict=False):
                cpu.reg_write(register, value & (1 << 64) - 1)
            cpu.reg_write(arm.UC_ARM64_REG_SP, stack)
            cpu.reg_write(arm.UC_ARM64_REG_LR, _END)
            cpu.emu_start(address, _END)
            made = cpu.reg_read(arm.UC_ARM64_REG_X0)
            return made - (1 << 64) if made >> 63 else made

    def _touch(self, cpu: Any, access: int, address: int, size: int, *_: object) -> bool:
        """Map the pages the guest touches to the same pages of this process."""
        for page in range(address // _PAGE, (address + size - 1) // _PAGE + 1):
            try:
                cpu.mem_map_ptr(
                    page * _PAGE, _PAGE, uni.UC_PROT_READ | uni.UC_PROT_WRITE, page * _PAGE
                )
            except uni.UcError:
                continue  # the first page of two may be there
        return True

    def _provide(self, name: str) -> int:
        """Give the address of a function of the C library: it traps, and this process does it."""
        address, self._free = self._free, self._free + 16
        self._cpu.mem_write(address, bytes.fromhex("c0035fd6"))  # ret

        def trap(cpu: Any, *_: object) -> None:
            target, second, size = (cpu.reg_read(register) for register in _REGISTERS[:3])
            if not size:
                return
            for place in (target,) if name == "memset" else (target, second):
                self._touch(cpu, 0, place, size)
            content = (
                bytes([second & 255]) * size if name == "memset" else cpu.mem_read(second, size)
            )
            cpu.mem_write(target, bytes(content))

        self._cpu.hook_add(uni.UC_HOOK_CODE, trap, begin=address, end=address)
        return address


class _Function:
    def __init__(self, engine: Aarch64, address: int, arguments: int) -> None:
        self.address, self._engine, self._arguments = address, engine, arguments
        self.brief = self  # There is no lock to keep.

    def __call__(self, *arguments: int) -> int:
        assert len(arguments) == self._arguments
        return self._engine.call(self.address, arguments)


class _Object:
    """A relocatable ELF object for aarch64, as LLVM emits it."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        (at,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
        self._sections = [
            struct.unpack_from("<IIQQQQIIQQ", code, at + 64 * i) for i in range(count)
        ]
        self.symbols: dict[str, int] = {}
        self.image = bytearray()

    def place(self, base: int, library: dict[str, int]) -> _Object:
        """Lay sections from `base` on and apply relocations."""
        places = {}
        for number, section in enumerate(self._sections):
            _, kind, flags, _, offset, size, _, _, align, _ = section
            if flags & 2 and size:
                self.image += bytes(-len(self.image) % max(align, 16))
                places[number] = base + len(self.image)
                self.image += bytes(size) if kind == 8 else self._code[offset : offset + size]
        for section in self._sections:
            if section[1] == 2:
                table = self._symbols(section, places, library)
        for section in self._sections:
            if section[1] == 4 and section[7] in places:
                for at in range(section[4], section[4] + section[5], 24):
                    where, info, addend = struct.unpack_from("<QQq", self._code, at)
                    target = table[info >> 32]
                    self._relocate(
                        info & 0xFFFFFFFF, places[section[7]] + where, target + addend, base
                    )
        return self

    def _symbols(self, section: Any, places: dict[int, int], library: dict[str, int]) -> list[int]:
        texts = self._sections[section[6]][4]
        table = []
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", self._code, at)
            text = self._code[texts + name : self._code.index(0, texts + name)].decode()
            address = places[index] + value if index in places else library.get(text, 0)
            self.symbols[text] = address
            table.append(address)
        return table

    def _relocate(self, kind: int, place: int, value: int, base: int) -> None:
        at = place - base
        (word,) = struct.unpack_from("<I", self.image, at)
        match kind:
            case 257:  # R_AARCH64_ABS64
                struct.pack_into("<q", self.image, at, value)
                return
            case 260 | 261:  # R_AARCH64_PREL64, R_AARCH64_PREL32
                form = "<q" if kind == 260 else "<i"
                struct.pack_into(form, self.image, at, value - place)
                return
            case 275:  # R_AARCH64_ADR_PREL_PG_HI21
                pages = (value >> 12) - (place >> 12)
                word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
            case 277 | 278 | 284 | 285 | 286 | 299:  # ..._ABS_LO12_NC of ADD and of loads
                scale = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}[kind]
                word |= (value & 0xFFF) >> scale << 10
            case 282 | 283:  # R_AARCH64_JUMP26, R_AARCH64_CALL26
                word |= (value - place >> 2) & 0x3FFFFFF
            case _:
                raise AssertionError(f"relocation {kind} is unknown here")
        struct.pack_into("<I", self.image, at, word)
