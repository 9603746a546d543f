"""Writes docs/models.md: what is served, and the error that the tests measure against other implementations.

Run after ./dev build, with the models of ./dev test fetched: python3 tests/golden/make_models_doc.py
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "sluice"


def run(test: str, filter_: str) -> tuple[ET.Element, str]:
    """A test binary's results: its JUnit tree and what it printed."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as out:
        environment = os.environ | {"SLUICE_SOURCE_DIR": str(ROOT)}
        command = [ROOT / "build/release/tests" / test, f"--gtest_filter={filter_}", f"--gtest_output=xml:{out.name}"]
        printed = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
        return ET.parse(out.name).getroot(), printed


def family_errors() -> dict[str, dict[str, float]]:
    """{"gemma2": {"OverTextbook…": 1e-6, "OverTheCpu…": 4e-4}}, relative to the logits' deviation."""
    errors: dict[str, dict[str, float]] = {}
    for case in run("test_model", "*Families*")[0].iter("testcase"):
        test, _, family = case.get("name", "").partition("/")
        for value in case.iter("property"):
            if value.get("name") == "relative_error":
                errors.setdefault(family, {})[test] = float(value.get("value", "nan"))
    return errors


def features(config: dict) -> str:
    names = {
        "sliding_window": "window", "attn_logit_softcapping": "attention cap", "final_logit_softcapping": "final cap",
        "num_local_experts": "experts", "num_experts": "experts", "shared_expert_intermediate_size": "shared expert",
        "query_pre_attn_scalar": "attention scale", "partial_rotary_factor": "partial rotation",
    }  # fmt: skip
    found = {text for key, text in names.items() if config.get(key)}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kinds = [rope] + [r for r in rope.values() if isinstance(r, dict)]
    found |= {f"rope {r['rope_type']}" for r in kinds if r.get("rope_type", "default") != "default"}
    if len([r for r in rope.values() if isinstance(r, dict)]) > 1:
        found.add("two rope bases")
    if config.get("tie_word_embeddings"):
        found.add("tied head")
    return ", ".join(sorted(found))


def families() -> str:
    out = "| golden | class | what it exercises | textbook ops | CPU kernels |\n|---|---|---|---|---|\n"
    for name, errors in family_errors().items():
        config = json.loads((GOLDEN / "families" / name / "config.json").read_text())
        textbook = next(v for k, v in errors.items() if "Textbook" in k)
        kernels = next(v for k, v in errors.items() if "CpuBackend" in k)
        out += f"| `{name}` | {config['architectures'][0]} | {features(config)} | {textbook:.0e} | {kernels:.1e} |\n"
    return out


def quantised_folders() -> str:
    found: dict[str, dict[str, str]] = {}
    for case in run("test_model", "*QuantisedFolders*")[0].iter("testcase"):
        test, _, name = case.get("name", "").partition("/")
        for value in case.iter("property"):
            key = "kernels" if "CpuBackend" in test else value.get("name", "")
            found.setdefault(name, {})[key] = value.get("value", "")
    out = "| golden | class | quantised as | becomes | textbook ops | CPU kernels |\n|---|---|---|---|---|---|\n"
    for name, values in found.items():
        config = json.loads((GOLDEN / "quantised" / name / "config.json").read_text())
        order = ", act-order" if "actorder" in name else ""
        out += (
            f"| `{name}` | {config['architectures'][0]} | {values['summary']}{order} | {values['becomes']} "
            f"| {float(values['relative_error']):.0e} | {float(values['kernels']):.1e} |\n"
        )
    return out


