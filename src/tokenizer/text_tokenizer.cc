#include "tokenizer/text_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/data_check.h"
#include "tokenizer/patterns.h"

namespace sluice {
namespace {

constexpr size_t kMaxSpecialBytes = 256;  // bounds the work at each position of a text

// White space, also as SentencePiece writes it.
bool IsBlank(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Character c = CharacterAt(text.data() + i);
    if (c.kind != CharKind::kSpace && text.substr(i, c.length) != "\u2581") return false;
    i += c.length;
  }
  return !text.empty();
}

// GGUF says by a token's type what tokenizer.json says in a list.
std::vector<AddedToken> AddedTokensOf(const TokenizerData& data) {
  if (!data.added_tokens.empty()) return data.added_tokens;
  std::vector<AddedToken> added;
  for (size_t id = 0; id < data.types.size(); ++id) {
    const TokenType type = data.types[id];
    if (type == TokenType::kControl || type == TokenType::kUnknown ||
        type == TokenType::kUserDefined) {
      added.push_back({.id = static_cast<TokenId>(id)});
    }
  }
  return added;
}

absl::StatusOr<std::unique_ptr<WordModel>> MakeModel(const TokenizerData& data,
                                                     bool whole_words_first) {
  if (data.model == "gpt2") return MakeByteLevelBpe(data, whole_words_first);
  if (data.model == "llama") return MakeCharacterBpe(data);
  if (data.model == "t5") return MakeUnigram(data);
  return MakeWordPiece(data);
}

// The longer one first, until both together are at most `max`; an odd token stays with the one that
// was longer, or else with b.
void CutLongest(size_t max, std::vector<TokenId>& a, std::vector<TokenId>& b) {
  if (a.size() + b.size() <= max) return;
  auto& shorter = a.size() > b.size() ? b : a;
  auto& longer = a.size() > b.size() ? a : b;
  shorter.resize(std::min(shorter.size(), max / 2));
  longer.resize(max - shorter.size());
}

// Appends the tokens that `matcher` finds in `part` to `tokens`, and calls between(range) for each
// stretch between them that is not empty, in the order of the text.
template <typename Range, typename Between>
void Split(const SpecialMatcher& matcher, std::string_view text, Range part,
           std::span<const Range> allowed, std::vector<TokenId>& tokens, Between&& between) {
  text = text.substr(0, part.end);
  size_t done = part.begin;
  auto range = std::ranges::upper_bound(allowed, part.begin, {}, &Range::end);
  for (size_t from = part.begin; from < text.size() && !matcher.empty();) {
    while (range != allowed.end() && range->end <= from) ++range;
    const bool none = range == allowed.end();
    const size_t begin = none ? text.size() : range->begin;
    const size_t end = none ? text.size() : std::min(range->end, text.size());
    const auto match = matcher.Find(text, from, end, begin, end);
    if (!match.has_value()) {
      from = end;
      continue;
    }
    const size_t match_begin = std::max(match->begin, done);
    if (match_begin > done) between(Range{done, match_begin});
    tokens.push_back(match->token);
    done = from = match->end;
  }
  if (done < text.size()) between(Range{done, text.size()});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TextTokenizer::Create(const TokenizerData& data) {
  RETURN_IF_ERROR(CheckTokenizerData(data));
  std::unique_ptr<TextTokenizer> tokenizer(new TextTokenizer);
  RETURN_IF_ERROR(tokenizer->AddStages(data));
  RETURN_IF_ERROR(tokenizer->AddSpecials(data));
  tokenizer->AddTemplates(data);
  tokenizer->texts_ = TokenTexts(data);
  return tokenizer;
}

absl::Status TextTokenizer::AddStages(const TokenizerData& data) {
  bool whole_words_first = data.whole_words_first;
  std::vector<NormalizerStep> steps = data.normalizer;
  if (data.model == "gpt2" && !data.has_stages) {
    if (data.add_space_prefix) {
      return absl::UnimplementedError(
          "tokenizer: a space before the text (add_space_prefix) is not supported with byte-level "
          "BPE");
    }
    std::optional<NamedPreTokenizer> named = FindPreTokenizer(data.pre_tokenizer);
    if (!named.has_value()) {
      return absl::UnimplementedError(
          fmt::format("tokenizer: pre-tokenizer '{}' is not supported; these are: {}",
                      absl::CHexEscape(data.pre_tokenizer.substr(0, 64)), PreTokenizerNames()));
    }
    pre_tokenizer_ = PreTokenizer(std::move(named->steps));
    whole_words_first = named->whole_words_first;
    if (named->composes) steps.push_back({.kind = NormalizerStep::Kind::kNfc});
  } else {
    ASSIGN_OR_RETURN(pre_tokenizer_, PreTokenizer::Create(data));
  }
  ASSIGN_OR_RETURN(normalizer_, Normalizer::Create(steps));
  ASSIGN_OR_RETURN(model_, MakeModel(data, whole_words_first));
  return absl::OkStatus();
}

absl::Status TextTokenizer::AddSpecials(const TokenizerData& data) {
  std::vector<SpecialMatcher::Special> raw;
  std::vector<SpecialMatcher::Special> mixed;
  std::vector<SpecialMatcher::Special> normalized;
  for (const AddedToken& added : AddedTokensOf(data)) {
    if (added.id < 0 || added.id >= static_cast<int64_t>(data.tokens.size())) {
      return InvalidTokenizer("an added token is {}; the vocabulary has {} tokens", added.id,
                              data.tokens.size());
    }
    const std::string& token = data.tokens[added.id];
    if (token.empty() || token.size() > kMaxSpecialBytes) {
      return InvalidTokenizer("special token {} has {} bytes; 1 to {} are allowed", added.id,
                              token.size(), kMaxSpecialBytes);
    }
    if (!IsValidUtf8(token)) {
      return InvalidTokenizer("special token {} is not valid UTF-8", added.id);
    }
    SpecialMatcher::Special special = {
        .text = token,
        .token = added.id,
        .anywhere = data.types[added.id] == TokenType::kUserDefined && IsBlank(token),
        .lstrip = added.lstrip,
        .rstrip = added.rstrip,
        .single_word = added.single_word};
    if (!added.normalized) {
      raw.push_back(std::move(special));
      continue;
    }
    mixed.push_back(special);
    special.text = normalizer_.Apply(token);
    if (!special.text.empty()) normalized.push_back(std::move(special));
  }
  mixed_specials_ = SpecialMatcher(std::move(mixed));
  specials_ = SpecialMatcher(std::move(raw));
  normalized_specials_ = SpecialMatcher(std::move(normalized));
  return absl::OkStatus();
}

void TextTokenizer::AddTemplates(const TokenizerData& data) {
  single_ = data.single;
  pair_ = data.pair;
  if (single_.empty()) {
    if (data.add_bos && data.bos >= 0) single_.push_back({.token = data.bos});
    single_.push_back({.kind = TemplatePiece::Kind::kFirst});
    if (data.add_eos && data.eos >= 0) single_.push_back({.token = data.eos});
  }
  if (!pair_.empty()) return;
  pair_ = single_;
  for (TemplatePiece piece : single_) {
    if (piece.kind == TemplatePiece::Kind::kFirst) piece.kind = TemplatePiece::Kind::kSecond;
    piece.type_id = 1;
    pair_.push_back(piece);
  }
}

std::vector<TokenId> TextTokenizer::Encode(std::span<const PromptSegment> segments) const {
  std::string joined;
  std::vector<Range> allowed;  // ascending, not adjacent
  for (const PromptSegment& segment : segments) {
    const size_t begin = joined.size();
    joined += segment.text.Reveal();
    if (!segment.special_allowed || joined.size() == begin) continue;
    if (!allowed.empty() && allowed.back().end == begin) {
      allowed.back().end = joined.size();
    } else {
      allowed.push_back({begin, joined.size()});
    }
  }
  return EncodeJoined(joined, allowed);
}

EncodedTexts TextTokenizer::EncodeTexts(const Text& first, const Text* second,
                                        size_t max_tokens) const {
  std::vector<TokenId> firsts = EncodeJoined(first.Reveal(), {}), seconds;
  if (second != nullptr) seconds = EncodeJoined(second->Reveal(), {});
  const std::vector<TemplatePiece>& pieces = second == nullptr ? single_ : pair_;
  const auto num_special = static_cast<size_t>(
      std::ranges::count(pieces, TemplatePiece::Kind::kToken, &TemplatePiece::kind));
  CutLongest(max_tokens - std::min(max_tokens, num_special), firsts, seconds);
  EncodedTexts out;
  for (const TemplatePiece& piece : pieces) {
    if (piece.kind == TemplatePiece::Kind::kToken) {
      out.tokens.push_back(piece.token);
    } else {
      const auto& tokens = piece.kind == TemplatePiece::Kind::kFirst ? firsts : seconds;
      out.tokens.insert(out.tokens.end(), tokens.begin(), tokens.end());
    }
    out.type_ids.resize(out.tokens.size(), piece.type_id);
  }
  return out;
}

std::vector<TokenId> TextTokenizer::EncodeJoined(std::string_view text, Ranges allowed) const {
  std::vector<TokenId> tokens;
  tokens.reserve(text.size() / 4 + 8);
  Split(specials_, text, {0, text.size()}, allowed, tokens,
        [&](Range part) { EncodeBetween(text, part, allowed, tokens); });
  return tokens;
}

// A special token is whole characters, so replacing invalid bytes between special tokens gives what
// replacing them in the whole text before would give.
void TextTokenizer::EncodeBetween(std::string_view text, Range part, Ranges allowed,
                                  std::vector<TokenId>& out) const {
  const auto encode = [&](Range range, bool special_allowed) {
    std::string_view between = text.substr(range.begin, range.end - range.begin);
    std::string changed;
    if (!IsValidUtf8(between)) between = changed = ReplaceInvalidUtf8(between);
    if (!normalizer_.changes_nothing()) between = changed = normalizer_.Apply(between);
    EncodeNormalized(between, range.begin == 0, special_allowed, out);
  };
  // The range that ends last of those that begin at or before the part.
  const auto after = std::ranges::upper_bound(allowed, part.begin, {}, &Range::begin);
  const size_t allowed_end = after == allowed.begin() ? 0 : (after - 1)->end;
  const bool all = allowed_end >= part.end;
  const bool none =
      allowed_end <= part.begin && (after == allowed.end() || after->begin >= part.end);
  if (all || none || mixed_specials_.empty()) {
    encode(part, all);
  } else {
    Split(mixed_specials_, text, part, allowed, out, [&](Range range) { encode(range, false); });
  }
}

void TextTokenizer::EncodeNormalized(std::string_view text, bool at_beginning, bool special_allowed,
                                     std::vector<TokenId>& out) const {
  const Range whole = {0, text.size()};
  if (normalized_specials_.empty()) {
    pre_tokenizer_.Encode(text, at_beginning, *model_, out);
    return;
  }
  Split(normalized_specials_, text, whole, special_allowed ? Ranges(&whole, 1) : Ranges(), out,
        [&](Range range) {
          pre_tokenizer_.Encode(text.substr(range.begin, range.end - range.begin),
                                at_beginning && range.begin == 0, *model_, out);
        });
}

}  // namespace sluice
