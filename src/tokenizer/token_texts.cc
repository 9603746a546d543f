#include "tokenizer/token_texts.h"

#include <optional>
#include <utility>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/byte_tokens.h"

namespace sluice {
namespace {

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

// The order and the odd one out ("do not") are those of BERT's own clean-up.
std::string CleanUp(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [from, to] : kRules) ReplaceAll(text, from, to);
  return text;
}

std::string TextOf(const TokenizerData& data, const DecoderRule& rule, const ByteAlphabet& alphabet,
                   size_t id) {
  const std::string& token = data.tokens[id];
  const TokenType type = data.types[id];
  if (type == TokenType::kControl || type == TokenType::kUnknown) return token;
  if (data.byte_fallback && (type == TokenType::kByte || type == TokenType::kNormal)) {
    const std::optional<uint8_t> byte = ByteOfToken(token);
    if (byte.has_value()) return std::string(1, static_cast<char>(*byte));
  }
  switch (rule.kind) {
    case DecoderRule::Kind::kPlain:
      return token;
    case DecoderRule::Kind::kByteLevel:
      // Only normal tokens are written in the alphabet. One that is not, despite its type, stands
      // for its own text, as in the `tokenizers` package.
      return type == TokenType::kNormal ? alphabet.ToBytes(token).value_or(token) : token;
    case DecoderRule::Kind::kSpaceMark: {
      std::string text = token;
      if (!rule.mark.empty()) ReplaceAll(text, rule.mark, " ");
      return text;
    }
    case DecoderRule::Kind::kWordPiece: {
      if (type != TokenType::kNormal) return token;
      const bool joins = !rule.mark.empty() && token.starts_with(rule.mark);
      std::string text = joins ? token.substr(rule.mark.size()) : ' ' + token;
      return rule.cleanup ? CleanUp(std::move(text)) : text;
    }
  }
  return token;
}

}  // namespace

TokenTexts::TokenTexts(const TokenizerData& data) : rule_(data.decoder) {
  const ByteAlphabet alphabet;
  if (data.model == "gpt2" && !data.has_stages) rule_.kind = DecoderRule::Kind::kByteLevel;
  bytes_begin_.reserve(data.tokens.size() + 1);
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const TokenType type = data.types[id];
    const bool control = type == TokenType::kControl || type == TokenType::kUnknown;
    kinds_.push_back(control                           ? Kind::kControl
                     : type == TokenType::kUserDefined ? Kind::kAdded
                                                       : Kind::kText);
    bytes_ += TextOf(data, rule_, alphabet, id);
    bytes_begin_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
}

std::string_view TokenTexts::BytesOf(TokenId token) const {
  if (token < 0 || token >= size()) return "";
  const uint32_t begin = bytes_begin_[token];
  return std::string_view(bytes_).substr(begin, bytes_begin_[token + 1] - begin);
}

bool TokenTexts::IsSpecial(TokenId token) const {
  return token >= 0 && token < size() && kinds_[token] == Kind::kControl;
}

std::string TokenTexts::Join(std::span<const TokenId> tokens, bool skip_special) const {
  std::string text;
  bool first = true;
  for (const TokenId token : tokens) {
    if (skip_special && IsSpecial(token)) continue;
    std::string_view bytes = BytesOf(token);
    const bool word_piece = rule_.kind == DecoderRule::Kind::kWordPiece;
    if (first && rule_.strip_first_marks) {
      for (const char c : bytes) {
        if (c != ' ') text.push_back(c);
      }
      bytes = "";
    } else if (first && (rule_.strip_first_space || word_piece)) {
      if (bytes.starts_with(' ')) bytes.remove_prefix(1);
    } else if (!first && word_piece && token >= 0 && token < size() &&
               kinds_[token] != Kind::kText) {
      text.push_back(' ');
    }
    text += bytes;
    first = false;
  }
  return text;
}

}  // namespace sluice
