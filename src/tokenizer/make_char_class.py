#!/usr/bin/env python3
"""Writes char_class_table.cc: the kind of every code point, as pre-tokenizer patterns tell them apart.

Needs the PyPI package unicodedata2, whose version is that of the Unicode data it carries. 16.0.0 is
what the regular expressions of the `tokenizers` package know, so words are cut at the same places.
Run: python3 src/tokenizer/make_char_class.py > src/tokenizer/char_class_table.cc
"""

import sys

import unicodedata2

UNICODE = "16.0.0"
# The property White_Space, unchanged since Unicode 6.3 (PropList.txt).
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
          0x202F, 0x205F, 0x3000}

HEAD = """\
// Written by make_char_class.py from Unicode {version}; do not edit.
#include "tokenizer/char_class.h"

namespace sluice {{

// clang-format off
constexpr CharKind U = CharKind::kUpper, L = CharKind::kLower, A = CharKind::kCaseless,
                   M = CharKind::kMark, N = CharKind::kNumber, P = CharKind::kPunctuation,
                   Y = CharKind::kSymbol, S = CharKind::kSpace;
const CharKindRange kCharKindRanges[] = {{
"""
TAIL = """\
};
// clang-format on
const size_t kNumCharKindRanges = sizeof(kCharKindRanges) / sizeof(kCharKindRanges[0]);

}  // namespace sluice
"""


def char_kind(code_point):
    if code_point in SPACES:
        return "S"
    category = unicodedata2.category(chr(code_point))
    exact = {"Lu": "U", "Lt": "U", "Ll": "L", "Lm": "A", "Lo": "A"}.get(category)
    return exact or {"M": "M", "N": "N", "P": "P", "S": "Y"}.get(category[0])


def ranges():
    first, kind = 0, None
    for code_point in range(0x110001):
        here = char_kind(code_point) if code_point < 0x110000 else None
        if here != kind:
            if kind:
                yield f"{{0x{first:X}, 0x{code_point:X}, {kind}}},"
            first, kind = code_point, here


def main():
    if unicodedata2.unidata_version != UNICODE:
        sys.exit(f"unicodedata2 is {unicodedata2.unidata_version}; this script wants {UNICODE}")
    lines = [""]
    for item in ranges():
        if len(lines[-1]) + len(item) > 98:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "  ") + item
    sys.stdout.write(HEAD.format(version=UNICODE) + "\n".join(lines) + "\n" + TAIL)


if __name__ == "__main__":
    main()
