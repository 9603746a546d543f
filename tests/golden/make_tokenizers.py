#!/usr/bin/env python3
"""Writes tokenizers/: what the PyPI package `tokenizers` makes of more than 20,000 strings, kind by kind.

Each kind has a .json, a tokenizer.json whose vocabulary (trained here) stands in a file of its own, and .ids: for each
block of BLOCK strings a 64-bit hash of all their ids, once without and once with the special tokens spelled out in the
strings. tests/tokenizer/corpus.cc makes the same strings: those of tokenizer_smollm2.tsv, then combinations of them.
cuts.tsv holds where CUT_KINDS cut texts drawn from the characters that they tell apart: the vocabulary hides some.
Byte-level kinds share one vocabulary and differ in their pre-tokenizer, which their tokenizer.json holds.
--check OUT FILE writes the hashes of a tokenizer that is not committed: a model's tokenizer.json or GGUF file.

Needs: pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
Run:   python3 tests/golden/make_tokenizers.py
"""

import argparse
import base64
import copy
import io
import json
import pathlib
import re
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
NUM_COMBINATIONS = 16000
BLOCK = 64
MASK = (1 << 64) - 1
L3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
      r"|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
HEAD, END = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QUOTE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN = f"{HEAD}{UPPER}*{LOWER}+|{HEAD}{UPPER}+{LOWER}*|" + r"\p{N}" + END
O200K = f"{HEAD}{UPPER}*{LOWER}+{QUOTE}|{HEAD}{UPPER}+{LOWER}*{QUOTE}|" + r"\p{N}{1,3}" + END
# First and last letters of the ranges that DeepSeek LLM's pattern lists; by number, as some of them change in NFC.
CASED_RANGES = """
41-5A 61-7A B5-B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373
376-377 37B-37D 37F-37F 386-386 388-38A 38C-38C 38E-3A1 3A3-3F5 3F7-481 48A-52F
531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15
1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59-1F59 1F5B-1F5B 1F5D-1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC
1FBE-1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102-2102 2107-2107
210A-2113 2115-2115 2119-211D 2124-2124 2126-2126 2128-2128 212A-212D 212F-2134 2139-2139 213C-213F
2145-2149 214E-214E 2183-2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2-2CF3 A640-A66D A680-A69B A722-A76F
A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB
10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
"""


def cased():
    out = ""
    for item in CASED_RANGES.split():
        first, last = (int(part, 16) for part in item.split("-"))
        out += chr(first) + ("-" if last > first + 1 else "") + (chr(last) if last > first else "")
    return out


CASED = cased()
DEEPSEEK3 = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
             "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
GPT4 = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)"
        r"|\s+")

HAN_HEADS, HAN_TAILS = f"{UPPER[:-1]}&&[^\\p{{Han}}]]", f"{LOWER[:-1]}&&[^\\p{{Han}}]]"
KIMI = (rf"[\p{{Han}}]+|{HEAD}{HAN_HEADS}*{HAN_TAILS}+{QUOTE}|{HEAD}{HAN_HEADS}+{HAN_TAILS}*{QUOTE}|"
        r"\p{N}{1,3}" + END.replace("/", ""))
EXAONE_MOE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")
AFMOE_SCRIPTS = ("[一-鿿㐀-䶿\uf900-\ufaff\u3040-ゟ゠-ヿ･-ﾟ⼀-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ff\u1000-\u109f"
                 "ꩠ-ꩿ\ua9e0-\ua9ff가-\ud7af\u1100-\u11ff]+")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


