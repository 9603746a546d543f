#!/usr/bin/env python3
"""Writes the tokenizer's golden files: what the PyPI package `tokenizers` makes of many strings.

tokenizer_smollm2.tsv: text, a flag, ids. The tokenizer is rebuilt from a GGUF file's metadata:
byte-level BPE of its tokens and merges, its pre-tokenizer, its control tokens as special tokens
(flag "s") or without any (flag "p"). pre_tokenizers.tsv: text, then for each of PATTERNS how many
bytes each of its words has. char_classes.tsv: ranges of letters (L), numbers (N) and white space (S):
first code point, the one after the last, class. utf8_replacement.tsv: bytes, then what decode(errors="replace") makes of
them. The lines at the top that begin with # are comments. Text is escaped: \\\\, \\t, \\n, \\r, and \\xNN for control characters
and for bytes that are not UTF-8; those the oracle sees as bytes.decode(errors="replace") makes them.

Needs: pip install tokenizers==0.23.3 gguf==0.19.0 unicodedata2==16.0.0
Run:   python3 tests/golden/make_tokenizer.py SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import pathlib
import platform
import random
import re

import gguf
import tokenizers
import unicodedata2 as unicodedata
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


PATTERNS = {
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       byte_level(True)]),
    "gpt-2": byte_level(True),
    "llama-bpe": pre_tokenizers.Sequence([split(LLAMA3), byte_level(False)]),
    "qwen2": pre_tokenizers.Sequence([split(LLAMA3.replace("{1,3}", "")), byte_level(False)]),
}

SENTENCES = """\
The quick brown fox jumps over the lazy dog; it didn't even look back, and we'll never know why.
Il était une fois, à Orléans, un garçon naïf qui mangeait des œufs brûlés.
Der Fußgänger überquerte die Straße, während es in Strömen goß.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío. ¿Añoraba? ¡Sí!
Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń.
Съешь же ещё этих мягких французских булок, да выпей чаю. Їжачок ґудзик.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ἐν ἀρχῇ ἦν ὁ λόγος.
דג סקרן שט בים מאוכזב ולפתע מצא חברה. בְּרֵאשִׁית בָּרָא
نص حكيم له سر قاطع وذو شأن عظيم. ٱلْحَمْدُ لِلَّهِ ١٢٣٤ ۴۵۶
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश १२३
বিষণ্ণ ঔদাসীন্যে ঊষাবৌদি বাংলাভাষায় ৫৬৭ வணக்கம் உலகம் ௧௨ తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ ଓଡ଼ିଆ සිංහල
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓ ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ བོད་སྐད
いろはにほへと ちりぬるを。カタカナ、漢字混じり文!全角123 ㍿ ﾊﾝｶｸ
天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。一二三四五 〇〡〢 简体中文和繁體中文 𠀀𠮷𪚥
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. ㄱㄴㄷ ᄒᆞᆫ
Բարև աշխարհ გამარჯობა მსოფლიო ሰላም ልዑል ፩፪፫ ᏣᎳᎩ ᚠᛇᚻ ᐃᓄᒃᑎᑐᑦ Монгол ᠮᠣᠩᠭᠣᠯ ⵜⴰⵎⴰⵣⵉⵖⵜ
𐍈𐌰𐌽 𐎠𐎼𐎹 𓀀𓂀 𒀀𒁀 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 Ⅷ ⅻ ½ ² ₃ ① ⑳ ㊿ 🄀 𞤀𞤣𞤢
x² + y² ≤ z²; ∀ε>0 ∃δ: |x−a|<δ ⇒ |f(x)−L|<ε; ∫₀^∞ e^{−x²} dx = √π⁄2 — “quoted” ‘text’ …
I'M we'RE they'Ve you'LL he'D it'S don'T I'd 'tis rock 'n' roll o'clock ''s '' 'ſ s'ſ 'S 're've 'LLama
""".splitlines()

CODE = r"""
def f(x: int = 0) -> None:\n    \"\"\"doc\"\"\"\n\treturn {k: v for k, v in x.items() if v != 1e-9}\n
#include <vector>\n\nint main(int argc, char** argv) {\n  for (size_t i = 0; i < 10; ++i) { std::cout << i << '\\n'; }\n}\n
SELECT a.id, COUNT(*) FROM t AS a LEFT JOIN u ON a.id=u.id WHERE a.x>=10 AND u.name LIKE '%\\_%';\r\n
{"key": [1, 2.5e+10, null, true], "nested": {"a\\u00e9": "b\\"c\\""}}
<div class="a-b_c" id='x'>&nbsp;&lt;p&gt;<!-- c --></div>\n\n\n<br/>
const f = async (a, ...b) => await Promise.all(b.map(x => x?.y ?? `${a}`)); // ok?!
fn main() -> Result<(), Box<dyn Error>> { let x: &'static str = r#"raw"#; println!("{x:?}"); Ok(()) }
$ curl -sS http://127.0.0.1:8000/v1/models?a=b&c=%20d | jq '.data[].id' >> out.txt 2>&1 && echo $?
""".strip().splitlines()
CODE = [line.encode().decode("unicode_escape") for line in CODE]

EMOJI = """👍 👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🏴‍☠️ 🇫🇷 🇩🇪🇯🇵 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️ ❤ ☺︎ 1️⃣ #️⃣ 🤷🏿‍♀️ 🧑🏻‍🤝‍🧑🏾 👁️‍🗨️ 😀 🥹 🫱🏼‍🫲🏿 🐻‍❄️ ⌚ ™️ 〰️ 🇺 ‍ ️ 🏻""".split(" ")
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u1680", "\u2003",
          "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff", "\u180e", "\x1c", "\x1f"]
