// Cuts text into the words that byte-pair encoding works on, as the pattern that GGUF's
// tokenizer.ggml.pre names does. Written out by hand instead of run by a regular expression engine:
// one pass, at most two characters looked at twice, so hostile text costs no more than other text
// (docs/adr/0007 has the figures). Each family's pattern stands at its function in the .cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

enum class PatternFamily : uint8_t { kGpt2, kLlama3 };

struct PreTokenizer {
  std::string_view name;
  PatternFamily family;
  bool digits_alone;   // kGpt2: each \p{N} is cut out first, and the pattern sees what is between
  int32_t max_digits;  // kLlama3: a word has at most that many \p{N}
  bool whole_words_first;  // a word that is a token is that token, whatever the merges say
};

// The pattern of that name, or nullptr.
[[nodiscard]] const PreTokenizer* FindPreTokenizer(std::string_view name);

// Every name, for messages: "default, gpt-2, ...".
[[nodiscard]] std::string PreTokenizerNames();

// The end of the word that begins at `begin`; begin < end. [begin, end) is valid UTF-8 and, as the
// patterns look ahead, the rest of the text. The result is in (begin, end], between characters.
[[nodiscard]] const char* WordEnd(const PreTokenizer& pattern, const char* begin, const char* end);

}  // namespace sluice
