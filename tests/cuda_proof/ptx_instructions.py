"""What a thread does alone at each instruction of a PTX file (ptx.py runs the file).

Only the instructions that nvcc makes of conformance.cu; any other one ends the run with its name. Semantics are those of
"PTX ISA" 9.0, chapter 9; where the manual leaves a result open, so that cards may differ, the run ends as well.
"""

import re

import exact
from exact import F16, F32, F64

GLOBAL, SHARED_BYTES = 1 << 32, 48 * 1024  # where global memory begins
WARP = 32


class Error(Exception):
    pass


class Block:
    def __init__(self, index, grid, size):
        self.index, self.grid, self.size = index, grid, size
        self.shared = bytearray(b"\xcd" * SHARED_BYTES)


class Thread:
    def __init__(self, block, index, memory, symbols):
        self.block, self.index, self.memory, self.symbols = block, index, memory, symbols
        self.registers, self.pc, self.ended = {}, 0, False
        self.copies, self.groups = [], []  # of cp.async: under way, and by ended group

    def bytes_at(self, address, count):
        """(memory, offset)"""
        if address % count:
            raise Error(f"an access of {count} bytes at {address:#x}")
        memory, offset = (self.memory, address - GLOBAL) if address >= GLOBAL else (self.block.shared, address)
        if offset + count > len(memory):
            raise Error(f"an access past the memory, at {address:#x}")
        return memory, offset

    def load(self, address, count):
        memory, offset = self.bytes_at(address, count)
        return int.from_bytes(memory[offset : offset + count], "little")

    def store(self, address, count, bits):
        memory, offset = self.bytes_at(address, count)
        memory[offset : offset + count] = bits.to_bytes(count, "little")


def width_of(kind):
    return 1 if kind == "pred" else 32 if kind.endswith("x2") else int(re.sub(r"\D", "", kind))


def signed(bits, width):
    return bits - (1 << width) if bits >> (width - 1) else bits


SPECIAL = {"%laneid": lambda t: t.index % WARP}
for axis, name in enumerate("xyz"):
    SPECIAL[f"%tid.{name}"] = lambda t, a=axis: t.index if a == 0 else 0
    SPECIAL[f"%ctaid.{name}"] = lambda t, a=axis: t.block.index if a == 0 else 0
    SPECIAL[f"%ntid.{name}"] = lambda t, a=axis: t.block.size if a == 0 else 1
    SPECIAL[f"%nctaid.{name}"] = lambda t, a=axis: t.block.grid if a == 0 else 1


def operand(text, width):
    """A function of the thread: the operand's bits."""
    mask = (1 << width) - 1
    if text in SPECIAL:
        return SPECIAL[text]
    if text.startswith("%"):
        return lambda t: t.registers[text] & mask
    if text.startswith(("0f", "0d")):
        bits = int(text[2:], 16)
        return lambda t: bits
    if re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", text):
        number = int(text, 0) & mask
        return lambda t: number
    return lambda t: t.symbols[text]


def address(text):
    base, _, offset = text.strip("[]").partition("+")
    of, add = operand(base, 64), int(offset or 0)
    return lambda t: of(t) + add


# 9.7.1, 9.7.3, 9.7.5, 9.7.8: (a, b[, c]) -> d by opcode, for integers and bits of `width`.
INTEGERS = {
    "add": lambda a, b, w: a + b,
    "sub": lambda a, b, w: a - b,
    "and": lambda a, b, w: a & b,
    "or": lambda a, b, w: a | b,
    "xor": lambda a, b, w: a ^ b,
    "not": lambda a, w: ~a,
    "shl": lambda a, b, w: a << min(b, w),
}
FLOATS = {
    "add": exact.add,
    "sub": exact.sub,
    "mul": exact.mul,
    "div": exact.div,
    "fma": exact.fma,
    "sqrt": exact.sqrt,
    "max": exact.larger,
    "min": exact.smaller,
    "neg": exact.negated,
    "abs": lambda a, of: exact.size(a, of),
}
FORMATS = {"f64": F64, "f32": F32, "f16": F16}


