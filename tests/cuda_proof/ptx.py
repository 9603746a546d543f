"""Runs a kernel of a PTX file: a second meaning of what kernels/cuda's functions do, beside the emulator's.

ptx_instructions.py has what a thread does alone, this file what threads do together. Semantics: "PTX ISA" 9.0, 9.7.9.6
(shfl), 9.7.13 (barriers, votes), 9.7.14 (matrices).
"""

import re

import exact
from exact import BF16, E4M3, F16, F32
from ptx_instructions import GLOBAL, WARP, Block, Error, Thread, address, operand, plain, signed, vector, width_of

TOGETHER = ("shfl", "vote", "bar", "barrier", "ldmatrix", "mma")
EVERY_LANE = (1 << WARP) - 1


class Instruction:
    """`run`: what a thread does alone; `target`: of a branch; `together`: f(threads of a warp, the mask they name)."""

    def __init__(self, text, labels):
        self.text = text
        guard, text = re.fullmatch(r"(?:@(!?%\w+)\s+)?(.*)", text).groups()
        self.guard = None
        if guard is not None:
            taken = operand(guard.lstrip("!"), 1)
            self.guard = (lambda t: not taken(t)) if guard[0] == "!" else taken
        opcode, _, rest = text.partition(" ")
        name, *parts = opcode.strip().split(".")
        self.run = self.target = self.together = self.mask = self.barrier = None
        self.ends = name in ("ret", "exit")
        operands = [o.strip() for o in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)]
        if name == "bra":
            self.target = labels[operands[0]]
        elif name in TOGETHER:
            self.meet(name, parts, operands)
        elif not self.ends:
            self.run = plain(name, parts, operands)

    def meet(self, name, parts, operands):
        every = lambda t: EVERY_LANE  # noqa: E731
        if name in ("bar", "barrier") and parts[0] == "sync":
            of, count = operand(operands[0], 32), operand(operands[1], 32) if len(operands) > 1 else None
            self.barrier = lambda t: (of(t), count(t) if count else t.block.size)
        elif name == "bar" and parts == ["warp", "sync"]:
            self.together, self.mask = (lambda lanes: None), operand(operands[0], 32)
        elif name == "shfl":
            self.together, self.mask = shuffle(parts[1], operands), operand(operands[4], 32)
        elif name == "vote" and parts == ["sync", "ballot", "b32"]:
            self.together, self.mask = ballot(operands), operand(operands[2], 32)
        elif name == "ldmatrix":
            self.together, self.mask = load_matrices(parts, operands), every
        elif name == "mma":
            self.together, self.mask = multiply(parts, operands), every
        else:
            raise Error(f"{name}.{'.'.join(parts)} is not an instruction that is known here")


def shuffle(mode, operands):
    target, *valid = operands[0].split("|")
    value, by, clamp = (operand(o, 32) for o in operands[1:4])

    def run(lanes):
        given = {lane: value(t) for lane, t in lanes.items()}
        for lane, t in lanes.items():
            b, c = by(t) & 31, clamp(t)
            segment = c >> 8 & 31
            last, first = (lane & segment) | (c & 31 & ~segment), lane & segment
            source, legal = {
                "up": (lane - b, lane - b >= last),
                "down": (lane + b, lane + b <= last),
                "bfly": (lane ^ b, lane ^ b <= last),
                "idx": (first | (b & ~segment), first | (b & ~segment) <= last),
            }[mode]
            if not legal:
                source = lane
            if source not in given:
                raise Error(f"lane {lane} reads lane {source}, which is not in the mask")
            t.registers[target] = given[source]
            for p in valid:
                t.registers[p] = int(legal)

    return run


def ballot(operands):
    vote = operand(operands[1], 1)

    def run(lanes):
        votes = sum(vote(t) << lane for lane, t in lanes.items())
        for t in lanes.values():
            t.registers[operands[0]] = votes

    return run


def load_matrices(parts, operands):
    """Thread 8 m + r has the address of row r of matrix m; thread T gets two elements of row T / 4, transposed of column."""
    if parts[:4] != ["sync", "aligned", "m8n8", "x4"] or parts[-2:] != ["shared", "b16"]:
        raise Error(f"ldmatrix.{'.'.join(parts)}")
    targets, row = vector(operands[0]), address(operands[1])
    transposed = "trans" in parts

    def run(lanes):
        for matrix, target in enumerate(targets):
            element = []
            for r in range(8):
                t = lanes[8 * matrix + r]
                whole = t.load(row(t), 16)
                element.append([whole >> (16 * i) & 0xFFFF for i in range(8)])
            for lane, t in lanes.items():
                r, c = lane // 4, lane % 4 * 2
                pair = (element[c][r], element[c + 1][r]) if transposed else (element[r][c], element[r][c + 1])
                t.registers[target] = pair[0] | pair[1] << 16

    return run