DIGITS = ["0", "7", "42", "007", "1999", "3.14", "1,234,567.89", "-5", "1e-9", "0xFF", "١٢", "४२", "½",
          "²", "Ⅷ", "〇", "三", "𝟘𝟙"]
INVALID = [b"\x80", b"\xff", b"\xc0\xaf", b"\xc3", b"\xe2\x82", b"\xe2\x28\xa1", b"\xed\xa0\x80", b"\xf0\x9f\x98",
           b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\xaf", b"\xfe\xff",
           b"\xc3\xe2\x82\xf0\x9f", b"\xf1\x80", b"\xed\xb0\x80\xed\xa0\x81"]


def script_samples(rng):
    """Words from every stretch of 128 code points that holds letters, marks, numbers or symbols."""
    for first in range(0, 0x20000, 128):
        here = [chr(c) for c in range(first, first + 128)
                if unicodedata.category(chr(c))[0] in "LMNPS"]
        if len(here) < 8:
            continue
        large = 0x3400 <= first < 0xD7A4 or 0x12000 <= first < 0x18D00
        for _ in range(1 if large else 3):
            words = ["".join(rng.choice(here) for _ in range(rng.randint(1, 7)))
                     for _ in range(rng.randint(1, 4))]
            yield rng.choice([" ", " ", "  ", "", "-"]).join(words)


