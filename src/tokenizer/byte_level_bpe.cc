#include "tokenizer/byte_level_bpe.h"

#include <fmt/format.h>

#include <optional>
#include <unordered_map>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/byte_alphabet.h"

namespace sluice {
namespace {

// Far above every published vocabulary (262,144 tokens, 514,906 merges), far below what would hurt.
constexpr size_t kMaxTokens = 1U << 22;
constexpr size_t kMaxMerges = 1U << 23;
constexpr size_t kMaxTokenBytes = 1U << 16;
constexpr size_t kMaxSpecialBytes = 256;  // bounds the work at each position of a text
constexpr size_t kMaxArenaBytes = 1U << 30;

template <typename... Args>
absl::Status Invalid(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError("tokenizer: " +
                                    fmt::format(format, std::forward<Args>(args)...));
}

// Byte-level BPE may come upon these; the rest only by name, or never.
bool IsTextToken(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined;
}

absl::Status CheckId(const char* what, TokenId id, size_t num_tokens) {
  if (id >= -1 && id < static_cast<int64_t>(num_tokens)) return absl::OkStatus();
  return Invalid("the {} token is {}; the vocabulary has {} tokens", what, id, num_tokens);
}

absl::Status CheckSizes(const TokenizerData& data) {
  const size_t num_tokens = data.tokens.size();
  if (num_tokens == 0) return Invalid("the vocabulary is empty");
  if (num_tokens > kMaxTokens) {
    return Invalid("the vocabulary has {} tokens; at most {} are allowed", num_tokens, kMaxTokens);
  }
  if (data.types.size() != num_tokens) {
    return Invalid("{} tokens have {} types", num_tokens, data.types.size());
  }
  if (!data.scores.empty() && data.scores.size() != num_tokens) {
    return Invalid("{} tokens have {} scores", num_tokens, data.scores.size());
  }
  if (data.merges.size() > kMaxMerges) {
    return Invalid("there are {} merges; at most {} are allowed", data.merges.size(), kMaxMerges);
  }
  RETURN_IF_ERROR(CheckId("bos", data.bos, num_tokens));
  RETURN_IF_ERROR(CheckId("eos", data.eos, num_tokens));
  RETURN_IF_ERROR(CheckId("unknown", data.unknown, num_tokens));
  return CheckId("padding", data.padding, num_tokens);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ByteLevelBpe::Create(const TokenizerData& data) {
  const PreTokenizer* pattern = FindPreTokenizer(data.pre_tokenizer);
  if (pattern == nullptr) {
    return absl::UnimplementedError(
        fmt::format("tokenizer: pre-tokenizer '{}' is not supported; these are: {}",
                    absl::CHexEscape(data.pre_tokenizer.substr(0, 64)), PreTokenizerNames()));
  }
  if (data.add_space_prefix) {
    return absl::UnimplementedError(
        "tokenizer: a space before the text (add_space_prefix) is not supported with byte-level "
        "BPE");
  }
  RETURN_IF_ERROR(CheckSizes(data));
  std::unique_ptr<ByteLevelBpe> bpe(new ByteLevelBpe(*pattern));
  RETURN_IF_ERROR(bpe->AddTokens(data));
  RETURN_IF_ERROR(bpe->AddMerges(data));
  bpe->AddWords(data);
  return bpe;
}

absl::Status ByteLevelBpe::AddTokens(const TokenizerData& data) {
  const ByteAlphabet alphabet;
  std::vector<std::pair<std::string, TokenId>> specials;
  byte_tokens_.fill(-1);
  bytes_begin_.push_back(0);
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    const TokenType type = data.types[id];
    if (token.size() > kMaxTokenBytes) {
      return Invalid("token {} has {} bytes; at most {} are allowed", id, token.size(),
                     kMaxTokenBytes);
    }
    // Normal tokens are written in the byte alphabet, the others as they are. A normal token that
    // is not, despite its type, stands for its own text, as in the `tokenizers` package.
    std::optional<std::string> word;
    if (IsTextToken(type)) word = alphabet.ToBytes(token);
    bytes_ += word.has_value() && type == TokenType::kNormal ? *word : token;
    if (bytes_.size() > kMaxArenaBytes) {
      return Invalid("the tokens up to {} have more than {} bytes together", id, kMaxArenaBytes);
    }
    bytes_begin_.push_back(static_cast<uint32_t>(bytes_.size()));
    if (word.has_value() && word->size() == 1) {
      byte_tokens_[static_cast<uint8_t>((*word)[0])] = static_cast<TokenId>(id);
    }
    const bool is_control = type == TokenType::kControl || type == TokenType::kUnknown;
    is_special_.push_back(is_control ? 1 : 0);
    if (!is_control && type != TokenType::kUserDefined) continue;
    if (token.empty() || token.size() > kMaxSpecialBytes) {
      return Invalid("special token {} has {} bytes; 1 to {} are allowed", id, token.size(),
                     kMaxSpecialBytes);
    }
    if (!IsValidUtf8(token)) return Invalid("special token {} is not valid UTF-8", id);
    specials.emplace_back(token, static_cast<TokenId>(id));
  }
  specials_ = SpecialMatcher(std::move(specials));
  return absl::OkStatus();
}

absl::Status ByteLevelBpe::AddMerges(const TokenizerData& data) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(data.tokens.size());
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const auto [other, is_new] = ids.emplace(data.tokens[id], static_cast<TokenId>(id));
    if (!is_new) return Invalid("tokens {} and {} are the same", other->second, id);
  }
  const auto find = [&](std::string_view token) {
    const auto found = ids.find(token);
    return found != ids.end() && IsTextToken(data.types[found->second]) ? found->second : -1;
  };
  merges_ = MergeTable(data.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string_view merge = data.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
      return Invalid("merge {} is not two tokens with a space between them", rank);
    }
    joined.assign(merge.substr(0, space)).append(merge.substr(space + 1));
    const TokenId left = find(merge.substr(0, space));
    const TokenId right = find(merge.substr(space + 1));
    const TokenId result = find(joined);
    if (left < 0 || right < 0 || result < 0) {
      return Invalid("merge {}: its {} is no text token of the vocabulary", rank,
                     left < 0    ? "left side"
                     : right < 0 ? "right side"
                                 : "result");
    }
    if (!merges_.Add(left, right, result)) return Invalid("merge {} repeats an earlier one", rank);
  }
  return absl::OkStatus();
}

