// A byte-level vocabulary small enough to work out by hand: the 256 bytes at their own numbers,
// then what MERGES makes, then special tokens.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "sluice/model_info.h"
#include "tokenizer/byte_alphabet.h"

namespace sluice {

// `merges` are "left right" in plain printable ASCII, "_" for a space; each makes the next token.
inline TokenizerData SmallVocabulary(
    std::initializer_list<std::string> merges,
    std::initializer_list<std::pair<std::string, TokenType>> more_tokens = {}) {
  const ByteAlphabet alphabet;
  TokenizerData data;
  data.model = "gpt2";
  data.pre_tokenizer = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(alphabet.CharacterOf(static_cast<uint8_t>(byte)));
  }
  for (const std::string& merge : merges) {
    std::string in_alphabet;
    std::string token;
    for (const char c : merge) {
      const std::string character = alphabet.CharacterOf(static_cast<uint8_t>(c == '_' ? ' ' : c));
      in_alphabet += c == ' ' ? " " : character;
      if (c != ' ') token += character;
    }
    data.merges.push_back(in_alphabet);
    data.tokens.push_back(token);
  }
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  for (const auto& [token, type] : more_tokens) {
    data.tokens.push_back(token);
    data.types.push_back(type);
  }
  return data;
}

}  // namespace sluice
