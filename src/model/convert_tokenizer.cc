#include "model/convert_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/status_macros.h"
#include "model/gguf_tokenizer.h"

namespace sluice {
namespace {

using NormalizerKind = NormalizerStep::Kind;
using PreKind = PreTokenizerStep::Kind;

constexpr std::string_view kSpaceMark = "\u2581";

absl::Status Refuse(const std::string& source, std::string_view why) {
  return absl::UnimplementedError(fmt::format("{}: {}; the file was not made", source, why));
}

// GGUF's tokenizers of characters merge by the score of what comes out; merges in their order give
// such scores.
std::vector<float> ScoresOf(const TokenizerData& t) {
  std::vector<float> scores(t.scores.begin(), t.scores.end());
  if (!scores.empty() || t.model != "llama") return scores;
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < t.tokens.size(); ++i) ids.emplace(t.tokens[i], i);
  const auto worst = -static_cast<float>(t.merges.size() + 1);
  scores.assign(t.tokens.size(), worst);
  for (size_t rank = 0; rank < t.merges.size(); ++rank) {
    std::string merged = t.merges[rank];
    merged.erase(merged.find(' '), 1);
    const auto id = ids.find(merged);
    if (id == ids.end() || scores[id->second] != worst) continue;
    scores[id->second] = -static_cast<float>(rank + 1);
  }
  return scores;
}

bool HasToken(const std::vector<TemplatePiece>& pieces, TokenId token) {
  return token >= 0 && std::ranges::any_of(pieces, [&](const TemplatePiece& piece) {
           return piece.kind == TemplatePiece::Kind::kToken && piece.token == token;
         });
}

// The special tokens before and after a single text; -1: none.
std::pair<TokenId, TokenId> AroundText(const TokenizerData& t) {
  const auto token = [](const TemplatePiece& piece) {
    return piece.kind == TemplatePiece::Kind::kToken ? piece.token : -1;
  };
  if (t.single.empty()) return {t.add_bos ? t.bos : -1, t.add_eos ? t.eos : -1};
  return {token(t.single.front()), token(t.single.back())};
}

void WriteTokenIds(const ModelInfo& info, GgufWriter& w) {
  const TokenizerData& t = info.tokenizer;
  const auto id = [&](std::string_view key, TokenId value) {
    if (value >= 0) w.Set(key, static_cast<uint32_t>(value));
  };
  id("tokenizer.ggml.bos_token_id", t.bos);
  id("tokenizer.ggml.eos_token_id", t.eos);
  id("tokenizer.ggml.unknown_token_id", t.unknown);
  id("tokenizer.ggml.padding_token_id", t.padding);
  if (t.model == "bert") {
    const auto [before, after] = AroundText(t);
    id("tokenizer.ggml.cls_token_id", before);
    id("tokenizer.ggml.seperator_token_id", after);  // misspelt in every file
  }
  // GGUF has three keys for tokens that end an answer.
  std::vector<TokenId> others;
  std::ranges::copy_if(info.eos_ids, std::back_inserter(others),
                       [&](TokenId end) { return end != t.eos; });
  if (!others.empty()) id("tokenizer.ggml.eot_token_id", others[0]);
  if (others.size() > 1) id("tokenizer.ggml.eom_token_id", others[1]);
  w.Set("tokenizer.ggml.add_bos_token", t.add_bos || HasToken(t.single, t.bos));
  w.Set("tokenizer.ggml.add_eos_token", t.add_eos || HasToken(t.single, t.eos));
}

// What a tokenizer of characters puts before a text: GGUF says it with one flag.
bool PutsSpaceFirst(const TokenizerData& t) {
  const bool prepends = std::ranges::any_of(t.normalizer, [](const NormalizerStep& step) {
    return step.kind == NormalizerKind::kPrepend && step.content == kSpaceMark;
  });
  const bool marks = std::ranges::any_of(t.pre_tokenizer_steps, [](const PreTokenizerStep& step) {
    return step.kind == PreKind::kMetaspace && step.prepend != PreTokenizerStep::Prepend::kNever;
  });
  return prepends || marks || t.add_space_prefix;
}

void WriteUnigramStages(const TokenizerData& t, GgufWriter& w) {
  bool collapses = false;
  for (const NormalizerStep& step : t.normalizer) {
    collapses |= step.kind == NormalizerKind::kCollapse;
    if (step.kind == NormalizerKind::kCharsMap) {
      const std::span bytes(reinterpret_cast<const uint8_t*>(step.content.data()),
                            step.content.size());
      w.Set("tokenizer.ggml.precompiled_charsmap", bytes);
    }
  }
  w.Set("tokenizer.ggml.remove_extra_whitespaces", collapses);
}

// Marks the words' first tokens instead of the others, as GGUF wants it.
std::vector<std::string> MarkedTokens(const TokenizerData& t) {
  std::vector<std::string> tokens = t.tokens;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (t.types[id] != TokenType::kNormal) continue;
    const bool continues =
        tokens[id].starts_with(t.continuation) && tokens[id].size() > t.continuation.size();
    if (continues) {
      tokens[id].erase(0, t.continuation.size());
    } else {
      tokens[id].insert(0, kSpaceMark);
    }
  }
  return tokens;
}

bool SameNormalizer(const std::vector<NormalizerStep>& a, const std::vector<NormalizerStep>& b) {
  return std::ranges::equal(a, b, [](const NormalizerStep& x, const NormalizerStep& y) {
    const auto all = [](const NormalizerStep& s) {
      return std::tie(s.kind, s.pattern, s.content, s.strip_left, s.strip_right, s.clean_text,
                      s.space_chinese, s.strip_accents, s.lowercase);
    };
    return all(x) == all(y);
  });
}