void ByteLevelBpe::AddWords(const TokenizerData& data) {
  words_ = WordTable(data.tokens.size());
  std::vector<TokenId> merged;
  for (TokenId id = 0; id < vocab_size(); ++id) {
    const std::string_view word = TokenBytes(id);
    if (data.types[id] != TokenType::kNormal || word.empty()) continue;
    merged.clear();
    if (!pattern_.whole_words_first) MergeWord(word, merged);
    if (pattern_.whole_words_first || (merged.size() == 1 && merged[0] == id)) words_.Add(word, id);
  }
}

std::vector<TokenId> ByteLevelBpe::Encode(std::span<const PromptSegment> segments) const {
  std::string joined;
  std::vector<Range> special_allowed;  // ascending, not adjacent
  for (const PromptSegment& segment : segments) {
    const size_t begin = joined.size();
    joined += segment.text.Reveal();
    if (!segment.special_allowed) continue;
    if (!special_allowed.empty() && special_allowed.back().end == begin) {
      special_allowed.back().end = joined.size();
    } else {
      special_allowed.push_back({begin, joined.size()});
    }
  }
  const std::string_view text = joined;
  std::vector<TokenId> tokens;
  tokens.reserve(text.size() / 4 + 8);
  size_t done = 0;
  for (const Range& range : special_allowed) {
    for (size_t from = range.begin;;) {
      const auto match = specials_.Find(text, from, range.end);
      if (!match.has_value()) break;
      EncodeText(text.substr(done, match->begin - done), tokens);
      tokens.push_back(match->token);
      done = from = match->end;
    }
  }
  EncodeText(text.substr(done), tokens);
  return tokens;
}

// A special token is whole characters, so replacing invalid bytes between special tokens gives what
// replacing them in the whole text before would give.
void ByteLevelBpe::EncodeText(std::string_view text, std::vector<TokenId>& out) const {
  std::string replaced;
  if (!IsValidUtf8(text)) {
    replaced = ReplaceInvalidUtf8(text);
    text = replaced;
  }
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p != end;) {
    const char* word_end = WordEnd(pattern_, p, end);
    EncodeWord(std::string_view(p, static_cast<size_t>(word_end - p)), out);
    p = word_end;
  }
}

void ByteLevelBpe::EncodeWord(std::string_view word, std::vector<TokenId>& out) const {
  const TokenId token = words_.Find(word);
  if (token >= 0) {
    out.push_back(token);
  } else {
    MergeWord(word, out);
  }
}

void ByteLevelBpe::MergeWord(std::string_view word, std::vector<TokenId>& out) const {
  const size_t begin = out.size();
  for (const char c : word) {
    const TokenId token = byte_tokens_[static_cast<uint8_t>(c)];
    if (token >= 0) out.push_back(token);
  }
  out.resize(begin + merges_.Merge(std::span(out).subspan(begin)));
}

std::string_view ByteLevelBpe::TokenBytes(TokenId token) const {
  if (token < 0 || token >= vocab_size()) return "";
  const uint32_t begin = bytes_begin_[token];
  return std::string_view(bytes_).substr(begin, bytes_begin_[token + 1] - begin);
}

bool ByteLevelBpe::IsSpecial(TokenId token) const {
  return token >= 0 && token < vocab_size() && is_special_[token] != 0;
}

}  // namespace sluice