def byte_level(use_regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def digits(single=True):
    return pre_tokenizers.Digits(individual_digits=single)


# The families of tokenizer.ggml.pre, by one name of each, and what else tokenizer.json files hold.
BYTE_LEVEL = {
    "gpt-2": [byte_level(True)],
    "gpt-2-prefix": [byte_level(True, True)],
    "smollm": [digits(), byte_level(True)],
    "llama-bpe": [split(L3), byte_level()],
    "gpt-4": [split(GPT4), byte_level()],
    "qwen2": [split(L3.replace("{1,3}", "")), byte_level()],
    "qwen35": [split(L3.replace("{1,3}", "").replace(r"\p{L}+|", r"[\p{L}\p{M}]+|")
                     .replace(r" ?[^\s\p{L}\p{N}]", r" ?[^\s\p{L}\p{M}\p{N}]")), byte_level()],
    "seed-coder": [split(L3.replace("{1,3}", "{1}").replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")),
                   byte_level()],
    "ufakzeka": [split(L3.replace("{1,3}", "").removeprefix("(?i:'s|'t|'re|'ve|'m|'ll|'d)|")), byte_level()],
    "superbpe": [split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), byte_level()],
    "kimi-k2": [split(KIMI), byte_level()],
    "youtu": [split("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+"),
              split(O200K.replace("{1,3}", "")), byte_level()],
    "tiny_aya": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K), byte_level()],
    "exaone-moe": [split(EXAONE_MOE), byte_level()],
    "afmoe": [split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"), split(AFMOE_SCRIPTS), split(DEEPSEEK3), byte_level()],
    "jais-2": [split(L3.removesuffix(r"\s+(?!\S)|\s+")
                     + "".join(rf"\s{{{2 ** n}}}(?!\S)|" for n in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}"), byte_level()],
    "spark2_5": [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"),
                 split(DEEPSEEK3.replace("+[\r\n]*|\\s*[\r\n]+|", "+|[\r\n]|")), split(r"\p{N}"), byte_level()],
    "laguna": [split(r"[^\n]+|[\n]+"), split(L3.replace("{1,3}", "")), byte_level()],
    "minicpm5": [split(r"\p{N}{1,3}"), split(L3.replace("{1,3}", "+")), byte_level()],
    "tekken": [split(TEKKEN), byte_level()],
    "gpt-4o": [split(O200K), byte_level()],
    "deepseek-v3": [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level()],
    "deepseek-llm": [split("[\r\n]"), split(rf"\s?[{CASED}]+"), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"),
                     split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(), byte_level()],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(),
                       byte_level()],
    "falcon": [pre_tokenizers.Punctuation("contiguous"), byte_level(True), digits(False), split("[0-9][0-9][0-9]")],
    "bloom": [split(r" ?[^(\s|.,!?…。，、।۔،)]+"), byte_level()],
    "viking": [split(r" ?[^(\s|.,!?…。，、।۔،)]+"), digits(), byte_level()],
}


def unescape(text):
    def one(match):
        kind = match.group(1)
        return {b"\\": b"\\", b"t": b"\t", b"n": b"\n", b"r": b"\r"}.get(kind) or bytes([int(kind[1:], 16)])

    return re.sub(rb"\\(x..|.)", one, text)


def smollm2_texts():
    lines = (HERE / "tokenizer_smollm2.tsv").read_bytes().split(b"\n")
    while lines[0].startswith(b"#"):
        del lines[0]
    texts = [unescape(line.split(b"\t")[0]) for line in lines if line]
    return list(dict.fromkeys(texts))


def split_mix(state):
    """The next number of SplitMix64 and the state after it."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return state, z ^ z >> 31


def corpus():
    """Each text of the file, then combinations of 1 to 6 of its short ones, an odd number joined with a space."""
    texts = smollm2_texts()
    short = [t for t in texts if 0 < len(t) <= 40]
    out, state = list(texts), 11
    for _ in range(NUM_COMBINATIONS):
        state, head = split_mix(state)
        parts = []
        for _ in range(1 + head % 6):
            state, pick = split_mix(state)
            parts.append(short[pick % len(short)])
        out.append((b" " if head & 64 else b"").join(parts))
    return out


def hash_ids(state, ids):
    """FNV-1a over the ids' 4 bytes each, then over an end mark."""
    for token in [*ids, 0xFFFFFFFF]:
        for byte in struct.pack("<I", token):
            state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def without_added(tokenizer):
    """The same tokenizer with none of its added tokens but those that are white space, which are text everywhere:
    the others get names that no text has, but for words that the model itself may come upon."""
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    words = dict(model["vocab"]) if isinstance(model["vocab"], list) else model["vocab"]
    blank = [not t["content"].replace("\u2581", " ").strip() for t in data["added_tokens"]]
    data["added_tokens"] = [t for t, is_blank in zip(data["added_tokens"], blank)
                            if is_blank or t["special"] or t["content"] not in words]
    for i, token in enumerate(data["added_tokens"]):
        old = token["content"]
        if not old.replace("\u2581", " ").strip():
            continue
        token["normalized"] = False
        new = token["content"] = f"\U0010fffd\U0010fffc{i}"
        if isinstance(model["vocab"], list):
            model["vocab"] = [[new if piece == old else piece, score] for piece, score in model["vocab"]]
        elif old in model["vocab"]:
            model["vocab"][new] = model["vocab"].pop(old)
        if model.get("unk_token") == old:
            model["unk_token"] = new
    data["post_processor"] = None
    return Tokenizer.from_str(json.dumps(data))


def write_ids(tokenizer, path):
    plain = without_added(tokenizer)
    texts = [t.decode(errors="replace") for t in corpus()]
    lines = []
    for begin in range(0, len(texts), BLOCK):
        block = texts[begin:begin + BLOCK]
        hashes = []
        for one in (plain, tokenizer):
            state = 0xCBF29CE484222325
            for encoding in one.encode_batch(block, add_special_tokens=False):
                state = hash_ids(state, encoding.ids)
            hashes.append(f"{state:016x}")
        lines.append(" ".join(hashes))
    path.write_text("\n".join(lines) + "\n")
    return len(texts)


def training_texts():
    return [t.decode() for t in smollm2_texts() if t.decode(errors="replace").encode() == t]


SPECIALS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
ADDED = [AddedToken("<|im_", special=False, normalized=False), AddedToken("<file", special=False, normalized=True),
         AddedToken("user", special=False, normalized=False, single_word=True),
         AddedToken("|>", special=False, normalized=False, lstrip=True, rstrip=True)]


def finish(tokenizer, extra=()):
    tokenizer.add_special_tokens(SPECIALS[:2])
    tokenizer.add_tokens([*ADDED[:3], *extra] if extra else ADDED)  # what rstrip takes may not be a token as well
    return tokenizer


def train_byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(True)
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_tokens():
    return [f"<0x{b:02X}>" for b in range(256)]


def train_characters():
    """BPE with byte fallback, as Llama 2: the normaliser puts a mark before each text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    mark = "\u2581"
    marks = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    tokenizer.normalizer = marks
    trainer = trainers.BpeTrainer(vocab_size=1400, special_tokens=["<unk>", *SPECIALS[2:], *byte_tokens()],
                                  show_progress=False, limit_alphabet=300)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.pre_tokenizer = None
    strip = [decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(strip)
    # Byte tokens are ordinary ones here, as in the files of models.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def by_metaspace(llama):
    """As newer files of the same models: a mark only where the whole text begins."""
    out = copy.deepcopy(llama)
    data = json.loads(out.to_str())
    data["normalizer"] = None
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    return Tokenizer.from_str(json.dumps(data))


def gemma_like(llama):
    """No mark before the text, a split that finds nothing, no byte fallback; unknown characters are fused."""
    data = json.loads(llama.to_str())
    data["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                             "invert": False}
    data["model"]["byte_fallback"] = False
    data["decoder"]["decoders"] = data["decoder"]["decoders"][:3]
    return Tokenizer.from_str(json.dumps(data))


def chars_map():
    """SentencePiece's compiled form of a few rules: NFKC-like, several characters to one, white space."""
    import sentencepiece
    rules = {"ﬁ": "fi", "①": "1", "½": "1⁄2", "Ａ": "A", "ａ": "a", "　": " ", "\t": " ", "\n": " ", "\u00a0": " ",
             "e\u0301": "é", "…": "...", "ﾊﾟ": "パ", "\u200b": " ", "\ufeff": "", "\u212b": "\u00c5", "™": "TM", "👍🏽": "👍"}
    lines = ["\t".join(" ".join(f"{ord(c):X}" for c in text) for text in rule) for rule in rules.items()]
    path = pathlib.Path("/tmp/sluice_rules.tsv")
    path.write_text("\n".join(lines) + "\n")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world", "a b c d e f g"] * 20), model_writer=model, vocab_size=24,
        normalization_rule_tsv=str(path), minloglevel=2, hard_vocab_limit=False)
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def train_unigram(byte_fallback):
    mark = "\u2581"
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(chars_map()), normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), mark)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    specials = ["<unk>", *SPECIALS[2:], *(byte_tokens() if byte_fallback else [])]
    trainer = trainers.UnigramTrainer(vocab_size=1200, special_tokens=specials, unk_token="<unk>",
                                      show_progress=False)
    # This trainer keeps every character it sees: those of a few alphabets only.
    tokenizer.train_from_iterator([t for t in training_texts() if not t or max(t) < "\u0500"], trainer)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    data["model"]["byte_fallback"] = byte_fallback
    data["model"]["vocab"] = [[t, round(s, 6)] for t, s in data["model"]["vocab"]]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))])
    return tokenizer


