"""Writes tests/golden/gguf by the gguf package: the tiny BERT goldens in the names and layout of llama.cpp's converter, and one of them
in three parts.

python tests/golden/make_gguf.py   (pip install gguf safetensors numpy)
"""

import json
import pathlib

import gguf
import numpy as np
from safetensors import safe_open

GOLDEN = pathlib.Path(__file__).parent
OUT = GOLDEN / "gguf"
CLASSIFIER = {"classifier": "classifier.out_proj", "pooler.dense": "classifier.dense"}  # as RoBERTa's are named


def read(folder):
    with safe_open(folder / "model.safetensors", "np") as file:
        return {name.removeprefix("bert."): file.get_tensor(name) for name in file.keys()}


def add_tokenizer(writer, folder):
    described = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(described["model"]["vocab"], key=described["model"]["vocab"].get)
    special = {token["id"] for token in described["added_tokens"]}
    tokens, types = [], []
    for i, word in enumerate(words):
        control = i in special
        types.append(gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL)
        tokens.append(word if control else word[2:] if word.startswith("##") else "\u2581" + word)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for name, add in (("[UNK]", writer.add_unk_token_id), ("[SEP]", writer.add_sep_token_id), ("[PAD]", writer.add_pad_token_id)):
        add(words.index(name))
    writer.add_uint32("tokenizer.ggml.cls_token_id", words.index("[CLS]"))


def bert(name, matrices, pooling, parts=1):
    folder = GOLDEN / "families" / name
    config = json.loads((folder / "config.json").read_text())
    path = OUT / ("in-parts.gguf" if parts > 1 else f"{name}.gguf")
    writer = gguf.GGUFWriter(path, "bert", split_max_tensors=13 if parts > 1 else 0)
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    ranks = pooling == gguf.PoolingType.RANK
    if ranks:
        writer.add_array("bert.classifier.output_labels", ["LABEL_0"])
    add_tokenizer(writer, folder)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for source, values in read(folder).items():
        if source == "embeddings.position_ids" or (source.startswith("pooler.") and not ranks):
            continue
        stem, _, kind = source.rpartition(".")
        place = f"{names.get_name(CLASSIFIER.get(stem, stem))}.{kind}"
        is_table = place in ("position_embd.weight", "token_types.weight")
        type = gguf.GGMLQuantizationType.F32 if values.ndim == 1 or is_table else matrices
        writer.add_tensor(place, gguf.quants.quantize(values.astype(np.float32), type), raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    bert("bert-mean", gguf.GGMLQuantizationType.F16, gguf.PoolingType.MEAN)
    bert("bert-cls", gguf.GGMLQuantizationType.BF16, gguf.PoolingType.CLS)
    bert("bert-score", gguf.GGMLQuantizationType.F32, gguf.PoolingType.RANK)
    bert("bert-mean", gguf.GGMLQuantizationType.F16, gguf.PoolingType.MEAN, parts=3)