bool SameSteps(const std::vector<PreTokenizerStep>& a, const std::vector<PreTokenizerStep>& b) {
  return std::ranges::equal(a, b, [](const PreTokenizerStep& x, const PreTokenizerStep& y) {
    return x.kind == y.kind && x.pattern == y.pattern;
  });
}

bool SameTemplate(const std::vector<TemplatePiece>& a, const std::vector<TemplatePiece>& b) {
  return std::ranges::equal(a, b, [](const TemplatePiece& x, const TemplatePiece& y) {
    return x.kind == y.kind && x.token == y.token && x.type_id == y.type_id;
  });
}

// A tokenizer of characters: spaces become marks, in the normaliser or by Metaspace. What a file
// splits off at a mark no token reaches across anyway.
bool MarksSpacesOnly(const TokenizerData& t) {
  const auto is_mark = [](std::string_view text) { return text == kSpaceMark; };
  const bool normalizer = std::ranges::all_of(t.normalizer, [&](const NormalizerStep& step) {
    return (step.kind == NormalizerKind::kPrepend && is_mark(step.content)) ||
           (step.kind == NormalizerKind::kReplace && step.pattern == " " && is_mark(step.content));
  });
  return normalizer && std::ranges::all_of(t.pre_tokenizer_steps, [&](const PreTokenizerStep& s) {
           return (s.kind == PreKind::kMetaspace && is_mark(s.pattern) && !s.split) ||
                  (s.kind == PreKind::kString && s.pattern == " ");
         });
}

absl::Status CheckStages(const std::string& source, const TokenizerData& t,
                         const TokenizerData& read) {
  if (t.model == "llama") {
    if (MarksSpacesOnly(t)) return absl::OkStatus();
    return Refuse(source, "GGUF has no words for what this tokenizer does to text before its BPE");
  }
  if (!SameNormalizer(t.normalizer, read.normalizer)) {
    return Refuse(source, t.model == "bert"
                              ? "GGUF does not say whether case and accents count: a reader would "
                                "guess otherwise from this vocabulary"
                              : "GGUF has no words for the way this tokenizer normalises text");
  }
  if (!SameSteps(t.pre_tokenizer_steps, read.pre_tokenizer_steps)) {
    return Refuse(source, "GGUF has no words for the way this tokenizer cuts words");
  }
  if (t.model != "bert") return absl::OkStatus();
  if (t.continuation != read.continuation || t.max_word_characters != read.max_word_characters) {
    return Refuse(source, "GGUF has no words for this WordPiece's mark or its longest word");
  }
  const bool same = SameTemplate(t.single, read.single) && SameTemplate(t.pair, read.pair);
  return same
             ? absl::OkStatus()
             : Refuse(source, "GGUF has no words for the special tokens around this model's texts");
}

}  // namespace

absl::Status WriteGgufTokenizer(const std::string& source, const ModelInfo& info,
                                const PreTokenizerNamer& name_of, GgufWriter& w) {
  const TokenizerData& t = info.tokenizer;
  if (!t.merge_pairs.empty()) {
    return Refuse(source, "GGUF cannot hold merges of tokens that have spaces");
  }
  w.Set("tokenizer.ggml.model", std::string_view(t.model));
  std::string pre = "default";
  if (t.model == "gpt2") pre = t.has_stages ? name_of(t) : t.pre_tokenizer;
  if (pre.empty()) {
    return Refuse(source, "GGUF has no name for the way this tokenizer cuts words");
  }
  w.Set("tokenizer.ggml.pre", std::string_view(pre));
  const std::vector<std::string> tokens = t.model == "bert" ? MarkedTokens(t) : t.tokens;
  w.Set("tokenizer.ggml.tokens", std::span<const std::string>(tokens));
  std::vector<int32_t> types;
  types.reserve(t.types.size());
  for (const TokenType type : t.types) types.push_back(static_cast<int32_t>(type) + 1);
  w.Set("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  const std::vector<float> scores = ScoresOf(t);
  if (!scores.empty()) w.Set("tokenizer.ggml.scores", std::span<const float>(scores));
  if (!t.merges.empty()) w.Set("tokenizer.ggml.merges", std::span<const std::string>(t.merges));
  WriteTokenIds(info, w);
  if (t.model != "bert") w.Set("tokenizer.ggml.add_space_prefix", PutsSpaceFirst(t));
  if (t.model == "t5") WriteUnigramStages(t, w);
  if (!info.chat_template.empty()) {
    w.Set("tokenizer.chat_template", std::string_view(info.chat_template));
  }
  return absl::OkStatus();
}

absl::Status CheckSameTokenizer(const std::string& source, const TokenizerData& t,
                                const GgufFile& file) {
  ASSIGN_OR_RETURN(const TokenizerData read,
                   ReadGgufTokenizer(file, static_cast<int32_t>(t.tokens.size())));
  const auto other = std::ranges::mismatch(t.tokens, read.tokens).in1;
  if (other != t.tokens.end()) {
    return Refuse(source,
                  fmt::format("GGUF cannot hold token {} as it is", other - t.tokens.begin()));
  }
  if (t.types != read.types || (t.unknown >= 0 && t.unknown != read.unknown)) {
    return Refuse(source, "GGUF cannot hold the kinds of this tokenizer's tokens");
  }
  if (!t.has_stages || t.model == "gpt2") return absl::OkStatus();  // the name says it all
  return CheckStages(source, t, read);
}

}  // namespace sluice
