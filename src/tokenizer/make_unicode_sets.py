#!/usr/bin/env python3
"""Writes unicode_sets.cc: sets of characters as the `tokenizers` package has them, asked of itself.

Its parts were built with several versions of Unicode (BERT's classes with 8, accents with 12, word
characters with 16), so no one table gives them all.
Needs: pip install tokenizers==0.23.3 unicodedata2==16.0.0
Run: python3 src/tokenizer/make_unicode_sets.py > src/tokenizer/unicode_sets.cc
"""

import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

HEAD = """\
// Written by make_unicode_sets.py, which asks the `tokenizers` package; do not edit.
#include "tokenizer/unicode_sets.h"

namespace sluice {

// clang-format off
"""


def bert(**flags):
    names = ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"]
    return normalizers.BertNormalizer(**{name: flags.get(name, False) for name in names})


def gone(normalizer):
    return lambda c: normalizer.normalize_str(c) == ""


def cut_out(pre_tokenizer):
    return lambda c: len(pre_tokenizer.pre_tokenize_str("a" + c + "a")) == 3


def matched(regex):
    return cut_out(pre_tokenizers.Split(Regex(regex), "isolated"))


NFD, NFKD = normalizers.NFD(), normalizers.NFKD()


def is_inert(c):
    """Whether the package's normalisers do not know a character that decomposes or has an order among marks."""
    combining = unicodedata2.combining(c)
    if combining:
        pair = "\u0301" + c if combining == 1 else c + "\u0334"
        return NFD.normalize_str(pair) == pair
    return unicodedata2.normalize("NFKD", c) != c and NFKD.normalize_str(c) == c


WHITESPACE = pre_tokenizers.Whitespace()
SETS = {
    "kBertRemoved": gone(bert(clean_text=True)),
    "kBertAccents": gone(bert(strip_accents=True)),
    "kBertPunctuation": cut_out(pre_tokenizers.BertPreTokenizer()),
    "kAccents": gone(normalizers.StripAccents()),
    "kInert": is_inert,
    "kWordCharacters": lambda c: len(WHITESPACE.pre_tokenize_str("a" + c + "a")) == 1,
    "kDecimalDigits": matched(r"\d"),
    "kHan": matched(r"\p{Han}"),
}


def ranges(contains):
    first = None
    for code_point in range(0x110001):
        surrogate = 0xD800 <= code_point < 0xE000
        inside = code_point < 0x110000 and not surrogate and contains(chr(code_point))
        if inside and first is None:
            first = code_point
        elif not inside and first is not None:
            yield f"{{0x{first:X}, 0x{code_point:X}}},"
            first = None


def main():
    out = [HEAD]
    for name, contains in SETS.items():
        lines = [""]
        for item in ranges(contains):
            if len(lines[-1]) + len(item) > 98:
                lines.append("")
            lines[-1] += (" " if lines[-1] else "  ") + item
        out.append(f"static constexpr CodePointRange {name}Ranges[] = {{\n" + "\n".join(lines) + "\n};\n"
                   f"const std::span<const CodePointRange> {name} = {name}Ranges;\n\n")
    print("".join(out) + "// clang-format on\n\n}  // namespace sluice")


if __name__ == "__main__":
    main()
