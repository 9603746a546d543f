#include "tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "tokenizer/patterns.h"

namespace sluice {
namespace {

using Kind = PreTokenizerStep::Kind;

absl::Status Unsupported(std::string_view what) {
  return absl::UnimplementedError(fmt::format("tokenizer: {} is not supported", what));
}

bool Tiles(CutKind kind) {
  return kind == CutKind::kGpt2 || kind == CutKind::kLlama3 || kind == CutKind::kO200k ||
         kind == CutKind::kPhrases || kind == CutKind::kLines;
}

absl::StatusOr<CutStep> RegexStep(const PreTokenizerStep& step) {
  const std::optional<CutStep> cut = FindPattern(step.pattern);
  const std::string quoted = absl::CHexEscape(step.pattern.substr(0, 200));
  if (!cut.has_value()) {
    return Unsupported(fmt::format("the pre-tokenizer's expression '{}'", quoted));
  }
  if (step.removes_gaps && !Tiles(cut->kind)) {
    return Unsupported(fmt::format("removing what the expression '{}' does not match", quoted));
  }
  return *cut;
}

// Steps after ByteLevel see the byte alphabet instead of characters.
absl::StatusOr<CutStep> AfterByteLevel(const PreTokenizerStep& step) {
  if (step.kind == Kind::kDigits && !step.single) return CutStep{.kind = CutKind::kBytesOfDigits};
  if (step.kind == Kind::kRegex && step.pattern == "[0-9][0-9][0-9]") {
    return CutStep{.kind = CutKind::kAsciiDigitTriple};
  }
  return Unsupported("this pre-tokenizer step after ByteLevel");
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const TokenizerData& data) {
  const bool spaces_replaced = std::ranges::any_of(data.normalizer, [](const NormalizerStep& s) {
    return s.kind == NormalizerStep::Kind::kReplace && s.pattern == " ";
  });
  PreTokenizer out;
  for (size_t i = 0; i < data.pre_tokenizer_steps.size(); ++i) {
    RETURN_IF_ERROR(out.Add(data.pre_tokenizer_steps, i, spaces_replaced));
  }
  // A scanner for both is twice as fast as one after the other.
  if (out.steps_.size() == 2 && out.steps_[0].kind == CutKind::kDigits &&
      out.steps_[0].max_digits == 1 && out.steps_[1].kind == CutKind::kGpt2) {
    out.steps_ = {{.kind = CutKind::kGpt2, .digits_alone = true}};
  }
  return out;
}

absl::Status PreTokenizer::Add(const Steps& steps, size_t i, bool spaces_replaced) {
  const PreTokenizerStep& step = steps[i];
  if (metaspace_.has_value()) return Unsupported("a pre-tokenizer step after Metaspace");
  const bool after_bytes = std::any_of(steps.begin(), steps.begin() + static_cast<int64_t>(i),
                                       [](const auto& s) { return s.kind == Kind::kByteLevel; });
  if (after_bytes) {
    ASSIGN_OR_RETURN(const CutStep cut, AfterByteLevel(step));
    steps_.push_back(cut);
    return absl::OkStatus();
  }
  switch (step.kind) {
    case Kind::kRegex: {
      ASSIGN_OR_RETURN(const CutStep cut, RegexStep(step));
      steps_.push_back(cut);
      break;
    }
    case Kind::kString:
      if (step.pattern == " " && spaces_replaced) break;  // none are left
      return Unsupported(fmt::format("splitting at '{}'", absl::CHexEscape(step.pattern)));
    case Kind::kByteLevel:
      if (step.prefix_space && i != 0) return Unsupported("ByteLevel's prefix space after a step");
      prefix_space_ = step.prefix_space;
      if (step.use_regex) steps_.push_back({.kind = CutKind::kGpt2});
      break;
    case Kind::kDigits:
      steps_.push_back({.kind = CutKind::kDigits, .max_digits = step.single ? 1 : 0});
      break;
    case Kind::kMetaspace:
      if (step.pattern.empty()) return Unsupported("a Metaspace without a mark");
      metaspace_ = step;
      break;
    case Kind::kBert:
      steps_.push_back({.kind = CutKind::kBertWords});
      break;
    case Kind::kWhitespace:
      steps_.push_back({.kind = CutKind::kWordOrSymbols});
      break;
    case Kind::kWhitespaceSplit:
      steps_.push_back({.kind = CutKind::kSpaceSplit});
      break;
    case Kind::kPunctuation:
      steps_.push_back(
          {.kind = step.single ? CutKind::kPunctuationEach : CutKind::kPunctuationRun});
      break;
  }
  return absl::OkStatus();
}

void PreTokenizer::Encode(std::string_view text, bool at_beginning, const WordModel& model,
                          std::vector<TokenId>& out) const {
  if (text.empty()) return;
  if (prefix_space_ && text[0] != ' ') {
    Cut(0, ' ' + std::string(text), at_beginning, model, out);
  } else {
    Cut(0, text, at_beginning, model, out);
  }
}

void PreTokenizer::Cut(size_t step, std::string_view text, bool at_beginning,
                       const WordModel& model, std::vector<TokenId>& out) const {
  if (step == steps_.size()) {
    if (metaspace_.has_value()) {
      EncodeMarked(text, at_beginning, model, out);
    } else {
      model.Encode(text, out);
    }
    return;
  }
  const char* const end = text.data() + text.size();
  RunAhead ahead;
  for (const char* p = text.data(); p != end;) {
    const Piece piece = NextPiece(steps_[step], p, end, ahead);
    if (piece.is_word) {
      Cut(step + 1, {p, static_cast<size_t>(piece.end - p)}, at_beginning && p == text.data(),
          model, out);
    }
    p = piece.end;
  }
}

void PreTokenizer::EncodeMarked(std::string_view word, bool at_beginning, const WordModel& model,
                                std::vector<TokenId>& out) const {
  const std::string& mark = metaspace_->pattern;
  std::string marked;
  marked.reserve(word.size() + word.size() / 2 + mark.size());
  for (const char c : word) {
    if (c == ' ') {
      marked += mark;
    } else {
      marked.push_back(c);
    }
  }
  const auto prepend = metaspace_->prepend;
  const bool wanted = prepend == PreTokenizerStep::Prepend::kAlways ||
                      (prepend == PreTokenizerStep::Prepend::kFirst && at_beginning);
  if (wanted && !marked.starts_with(mark)) marked.insert(0, mark);
  const std::string_view all = marked;
  for (size_t begin = 0; begin < all.size();) {
    const size_t next = metaspace_->split ? all.find(mark, begin + 1) : std::string_view::npos;
    const size_t end = std::min(next, all.size());
    model.Encode(all.substr(begin, end - begin), out);
    begin = end;
  }
}

std::string NameOfPreTokenizer(const TokenizerData& data) {
  if (!data.has_stages) return data.pre_tokenizer;
  const absl::StatusOr<PreTokenizer> made = PreTokenizer::Create(data);
  if (!made.ok() || !made->only_cuts()) return {};
  const bool composes =
      data.normalizer.size() == 1 && data.normalizer[0].kind == NormalizerStep::Kind::kNfc;
  if (!composes && !data.normalizer.empty()) return {};
  return std::string(NameOf({made->steps(), data.whole_words_first, composes}));
}

}  // namespace sluice
