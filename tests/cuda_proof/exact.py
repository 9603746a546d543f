"""Floating point by whole numbers: what IEEE 754 says of a result that is rounded once, to nearest with ties to even.

A number is its bits. f64, f32, f16, bf16 and e4m3 (no infinity; all ones is NaN) are the formats.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Format:
    exponent_bits: int
    fraction_bits: int
    infinite: bool = True

    @property
    def width(self):
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self):
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def infinity(self):
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits

    @property
    def nan(self):  # the one that PTX calls canonical
        return (1 << (self.width - 1)) - 1


F64, F32, F16, BF16, E4M3 = Format(11, 52), Format(8, 23), Format(5, 10), Format(8, 7), Format(4, 3, infinite=False)


def sign(bits, of):
    return bits >> (of.width - 1) & 1


def size(bits, of):
    return bits & ((1 << (of.width - 1)) - 1)


def is_nan(bits, of):
    return size(bits, of) > of.infinity if of.infinite else size(bits, of) == of.nan


def is_infinite(bits, of):
    return of.infinite and size(bits, of) == of.infinity


def value(bits, of):
    """(m, e): a finite number is m 2^e."""
    fraction = bits & ((1 << of.fraction_bits) - 1)
    exponent = size(bits, of) >> of.fraction_bits
    if exponent == 0:
        m, e = fraction, 1
    else:
        m, e = fraction | 1 << of.fraction_bits, exponent
    return (-m if sign(bits, of) else m), e - of.bias - of.fraction_bits


def nearest(m, e, to, exactly=False):
    """The bits of m 2^e, m not 0; `exactly`: nothing may be rounded off."""
    negative, m = m < 0, abs(m)
    exponent = max(m.bit_length() - 1 + e, 1 - to.bias)
    shift = exponent - to.fraction_bits - e
    if shift <= 0:
        kept, rest, half = m << -shift, 0, 1
    else:
        kept, rest, half = m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1)
    if exactly and rest:
        raise ValueError("a sum that is not exact has no bits that are promised")
    if rest > half or (rest == half and kept & 1):
        kept += 1
    bits = min(((exponent + to.bias - 1) << to.fraction_bits) + kept, to.infinity)
    return bits | negative << (to.width - 1)


def fma(a, b, c, of):
    if is_nan(a, of) or is_nan(b, of) or is_nan(c, of):
        return of.nan
    negative = sign(a, of) ^ sign(b, of)
    infinity = of.infinity | negative << (of.width - 1)
    if is_infinite(a, of) or is_infinite(b, of):
        if size(a, of) == 0 or size(b, of) == 0 or (is_infinite(c, of) and c != infinity):
            return of.nan
        return infinity
    if is_infinite(c, of):
        return c
    (x, ex), (y, ey), (z, ez) = value(a, of), value(b, of), value(c, of)
    e = min(ex + ey, ez)
    total = (x * y << (ex + ey - e)) + (z << (ez - e))
    if total == 0:  # -0 only of two of them
        both = x * y == 0 and negative and sign(c, of)
        return both << (of.width - 1)
    return nearest(total, e, of)


def negated(a, of):
    return a ^ 1 << (of.width - 1)


def add(a, b, of):
    return fma(a, of.bias << of.fraction_bits, b, of)


def sub(a, b, of):
    return add(a, negated(b, of), of)


def mul(a, b, of):
    return fma(a, b, 1 << (of.width - 1), of)


def div(a, b, of):
    if is_nan(a, of) or is_nan(b, of):
        return of.nan
    negative = (sign(a, of) ^ sign(b, of)) << (of.width - 1)
    if is_infinite(a, of) or is_infinite(b, of):
        both = is_infinite(a, of) and is_infinite(b, of)
        return of.nan if both else negative | (of.infinity if is_infinite(a, of) else 0)
    (x, ex), (y, ey) = value(a, of), value(b, of)
    if y == 0:
        return of.nan if x == 0 else negative | of.infinity
    if x == 0:
        return negative
    more = 4 * of.fraction_bits  # digits; a last one for what is left over
    quotient, rest = divmod(abs(x) << more, abs(y))
    return negative | nearest(quotient << 1 | (rest != 0), ex - ey - more - 1, of)


def sqrt(a, of):
    if is_nan(a, of) or size(a, of) == 0:
        return of.nan if is_nan(a, of) else a
    if sign(a, of):
        return of.nan
    if is_infinite(a, of):
        return a
    m, e = value(a, of)
    more = 4 * of.fraction_bits
    more += (e - more) % 2
    root = math.isqrt(m << more)
    return nearest(root << 1 | (root * root != m << more), (e - more) // 2 - 1, of)


def order(bits, of):
    """Ascending with the number; -0 before +0."""
    return -size(bits, of) - 1 if sign(bits, of) else size(bits, of)


def larger(a, b, of):
    if is_nan(a, of) or is_nan(b, of):
        return of.nan if is_nan(a, of) and is_nan(b, of) else (b if is_nan(a, of) else a)
    return max(a, b, key=lambda x: order(x, of))


def smaller(a, b, of):
    if is_nan(a, of) or is_nan(b, of):
        return larger(a, b, of)
    return min(a, b, key=lambda x: order(x, of))


def compare(a, b, of):
    """-1, 0 or 1; None: one is NaN."""
    if is_nan(a, of) or is_nan(b, of):
        return None
    x = 0 if size(a, of) == 0 else order(a, of)
    y = 0 if size(b, of) == 0 else order(b, of)
    return (x > y) - (x < y)


def convert(bits, of, to):
    if is_nan(bits, of):
        return to.nan
    negative = sign(bits, of) << (to.width - 1)
    if is_infinite(bits, of):
        return negative | to.infinity
    m, e = value(bits, of)
    return nearest(m, e, to) if m else negative


def from_integer(number, to):
    return nearest(number, 0, to) if number else 0


def whole(bits, of, low, high, to_nearest):
    """As a whole number, toward zero or to the nearest (ties to even), held within [low, high]; 0 for NaN."""
    if is_nan(bits, of):
        return 0
    if is_infinite(bits, of):
        return low if sign(bits, of) else high
    m, e = value(bits, of)
    number, rest, half = abs(m) << max(e, 0), 0, 1
    if e < 0:
        number, rest, half = abs(m) >> -e, abs(m) & ((1 << -e) - 1), 1 << (-e - 1)
    if to_nearest and (rest > half or (rest == half and number & 1)):
        number += 1
    return min(max(-number if m < 0 else number, low), high)


def dot(pairs, start, of, to):
    """start + the sum of products, which must be exact: of other sums PTX promises no bits."""
    e = min(2 * (1 - of.bias - of.fraction_bits), 1 - to.bias - to.fraction_bits)
    total = 0
    for a, b in pairs:
        (x, ex), (y, ey) = value(a, of), value(b, of)
        total += x * y << (ex + ey - e)
    z, ez = value(start, to)
    total += z << (ez - e)
    return nearest(total, e, to, exactly=True) if total else 0