def strings(rng, specials):
    """All texts, as str or as bytes that are not UTF-8."""
    words = [w for s in SENTENCES for w in s.split()]
    code_words = [w for s in CODE for w in re.split(r"(\s+|\b)", s) if w]
    yield from ["", "a", " ", "Hello, world!"] + SENTENCES + CODE + EMOJI + SPACES
    yield from [chr(c) for c in range(0x300)]
    yield from [" " + chr(c) + "x" for c in range(0x80)]
    yield from script_samples(rng)
    for _ in range(500):
        yield " ".join(rng.choice(words) for _ in range(rng.randint(2, 8)))
    for _ in range(350):
        yield "".join(rng.choice(code_words) for _ in range(rng.randint(3, 14)))
    for _ in range(350):
        yield "".join(rng.choice(EMOJI + ["a", " ", "x!"]) for _ in range(rng.randint(1, 5)))
    for _ in range(600):  # white space before and after everything
        yield "".join(rng.choice(SPACES) * rng.choice([1, 1, 2, 3, 8])
                      + rng.choice(["", "a", "I'll", "7", "12", "!?", "é", "中", "'s", "\u0301"])
                      for _ in range(rng.randint(1, 5)))
    for _ in range(300):
        yield "".join(rng.choice(DIGITS) + rng.choice(["", " ", "  ", "a", ".", "\n"])
                      for _ in range(rng.randint(1, 5)))
    for _ in range(250):
        yield "".join(rng.choice("'’`") + rng.choice(["s", "S", "t", "re", "Re", "ve", "m", "ll", "lL",
                                                      "d", "ſ", "l", "r", "x", " s"])
                      + rng.choice(["", " ", "a", "1", "'"]) for _ in range(rng.randint(1, 4)))
    for _ in range(250):
        yield "".join(chr(rng.choice([rng.randrange(0x20), 0x7F, rng.randrange(0x80, 0xA0), 0x41]))
                      for _ in range(rng.randint(1, 8)))
    for _ in range(300):  # any assigned or unassigned character but surrogates
        yield "".join(chr(rng.choice([rng.randrange(0x80), rng.randrange(0x3000),
                                      rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
                      for _ in range(rng.randint(1, 8)))
    for _ in range(350):
        yield "".join(rng.choice(specials + [" ", "\n", "user", "hi", "<|", "|>", "<|im_", "<file"])
                      for _ in range(rng.randint(1, 6)))
    for _ in range(400):
        parts = [rng.choice(INVALID + [b"a", b" ", b"\xc3\xa9", b"1", bytes([rng.randrange(256)]),
                                       "中".encode()]) for _ in range(rng.randint(1, 7))]
        yield b"".join(parts)
    for unit in ["a", "ab", " ", "\n", "=", "-+", "ha", "é", "中", "👍", "Aa1", "\u0301", "the", "0", "."]:
        for length in [16, 33, 150]:
            yield unit * length
    for _ in range(40):  # long words take another path through the merges
        letters = rng.choice(["ab", "etaoinshr", "ABCabcxyz", "aeioué", "知道的我是"])
        yield "".join(rng.choice(letters) for _ in range(rng.randint(30, 120)))


def broken(rng):
    """Each kind of first byte before each kind of second, third and fourth, and random bytes."""
    firsts = [0x41, 0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]
    tails = [0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2]
    for first in firsts:
        yield bytes([first])
        for second in tails:
            yield bytes([first, second])
            yield from (bytes([first, second, rng.choice(tails)]) for _ in range(3))
            yield bytes([first, second, 0x80, rng.choice(tails), 0x41])
    for _ in range(200):
        yield b"".join(rng.choice(INVALID + ["é".encode(), "中".encode(), "👍".encode()])
                       for _ in range(rng.randint(2, 5)))


def char_class(code_point):
    """L, N or S as GPT-2's pattern takes it: one that stays with its neighbours is of their class."""
    def alone(before, after):
        text = before + chr(code_point) + after
        return len(PATTERNS["gpt-2"].pre_tokenize_str(text)) > 1

    if 0xD800 <= code_point < 0xE000 or not alone("!", "!"):
        return None
    return "L" if not alone("a", "a") else "N" if not alone("1", "1") else "S"


def char_class_ranges():
    first, kind = 0, None
    for code_point in range(0x110001):
        here = char_class(code_point) if code_point < 0x110000 else None
        if here != kind:
            if kind:
                yield first, code_point, kind
            first, kind = code_point, here


def escape(raw):
    text = raw.decode(errors="surrogateescape")

    def one(match):
        char = match.group()
        if char in "\\\t\n\r":
            return {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}[char]
        code = ord(char)
        encoded = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else char.encode()
        return "".join(f"\\x{byte:02x}" for byte in encoded)

    return re.sub(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\udc80-\udcff]", one, text)


def read_tokenizer(path):
    """Returns the tokenizer with its special tokens, the one without, and their texts."""
    fields = gguf.GGUFReader(path).fields

    def get(key):
        return fields["tokenizer.ggml." + key].contents()

    if get("model") != "gpt2":
        raise SystemExit(f"{path}: tokenizer.ggml.model is {get('model')}, not gpt2")
    vocab = {token: i for i, token in enumerate(get("tokens"))}
    merges = [tuple(merge.split(" ")) for merge in get("merges")]
    specials = [token for token, kind in zip(get("tokens"), get("token_type"))
                if kind == gguf.TokenType.CONTROL]
    both = []
    for _ in range(2):
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tokenizer.pre_tokenizer = PATTERNS[get("pre")]
        both.append(tokenizer)
    both[0].add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return both[0], both[1], specials


def word_lengths(pattern, text):
    """Bytes of each word; its second member holds character offsets."""
    return [len(text[begin:end].encode()) for _, (begin, end) in pattern.pre_tokenize_str(text)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    args = parser.parse_args()
    parsing, plain, specials = read_tokenizer(args.gguf)
    raws = dict.fromkeys(s if isinstance(s, bytes) else s.encode()
                         for s in strings(random.Random(3), specials))
    made = f"# make_tokenizer.py: {args.gguf.name}, tokenizers {tokenizers.__version__}\n"
    with open(args.out / "tokenizer_smollm2.tsv", "w", encoding="utf-8", newline="\n") as out:
        out.write(made)
        for raw in raws:
            text = raw.decode(errors="replace")
            ids = parsing.encode(text, add_special_tokens=False).ids
            out.write("\t".join([escape(raw), "s", " ".join(map(str, ids))]) + "\n")
            plain_ids = plain.encode(text, add_special_tokens=False).ids
            if plain_ids != ids:
                out.write("\t".join([escape(raw), "p", " ".join(map(str, plain_ids))]) + "\n")
    valid = [raw for raw in raws if raw.decode(errors="replace").encode() == raw and len(raw) < 60]
    with open(args.out / "pre_tokenizers.tsv", "w", encoding="utf-8", newline="\n") as out:
        out.write(made + "# text\t" + "\t".join(PATTERNS) + "\n")
        for raw in valid[::2]:
            lengths = [" ".join(map(str, word_lengths(pattern, raw.decode())))
                       for pattern in PATTERNS.values()]
            out.write("\t".join([escape(raw), *lengths]) + "\n")
    with open(args.out / "utf8_replacement.tsv", "w", encoding="utf-8", newline="\n") as out:
        out.write(f"# make_tokenizer.py: Python {platform.python_version()}\n")
        for raw in broken(random.Random(4)):
            out.write(escape(raw) + "\t" + escape(raw.decode(errors="replace").encode()) + "\n")
    with open(args.out / "char_classes.tsv", "w", encoding="utf-8", newline="\n") as out:
        out.write(made)
        for first, end, kind in char_class_ranges():
            out.write(f"{first}\t{end}\t{kind}\n")
    print(f"{len(raws)} strings, {len(valid[::2])} for the patterns")


if __name__ == "__main__":
    main()
