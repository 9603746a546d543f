#include "model/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

using NormalizerKind = NormalizerStep::Kind;
using PreKind = PreTokenizerStep::Kind;

constexpr std::string_view kSpaceMark = "\u2581";  // SentencePiece's way to write a space
constexpr uint64_t kMaxCharsMapBytes = 1 << 24;    // published ones have about 240 KB

absl::Status ReadTokenTypes(const GgufFile& file, TokenizerData& data) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  if (file.Find(kKey) == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<int64_t> types, file.GetInts(kKey, data.tokens.size()));
  if (types.size() != data.tokens.size()) {
    return file.KeyError(
        kKey, fmt::format("has {} elements for {} tokens", types.size(), data.tokens.size()));
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 1 || types[i] > 6) {
      return file.KeyError(
          kKey, fmt::format("has {} at element {}; token types are 1 to 6", types[i], i));
    }
    data.types[i] =
        static_cast<TokenType>(types[i] - 1);  // GGUF counts from 1 in TokenType's order
  }
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const GgufFile& file, int32_t vocab_size, TokenizerData& data) {
  constexpr std::string_view kKey = "tokenizer.ggml.tokens";
  ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, file.GetStrings(kKey, kMaxVocab));
  if (tokens.size() != static_cast<size_t>(vocab_size)) {
    return file.KeyError(kKey, fmt::format("has {} tokens; 'token_embd.weight' has {} rows",
                                           tokens.size(), vocab_size));
  }
  data.tokens.assign(tokens.begin(), tokens.end());
  RETURN_IF_ERROR(ReadTokenTypes(file, data));
  if (file.Find("tokenizer.ggml.scores") != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<float> scores,
                     file.GetFloats("tokenizer.ggml.scores", data.tokens.size()));
    if (scores.size() != data.tokens.size()) {
      return file.KeyError("tokenizer.ggml.scores", fmt::format("has {} elements for {} tokens",
                                                                scores.size(), data.tokens.size()));
    }
    data.scores.assign(scores.begin(), scores.end());
  }
  if (file.Find("tokenizer.ggml.merges") != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> merges,
                     file.GetStrings("tokenizer.ggml.merges", kMaxMerges));
    data.merges.assign(merges.begin(), merges.end());
  }
  return absl::OkStatus();
}

// What a missing key means differs by model.
struct Defaults {
  bool add_bos, add_eos, add_space_prefix;
};

absl::Status ReadFlags(const GgufFile& file, const Defaults& defaults, TokenizerData& data) {
  ASSIGN_OR_RETURN(data.add_bos, file.GetBoolOr("tokenizer.ggml.add_bos_token", defaults.add_bos));
  ASSIGN_OR_RETURN(data.add_eos, file.GetBoolOr("tokenizer.ggml.add_eos_token", defaults.add_eos));
  ASSIGN_OR_RETURN(data.add_space_prefix,
                   file.GetBoolOr("tokenizer.ggml.add_space_prefix", defaults.add_space_prefix));
  return absl::OkStatus();
}

// Of these families' files many leave out the flag for bos and mean that it is set.
bool BeginsTexts(std::string_view pre_tokenizer) {
  constexpr std::string_view kNames[] = {"llama3",  "llama-v3",    "llama-bpe", "tekken",
                                         "falcon3", "falcon-h1",   "pixtral",   "midm-2.0",
                                         "lfm2",    "jina-v5-nano"};
  return std::ranges::find(kNames, pre_tokenizer) != std::end(kNames);
}

void FindUnknown(TokenizerData& data) {
  if (data.unknown >= 0) return;
  const auto found = std::ranges::find(data.types, TokenType::kUnknown);
  if (found != data.types.end()) data.unknown = static_cast<TokenId>(found - data.types.begin());
}

bool HasByteTokens(const TokenizerData& data) {
  return std::ranges::find(data.types, TokenType::kByte) != data.types.end();
}

// SentencePiece's BPE: spaces become marks, one more stands before the text.
absl::Status DescribeCharacterBpe(const GgufFile& file, TokenizerData& data) {
  RETURN_IF_ERROR(ReadFlags(file, {true, false, true}, data));
  FindUnknown(data);
  if (data.add_space_prefix) {
    data.normalizer.push_back(
        {.kind = NormalizerKind::kPrepend, .content = std::string(kSpaceMark)});
  }
  data.normalizer.push_back(
      {.kind = NormalizerKind::kReplace, .pattern = " ", .content = std::string(kSpaceMark)});
  data.byte_fallback = HasByteTokens(data);
  data.fuse_unknown = true;
  if (!data.scores.empty()) data.merges.clear();  // the scores say more
  data.decoder = {.kind = DecoderRule::Kind::kSpaceMark,
                  .mark = std::string(kSpaceMark),
                  .strip_first_space = data.add_space_prefix};
  return absl::OkStatus();
}