def train_word_piece(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=specials, show_progress=False,
                                        limit_alphabet=400)
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.decoder = decoders.WordPiece()
    ids = [(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids)
    return tokenizer


def with_parts(tokenizer, normalizer=None, pre_tokenizer=None):
    out = copy.deepcopy(tokenizer)
    if normalizer:
        out.normalizer = normalizer
    if pre_tokenizer:
        out.pre_tokenizer = pre_tokenizer
    return out


def kinds():
    base = train_byte_level()
    for name, steps in BYTE_LEVEL.items():
        yield name, finish(with_parts(base, None, pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]))
    for name in ("NFC", "NFD", "NFKC", "NFKD"):
        yield name.lower(), finish(with_parts(base, getattr(normalizers, name)(), byte_level(True)))
    llama = train_characters()
    yield "llama2", finish(copy.deepcopy(llama))
    yield "llama2-metaspace", finish(by_metaspace(llama))
    yield "gemma", finish(gemma_like(llama), [AddedToken(t, special=False, normalized=False) for t in ("\u2581\u2581", "\n\n", "\t\t")])
    yield "unigram", finish(train_unigram(False))
    yield "unigram-bytes", finish(train_unigram(True))
    yield "bert", finish(train_word_piece(True))
    cased = train_word_piece(False)
    yield "bert-cased", finish(cased)
    yield "words", finish(with_parts(cased, normalizers.Sequence([
        normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]), pre_tokenizers.Whitespace()))
    yield "space-split", finish(with_parts(cased, normalizers.Strip(), pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])))