def arithmetic(name, parts, kind):
    """f(operands) -> bits of an instruction on values, or None if it is none."""
    width = width_of(kind)
    if kind in ("f64", "f32", "f16x2") and name in FLOATS:
        of = FLOATS[name]
        if {"approx", "ftz", "sat", "full"} & set(parts):
            raise Error(f"{name}.{'.'.join(parts)} rounds as cards please")
        if kind != "f16x2":
            return lambda *v: of(*v, FORMATS[kind])
        return lambda *v: of(*(x & 0xFFFF for x in v), F16) | of(*(x >> 16 for x in v), F16) << 16
    if name in INTEGERS and kind[0] in "usbp":
        of = INTEGERS[name]
        return lambda *v: of(*v, width)
    if name == "shr":
        if kind[0] == "s":
            return lambda a, b: signed(a, width) >> min(b, width)
        return lambda a, b: a >> min(b, width)
    if name in ("max", "min"):
        key = (lambda x: signed(x, width)) if kind[0] == "s" else None
        of = max if name == "max" else min
        return lambda a, b: of(a, b, key=key)
    if name in ("mul", "mad"):
        value = (lambda x: signed(x, width)) if kind[0] == "s" else (lambda x: x)
        down = width if "hi" in parts else 0
        return lambda a, b, c=0: (value(a) * value(b) >> down) + c
    if name == "prmt" and not parts[:-1]:  # 9.7.9.7, the default mode
        return select_bytes
    return None


def select_bytes(a, b, selector):
    every = a | b << 32
    result = 0
    for i in range(4):
        nibble = selector >> (4 * i) & 15
        byte = every >> (8 * (nibble & 7)) & 255
        if nibble & 8:
            byte = 255 if byte & 128 else 0
        result |= byte << (8 * i)
    return result


def conversion(parts):
    """9.7.9.22: f(value[, value]) -> bits."""
    to, of = parts[-2], parts[-1]
    if of in ("f16", "f32") and to in ("f16", "f32"):
        if of == "f32" and to == "f16" and "rn" not in parts:
            raise Error("a conversion that names no rounding")
        return lambda a: exact.convert(a, FORMATS[of], FORMATS[to])
    if to == "f16x2" and of == "f32" and "rn" in parts:  # the first operand is the upper half
        return lambda a, b: exact.convert(a, F32, F16) << 16 | exact.convert(b, F32, F16)
    if to in ("f32", "f64") and of[0] in "us" and "rn" in parts:
        value = (lambda a: signed(a, width_of(of))) if of[0] == "s" else (lambda a: a)
        return lambda a: exact.from_integer(value(a), FORMATS[to])
    if of == "f32" and to == "s32" and ("rzi" in parts or "rni" in parts):
        return lambda a: exact.whole(a, F32, -(1 << 31), (1 << 31) - 1, "rni" in parts)
    if of[0] in "us" and to[0] in "us" and "sat" not in parts:
        return (lambda a: signed(a, width_of(of))) if of[0] == "s" else (lambda a: a)
    raise Error(f"cvt.{'.'.join(parts)}")


