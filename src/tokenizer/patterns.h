// The patterns by which pre-tokenizers cut, by the two ways in which files name them: GGUF's
// tokenizer.ggml.pre, and the regular expressions' text in tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/cut_step.h"

namespace sluice {

struct NamedPreTokenizer {
  std::vector<CutStep> steps;
  bool whole_words_first;  // a word that is a token is that token, whatever the merges say
  bool composes;           // text is brought to NFC first

  friend bool operator==(const NamedPreTokenizer&, const NamedPreTokenizer&) = default;
};

// What that name in a GGUF file stands for; nothing: not known.
[[nodiscard]] std::optional<NamedPreTokenizer> FindPreTokenizer(std::string_view name);

// The other way round: the best known of the names that stand for this; empty: none does.
[[nodiscard]] std::string_view NameOf(const NamedPreTokenizer& pre_tokenizer);

// Every name, for messages: "default, gpt-2, ...".
[[nodiscard]] std::string PreTokenizerNames();

// The step that cuts as this regular expression does, isolating its matches; nothing: not known.
[[nodiscard]] std::optional<CutStep> FindPattern(std::string_view regex);

}  // namespace sluice
