"""Prompt and output text has a type that converts to nothing; only these files may look inside."""

import pathlib
import re

from layers_test import ROOT, sources

# The few files that may look at prompt or output text, each because its job is that text.
MAY_REVEAL = (
    "include/sluice/types.h",
    "src/tokenizer/text_tokenizer.cc",
    "src/engine/output.",
    "src/service/local_service.cc",
    "src/http/choice_buffer.cc",
    "src/http/embed_response.cc",
    "src/http/openai_response.cc",
    "src/rpc/codec.",
    "src/rpc/kserve_codec.",
    "src/apps/chat.cc",
)


def test_text_is_revealed_only_where_text_is_the_job():
    for path in sources():
        relative = str(path.relative_to(ROOT))
        if re.search(r"\bReveal\(\)", path.read_text()):
            assert relative.startswith(MAY_REVEAL), f"{relative} reveals text"


def test_the_list_has_no_entry_that_is_not_needed():
    revealing = [str(p.relative_to(ROOT)) for p in sources() if re.search(r"\bReveal\(\)", p.read_text())]
    for entry in MAY_REVEAL:
        assert any(path.startswith(entry) for path in revealing), entry


def test_text_has_no_conversion_and_no_formatter():
    types = pathlib.Path(ROOT / "include/sluice/types.h").read_text()
    text = types[types.index("class Text {") : types.index("struct ChatMessage")]
    assert "operator std::" not in text and "operator<<" not in text
    for path in sources():
        assert not re.search(r"formatter<\s*(sluice::)?Text\b", path.read_text()), path