def comparison(parts):
    """9.7.6.2: f(a, b) -> 0 or 1."""
    how, kind = parts[0], parts[-1]
    unordered = kind == "f32" and how in ("equ", "neu", "ltu", "leu", "gtu", "geu", "nan")
    how = how[:2] if kind == "f32" and how not in ("nan", "num") else how
    test = {"eq": (0,), "ne": (-1, 1), "lt": (-1,), "le": (-1, 0), "gt": (1,), "ge": (0, 1), "num": (-1, 0, 1), "nan": ()}
    wanted = test[{"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(how, how)]

    def compare(a, b):
        if kind == "f32":
            order = exact.compare(a, b, F32)
        else:
            if kind[0] == "s":
                a, b = signed(a, width_of(kind)), signed(b, width_of(kind))
            order = (a > b) - (a < b)
        return int(unordered if order is None else order in wanted)

    return compare


def vector(text):
    return re.findall(r"[^{},\s]+", text)


def memory_access(parts, operands):
    """9.7.9.8, .9, .11: ld and st."""
    count = 4 if "v4" in parts else 2 if "v2" in parts else 1
    kind = parts[-1]
    size, width = width_of(kind) // 8, width_of(kind)
    if operands[0].startswith("["):
        to, values = address(operands[0]), [operand(v, width) for v in vector(operands[1])]

        def store(t):
            at = to(t)
            t.bytes_at(at, size * count)
            for i, v in enumerate(values):
                t.store(at + i * size, size, v(t))

        return store
    targets, source = vector(operands[0]), address(operands[1])
    if parts[0] == "param":
        return lambda t: t.registers.__setitem__(targets[0], source(t))

    def load(t):
        at = source(t)
        t.bytes_at(at, size * count)
        for i, target in enumerate(targets):
            bits = t.load(at + i * size, size)
            t.registers[target] = signed(bits, width) & (1 << 64) - 1 if kind[0] == "s" else bits

    return load


def atomic(parts, operands):
    kind, change = parts[-1], {"add": lambda a, b: a + b, "or": lambda a, b: a | b}[parts[1]]
    size, at, value = width_of(kind) // 8, address(operands[1]), operand(operands[2], width_of(kind))

    def run(t):
        old = t.load(at(t), size)
        t.registers[operands[0]] = old
        t.store(at(t), size, change(old, value(t)) & (1 << 8 * size) - 1)

    return run


def copy(parts, operands):
    """9.7.9.25: the bytes may come at any time before the wait; until then nobody may look."""
    if parts == ["async", "commit_group"]:
        return lambda t: (t.groups.append(t.copies), setattr(t, "copies", []))
    if parts == ["async", "wait_group"]:
        pending = int(operands[0])

        def wait(t):
            while len(t.groups) > pending:
                for to, source, filled in t.groups.pop(0):
                    whole = t.load(source, 16) if filled else 0
                    t.store(to, 16, whole & (1 << 8 * filled) - 1)

        return wait
    if parts != ["async", "cg", "shared", "global"] or operands[2] != "16":
        raise Error(f"cp.{'.'.join(parts)} of {operands[2]} bytes")
    to, source, filled = address(operands[0]), address(operands[1]), operand(operands[3], 32)

    def begin(t):
        t.copies.append((to(t), source(t), filled(t)))
        t.store(to(t), 16, (1 << 128) - 1)

    return begin


def plain(name, parts, operands):
    """An instruction that a thread does alone, as f(thread)."""
    if name in ("ld", "st"):
        return memory_access(parts, operands)
    if name == "atom":
        return atomic(parts, operands)
    if name == "cp":
        return copy(parts, operands)
    if name == "membar":
        return lambda t: None
    kind = parts[-1]
    widths = [width_of(kind)] * len(operands)
    if name in ("mov", "cvta"):
        function = lambda a: a  # noqa: E731
    elif name == "selp":
        function, widths[-1] = lambda a, b, p: a if p else b, 1
    elif name == "setp":
        function, widths[0] = comparison(parts), 1
    elif name == "cvt":
        function, widths[0] = conversion(parts), width_of(parts[-2])
    else:
        function = arithmetic(name, parts, kind)
        if function is None:
            raise Error(f"{name}.{'.'.join(parts)} is not an instruction that is known here")
        if "wide" in parts:
            widths[0] *= 2
            widths[3:] = [widths[0]] * len(widths[3:])
        elif name in ("shl", "shr"):
            widths[2] = 32
    target, mask = operands[0], (1 << widths[0]) - 1
    inputs = [operand(o, w) for o, w in zip(operands[1:], widths[1:])]
    if len(inputs) == 1:
        (only,) = inputs
        return lambda t: t.registers.__setitem__(target, function(only(t)) & mask)
    return lambda t: t.registers.__setitem__(target, function(*[i(t) for i in inputs]) & mask)