absl::Status DescribeUnigram(const GgufFile& file, TokenizerData& data) {
  constexpr std::string_view kMapKey = "tokenizer.ggml.precompiled_charsmap";
  RETURN_IF_ERROR(ReadFlags(file, {false, true, true}, data));
  FindUnknown(data);
  if (file.Find(kMapKey) != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> bytes, file.GetInts(kMapKey, kMaxCharsMapBytes));
    NormalizerStep step = {.kind = NormalizerKind::kCharsMap};
    for (const int64_t byte : bytes) step.content.push_back(static_cast<char>(byte));
    if (!step.content.empty()) data.normalizer.push_back(std::move(step));
  }
  ASSIGN_OR_RETURN(const bool collapse,
                   file.GetBoolOr("tokenizer.ggml.remove_extra_whitespaces", true));
  if (collapse) {
    data.normalizer.push_back({.kind = NormalizerKind::kStrip});
    data.normalizer.push_back({.kind = NormalizerKind::kCollapse, .content = " "});
  }
  data.pre_tokenizer_steps.push_back({.kind = PreKind::kMetaspace,
                                      .pattern = std::string(kSpaceMark),
                                      .prepend = data.add_space_prefix
                                                     ? PreTokenizerStep::Prepend::kAlways
                                                     : PreTokenizerStep::Prepend::kNever});
  data.byte_fallback = HasByteTokens(data);
  data.decoder = {.kind = DecoderRule::Kind::kSpaceMark,
                  .mark = std::string(kSpaceMark),
                  .strip_first_marks = data.add_space_prefix};
  return absl::OkStatus();
}

// The file marks the tokens that begin a word, where the model's own vocabulary marks the others.
void RestoreContinuations(TokenizerData& data) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != TokenType::kNormal) continue;
    std::string& token = data.tokens[id];
    if (token.starts_with(kSpaceMark)) {
      token.erase(0, kSpaceMark.size());
    } else if (!token.starts_with('[') || !token.ends_with(']')) {
      token.insert(0, data.continuation);
    }
  }
}

// GGUF does not say whether case counts: it does in a vocabulary with upper-case letters.
bool HasUpperCase(const TokenizerData& data) {
  const auto is_upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    if (data.types[id] == TokenType::kNormal && !token.starts_with('[') &&
        std::ranges::any_of(token, is_upper)) {
      return true;
    }
  }
  return false;
}

void DescribeTexts(TokenId before, TokenId after, TokenizerData& data) {
  using Kind = TemplatePiece::Kind;
  if (before >= 0) data.single.push_back({.token = before});
  data.single.push_back({.kind = Kind::kFirst});
  if (after >= 0) data.single.push_back({.token = after});
  data.pair = data.single;
  data.pair.push_back({.kind = Kind::kSecond, .type_id = 1});
  if (after >= 0) data.pair.push_back({.token = after, .type_id = 1});
}

absl::Status DescribeWordPiece(const GgufFile& file, int32_t vocab_size, TokenizerData& data) {
  RETURN_IF_ERROR(ReadFlags(file, {true, true, false}, data));
  RestoreContinuations(data);
  if (data.unknown < 0) {
    const auto found = std::ranges::find(data.tokens, "[UNK]");
    if (found != data.tokens.end()) {
      data.unknown = static_cast<TokenId>(found - data.tokens.begin());
    }
  }
  const bool cased = HasUpperCase(data);
  data.normalizer.push_back(
      {.kind = NormalizerKind::kBert, .strip_accents = !cased, .lowercase = !cased});
  data.pre_tokenizer_steps.push_back({.kind = PreKind::kBert});
  ASSIGN_OR_RETURN(TokenId before,
                   ReadGgufTokenId(file, "tokenizer.ggml.cls_token_id", vocab_size));
  // The key's name is misspelt in every file.
  ASSIGN_OR_RETURN(TokenId after,
                   ReadGgufTokenId(file, "tokenizer.ggml.seperator_token_id", vocab_size));
  if (before < 0) before = data.bos;
  if (after < 0) after = data.eos;
  DescribeTexts(before, after, data);
  data.decoder = {
      .kind = DecoderRule::Kind::kWordPiece, .mark = data.continuation, .cleanup = true};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenId> ReadGgufTokenId(const GgufFile& file, std::string_view key,
                                        int32_t vocab_size) {
  ASSIGN_OR_RETURN(const int64_t id, file.GetIntOr(key, 0, vocab_size - 1, -1));
  return static_cast<TokenId>(id);
}

absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufFile& file, int32_t vocab_size) {
  TokenizerData data;
  ASSIGN_OR_RETURN(data.model, file.GetString("tokenizer.ggml.model"));
  ASSIGN_OR_RETURN(data.pre_tokenizer, file.GetStringOr("tokenizer.ggml.pre", "default"));
  RETURN_IF_ERROR(ReadVocabulary(file, vocab_size, data));
  const auto read_id = [&](std::string_view key, TokenId& id) -> absl::Status {
    ASSIGN_OR_RETURN(id, ReadGgufTokenId(file, key, vocab_size));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read_id("tokenizer.ggml.bos_token_id", data.bos));
  RETURN_IF_ERROR(read_id("tokenizer.ggml.eos_token_id", data.eos));
  RETURN_IF_ERROR(read_id("tokenizer.ggml.unknown_token_id", data.unknown));
  RETURN_IF_ERROR(read_id("tokenizer.ggml.padding_token_id", data.padding));
  data.has_stages = data.model != "gpt2";
  if (data.model == "llama") {
    RETURN_IF_ERROR(DescribeCharacterBpe(file, data));
  } else if (data.model == "t5") {
    RETURN_IF_ERROR(DescribeUnigram(file, data));
  } else if (data.model == "bert") {
    RETURN_IF_ERROR(DescribeWordPiece(file, vocab_size, data));
  } else {
    RETURN_IF_ERROR(ReadFlags(file, {BeginsTexts(data.pre_tokenizer), false, false}, data));
  }
  return data;
}

}  // namespace sluice