CUT_KINDS = ["superbpe", "kimi-k2", "youtu", "tiny_aya", "exaone-moe", "afmoe", "jais-2", "spark2_5", "laguna"]
CUT_CHARACTERS = ["12345", "678", "9", "\u0663", "\u00bd", "\u00b2", "\u3007", "\u2167", "_", "a", "b", "X", "Ab", "'s",
                  "'LL", "'", "\u00e9", "\u0301", "\u093e", "\u03a9", "\u01c5", "\u02b0", "\u4e2d", "\u9fef", "\u3005",
                  "\u2e80", "\u2f00", "\u3042", "\u30ab", "\uff76", "\ud55c", "\u3131", "\u1100", "\u3105", "\u0e01",
                  "\u0e81", "\u1780", "\u1000", "\uaa60", "\ua9e0", "\u3001", "\uff0c", "\u2026", "\ufe30", "\U00020000",
                  "\U00016ff0", ".", "/", "!?", "+", "\U0001f600", "\u200d", " ", " ", " ", "  ", "   ", "\t", "\u3000",
                  "\u00a0", "\n", "\r\n", "\n\n"]


def write_cuts(path):
    """A text, then for each of CUT_KINDS the lengths of its words in bytes."""
    state, lines = 5, ["# " + "\t".join(CUT_KINDS)]
    cutters = [pre_tokenizers.Sequence(BYTE_LEVEL[name][:-1]) for name in CUT_KINDS]
    texts = ["a" + " " * n + end for n in (3, 4, 5, 7, 8, 9, 63, 300, 511, 512, 513, 514, 1100) for end in ("", "b", "\n b")]
    for _ in range(1200):
        state, size = split_mix(state)
        parts = []
        for _ in range(1 + size % 12):
            state, pick = split_mix(state)
            parts.append(CUT_CHARACTERS[pick % len(CUT_CHARACTERS)])
        texts.append("".join(parts))
    for text in texts:
        lengths = [" ".join(str(len(word.encode())) for word, _ in cutter.pre_tokenize_str(text)) for cutter in cutters]
        escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        lines.append("\t".join([escaped, *lengths]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_kind(name, tokenizer, folder, vocabularies):
    """Vocabularies that several kinds share stand in one file: "model" then is that file's name."""
    data = json.loads(tokenizer.to_str())
    data["truncation"] = data["padding"] = None
    model = json.dumps(data["model"], ensure_ascii=False, separators=(",", ":"))
    if model not in vocabularies:
        vocabularies[model] = f"model_{len(vocabularies)}.json"
        (folder / vocabularies[model]).write_text(model + "\n", encoding="utf-8")
    data["model"] = vocabularies[model]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def merges_from_scores(vocab, scores):
    """Every way of cutting a token into two: as transformers' convert_slow_tokenizer orders them."""
    merges = []
    for token, token_id in vocab.items():
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        splits = [(left, right) for left, right in splits if left in vocab and right in vocab]
        splits.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(left, right, scores[token_id]) for left, right in splits]
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def from_gguf(path):
    """A SentencePiece vocabulary of a GGUF file as the package has it."""
    import gguf
    fields = gguf.GGUFReader(path).fields

    def get(key, otherwise=None):
        field = fields.get("tokenizer.ggml." + key)
        return otherwise if field is None else field.contents()

    tokens, kinds_of, scores = get("tokens"), get("token_type"), get("scores")
    if get("model") != "llama":
        raise SystemExit(f"{path}: tokenizer.ggml.model is {get('model')}, not llama")
    text_kinds = (gguf.TokenType.NORMAL, gguf.TokenType.USER_DEFINED)
    words = {t: i for i, t in enumerate(tokens) if kinds_of[i] in text_kinds}
    merges = merges_from_scores(words, scores)
    unknown = get("unknown_token_id")
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, byte_fallback=True,
                                     fuse_unk=True, unk_token=tokens[unknown]))
    mark = "\u2581"
    steps = [normalizers.Prepend(mark)] if get("add_space_prefix", True) else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", mark)])
    special = [t for i, t in enumerate(tokens) if kinds_of[i] in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    user = [t for i, t in enumerate(tokens) if kinds_of[i] == gguf.TokenType.USER_DEFINED]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in user])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", nargs=2, metavar=("OUT", "FILE"), help="a tokenizer.json or a GGUF file")
    args = parser.parse_args()
    if args.check:
        from_file = from_gguf if args.check[1].endswith(".gguf") else Tokenizer.from_file
        tokenizer = from_file(args.check[1])
        tokenizer.no_padding()
        tokenizer.no_truncation()
        print(write_ids(tokenizer, pathlib.Path(args.check[0])), "strings")
        return
    folder = HERE / "tokenizers"
    folder.mkdir(exist_ok=True)
    vocabularies = {}
    write_cuts(folder / "cuts.tsv")
    for name, tokenizer in kinds():
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        write_kind(name, tokenizer, folder, vocabularies)
        print(name, write_ids(tokenizer, folder / f"{name}.ids"), "strings", flush=True)


if __name__ == "__main__":
    main()