def real_models() -> str:
    printed = run("test_golden", "*TeacherForced*:Greedy*")[1]
    blocks = re.findall(r"TeacherForced\.\S+/(\w+)\n.*?all: mean KL >= (\S+), top-1 agreement (\S+) %", printed, re.S)
    kinds = {
        "SmolLM2": ("SmolLM2-135M-Instruct", "GGUF", "Q4_1", "byte-level BPE", "ChatML"),
        "Gemma3": ("Gemma3-270M", "GGUF", "Q4_K, Q5_0, Q6_K, Q8_0", "character BPE", "none in the file"),
    }
    out = "| model | format | types | tokenizer | template | golden | measured |\n|---|---|---|---|---|---|---|\n"
    for name, kl, top1 in blocks:
        row = " | ".join(kinds[name])
        out += f"| {row} | teacher-forced against `transformers`, float32 | KL ≥ {kl} (top 16 tokens and the rest), top-1 {top1} % |\n"
    out += "| all-MiniLM-L6-v2 | folder | F32 | WordPiece | — | `tests/e2e/test_embeddings.py` against `transformers` | every cosine of 20 texts > 0.999999, asserted |\n"
    return out


def names(folder: str, suffix: str) -> list[str]:
    return sorted(p.name.removesuffix(suffix) for p in (GOLDEN / folder).glob(f"*{suffix}"))


def main() -> None:
    tokenizers, templates = names("tokenizers", ".ids"), names("templates", ".jinja")
    text = f"""# Models

Generated by `tests/golden/make_models_doc.py` from the results of the tests named here.

## Real models

{real_models()}
## Families

Tiny random bf16 models as Hugging Face folders, written by `tests/golden/make_families.py`, against `transformers` in float32
(`tests/model/families_test.cc`). The error is the largest of all logits over their root mean square: once over textbook operations, which checks the
order of operations, once over the CPU kernels, which keep keys and values as 16-bit floats (and are within 2^-11 of textbook operations that do the same).

{families()}
Architectures in GGUF files: `llama` (also Mistral and Mixtral), `qwen2`, `qwen2moe`, `qwen3`, `qwen3moe`, `gemma`, `gemma2`, `gemma3`, `phi3`. Encoders: BERT, as folders and as GGUF files
(`bert`: mean, cls, last, rank); other encoders are refused by name;
`bert-mean`, `bert-cls` and the cross-encoder `bert-score` are their goldens. Another architecture is refused by name.
Folders of `Gemma3ForConditionalGeneration` are served as their text part, images are not.

## Types

F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL: blocks equal to the `gguf` package's (`tests/kernels/quants_golden_test.cc`), products within a
bound of a double-precision loop, equal bits in every form (`tests/kernels/linear_test.cc`). `--quantize q8_0|q4_0|q4_1` rounds float weights at load, byte for byte as the `gguf`
package does.

## Quantised folders

Hugging Face folders with `quantization_config`: `fp8` (e4m3; blocks, rows or tensors), `compressed-tensors` (`float-quantized`, `int-quantized`, `naive-quantized`,
`pack-quantized` with 4 or 8 bits, mixtures), `awq` (gemm, 4 bits), `gptq` (4 or 8 bits, formats 1 and 2, act-order). A matrix keeps its codes where a block of 32 has one scale,
else its numbers are rounded as `src/model/hf_quantised_matrix.h` says; formats of activations and of the KV cache are not used. Experts too; embeddings not. Another method is
refused by name.

Tiny folders written by `tests/golden/make_quantised_folders.py` with the formats' own packages, against `transformers` in float32 on what those packages dequantise
(`tests/model/quantised_folders_test.cc`); errors as above. The CPU kernels round activations to 8 bits for Q types.

{quantised_folders()}
## Tokenizers

Id for id equal to the `tokenizers` package on 21,673 strings each ({len(tokenizers)} kinds): {", ".join(f"`{n}`" for n in tokenizers)};
and the real vocabularies of SmolLM2 (5,673 strings), Gemma3-270M and MiniLM.

## Chat templates

{len(templates)} shapes, each rendered over 18 conversations as `jinja2` renders them: {", ".join(f"`{n}`" for n in templates)}.

## Not served yet

bitsandbytes and other methods of quantised folders; GPTQ of 2 and 3 bits; the GGUF pre-tokenizers `chameleon`, and `gemma4`,
`granite-embed-multi-311m`, `sarvam-moe` and `whitespace`, whose BPE is not byte-level, which are refused by name; experts chosen by sigmoid.
"""
    (ROOT / "docs/models.md").write_text(text)


if __name__ == "__main__":
    main()