def fragments(bits):
    """(row, column) of element i of a lane's A, B and D, of elements of 16 or 8 bits."""
    n = 32 // bits  # in a register

    def a(group, thread, i):
        return group + (8 if i // n % 2 else 0), thread * n + i % n + (4 * n if i >= 2 * n else 0)

    def b(group, thread, i):
        return thread * n + i % n + (4 * n if i >= n else 0), group

    def d(group, thread, i):
        return group + (8 if i >= 2 else 0), thread * 2 + i % 2

    return a, b, d


def multiply(parts, operands):
    shape, types = parts[2], parts[5:]
    known = {
        ("m16n8k16", "f32.bf16.bf16.f32"): (16, BF16),
        ("m16n8k16", "f32.f16.f16.f32"): (16, F16),
        ("m16n8k32", "f32.e4m3.e4m3.f32"): (8, E4M3),
        ("m16n8k32", "s32.s8.s8.s32"): (8, None),
    }
    if parts[:2] + parts[3:5] != ["sync", "aligned", "row", "col"] or (shape, ".".join(types)) not in known:
        raise Error(f"mma.{'.'.join(parts)}")
    bits, of = known[shape, ".".join(types)]
    at_a, at_b, at_d = fragments(bits)
    per_register, depth = 32 // bits, 256 // bits
    targets, *inputs = [vector(o) for o in operands]
    reg_a, reg_b, reg_c = [[operand(o, 32) for o in i] for i in inputs]

    def elements(t, registers):
        return [r(t) >> (bits * i) & (1 << bits) - 1 for r in registers for i in range(per_register)]

    def sum_of(row, column, start):
        if of is not None:
            return exact.dot(list(zip(row, column)), start, of, F32)
        return start + sum(signed(x, 8) * signed(y, 8) for x, y in zip(row, column)) & (1 << 32) - 1

    def run(lanes):
        a = [[0] * depth for _ in range(16)]
        b = [[0] * depth for _ in range(8)]
        for lane, t in lanes.items():
            for i, x in enumerate(elements(t, reg_a)):
                row, k = at_a(lane // 4, lane % 4, i)
                a[row][k] = x
            for i, x in enumerate(elements(t, reg_b)):
                k, column = at_b(lane // 4, lane % 4, i)
                b[column][k] = x
        for lane, t in lanes.items():
            results = []
            for i, c in enumerate(reg_c):
                row, column = at_d(lane // 4, lane % 4, i)
                results.append(sum_of(a[row], b[column], c(t)))
            t.registers.update(zip(targets, results))

    return run


class Kernel:
    def __init__(self, body, globals_):
        self.parameters = re.findall(r"\.param\s+\.\w+\s+(\w+)", body.partition("{")[0])
        body = body.partition("{")[2]
        self.shared = dict(globals_)
        end = 0
        for alignment, kind, name, count in re.findall(r"\.shared \.align (\d+) \.(\w+) (\w+)(?:\[(\d+)\])?;", body):
            begin = -(-end // int(alignment)) * int(alignment)
            self.shared[name] = begin
            end = begin + width_of(kind) // 8 * int(count or 1)
        for name in globals_:  # dynamic memory lies behind what is declared
            self.shared[name] = -(-end // 16) * 16
        lines, labels = [], {}
        for line in re.split(r"[;\n]", body):
            line = re.sub(r"\s+", " ", line).strip()
            label = re.match(r"(\$\w+):(.*)", line)
            if label:
                labels[label[1]] = len(lines)
                line = label[2].strip()
            if line and line not in "{}" and line[0] != ".":
                lines.append(line)
        self.code = [Instruction(line, labels) for line in lines]

    def run(self, blocks, threads, memory, arguments):
        """arguments: offsets in `memory` of what the parameters point to."""
        for index in range(blocks):
            block = Block(index, blocks, threads)
            symbols = self.shared | {p: GLOBAL + a for p, a in zip(self.parameters, arguments)}
            self.run_block([Thread(block, i, memory, symbols) for i in range(threads)])

    def run_block(self, threads):
        while not all(t.ended for t in threads):
            for t in threads:
                self.run_alone(t)
            waiting = [t for t in threads if not t.ended]
            met = [self.warp_meets(threads[w : w + WARP]) for w in range(0, len(threads), WARP)]
            if waiting and not any(met) and not self.barrier_opens(waiting):
                raise Error(f"no thread can go on; thread {waiting[0].index} is at {self.code[waiting[0].pc].text}")

    def run_alone(self, t):
        while not t.ended:
            i = self.code[t.pc]
            if i.guard is not None and not i.guard(t):
                t.pc += 1
            elif i.run is not None:
                i.run(t)
                t.pc += 1
            elif i.target is not None:
                t.pc = i.target
            elif i.ends:
                t.ended = True
                if t.copies or t.groups:
                    raise Error(f"thread {t.index} ends without having waited for its copies")
            else:
                return

    def warp_meets(self, warp):
        """Lets lanes on that stand at one instruction and are all that its mask names."""
        met = False
        for t in warp:
            i = self.code[t.pc] if not t.ended else None
            if i is None or i.together is None:
                continue
            mask = i.mask(t)
            lanes = {u.index % WARP: u for u in warp if not u.ended and u.pc == t.pc and i.mask(u) == mask}
            if sum(1 << lane for lane in lanes) != mask:
                continue
            i.together(lanes)
            for u in lanes.values():
                u.pc += 1
            met = True
        return met

    def barrier_opens(self, waiting):
        at = {}
        for t in waiting:
            barrier = self.code[t.pc].barrier
            if barrier is not None:
                at.setdefault(barrier(t), []).append(t)
        opened = [threads for (_, count), threads in at.items() if len(threads) == count]
        for threads in opened:
            for t in threads:
                t.pc += 1
        return bool(opened)


def kernels(text):
    """By mangled name."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    outside = {name: 0 for name in re.findall(r"\.extern \.shared \.align \d+ \.\w+ (\w+)\[\];", text)}
    return {m[1]: m[2] for m in re.finditer(r"\.entry (\w+)(\(.*?\n\})", text, flags=re.S)}, outside


def kernel(text, name):
    """The kernel `name` of words in and words out."""
    found, outside = kernels(text)
    (body,) = [b for mangled, b in found.items() if mangled.endswith(f"{len(name)}{name}EPKjPj")]
    return Kernel(body, outside)
