// The long patterns of cut_step.h, one function each.
#include <algorithm>
#include <string_view>

#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/cut_step.h"
#include "tokenizer/unicode_sets.h"

namespace sluice {
namespace {

constexpr uint32_t Bit(CharKind kind) { return 1U << static_cast<uint32_t>(kind); }
constexpr uint32_t kLetters =
    Bit(CharKind::kUpper) | Bit(CharKind::kLower) | Bit(CharKind::kCaseless);
constexpr uint32_t kMarks = Bit(CharKind::kMark);
constexpr uint32_t kNumbers = Bit(CharKind::kNumber);
constexpr uint32_t kSpaces = Bit(CharKind::kSpace);
constexpr uint32_t kSigns = Bit(CharKind::kPunctuation) | Bit(CharKind::kSymbol);
constexpr uint32_t kRest = kSigns | kMarks | Bit(CharKind::kOther);
// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and [\p{Ll}\p{Lm}\p{Lo}\p{M}]
constexpr uint32_t kHeads = Bit(CharKind::kUpper) | Bit(CharKind::kCaseless) | kMarks;
constexpr uint32_t kTails = Bit(CharKind::kLower) | Bit(CharKind::kCaseless) | kMarks;

inline bool IsOf(Character c, uint32_t kinds) { return (Bit(c.kind) & kinds) != 0; }
inline bool IsNewline(char c) { return c == '\n' || c == '\r'; }

// The end of the run of `kinds` that begins at p.
inline const char* RunEnd(const char* p, const char* end, uint32_t kinds) {
  while (p < end) {
    const Character c = CharacterAt(p);
    if (!IsOf(c, kinds)) break;
    p += c.length;
  }
  return p;
}

struct SpaceRun {
  const char* end;
  const char* last;         // where its last character begins
  const char* newline_end;  // just after its last \r or \n; nullptr: has none
};

inline SpaceRun SpacesAt(const char* p, const char* end) {
  SpaceRun run = {p, p, nullptr};
  while (run.end < end) {
    const Character c = CharacterAt(run.end);
    if (c.kind != CharKind::kSpace) break;
    if (IsNewline(*run.end)) run.newline_end = run.end + 1;
    run.last = run.end;
    run.end += c.length;
  }
  return run;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at white space.
inline const char* SpaceWordEnd(const char* p, const char* end) {
  const SpaceRun run = SpacesAt(p, end);
  if (run.newline_end != nullptr) return run.newline_end;
  return run.end == end || run.last == p ? run.end : run.last;
}

// \s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s at white space.
const char* SpacesByPowers(const char* p, const char* end, RunAhead& ahead) {
  if (ahead.end == nullptr || p >= ahead.end) {
    const SpaceRun run = SpacesAt(p, end);
    if (run.newline_end != nullptr) return run.newline_end;
    ahead = {run.end, 0};
    for (const char* at = p; at < run.end; at += CharacterAt(at).length) ++ahead.left;
  }
  const int64_t most = std::max<int64_t>(ahead.end == end ? ahead.left : ahead.left - 1, 1);
  int64_t take = 512;
  while (take > most) take /= 2;
  for (; take > 0; --take, --ahead.left) p += CharacterAt(p).length;
  return p;
}

inline bool IsHan(const char* p) {
  size_t length = 0;
  return static_cast<uint8_t>(*p) >= 0xE2 && Contains(kHan, DecodeValidUtf8(p, length));
}

// '(?:s|t|m|d|re|ve|ll) at p, where p[0] is the apostrophe: its bytes, or 0.
inline size_t ContractionLength(const char* p, const char* end) {
  if (end - p < 2) return 0;
  const char c = p[1];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  if (end - p < 3) return 0;
  if ((c == 'r' || c == 'v') && p[2] == 'e') return 3;
  return c == 'l' && p[2] == 'l' ? 3 : 0;
}

// The same in any case. U+017F (long s) folds to s; no other character folds to one of the letters.
inline size_t CaselessContractionLength(const char* p, const char* end) {
  const std::string_view rest(p, static_cast<size_t>(end - p));
  if (rest.substr(1, 2) == "\xC5\xBF") return 3;
  char lower[3] = {'\'', 0, 0};
  for (size_t i = 1; i < 3 && i < rest.size(); ++i) {
    lower[i] = rest[i] >= 'A' && rest[i] <= 'Z' ? static_cast<char>(rest[i] + 32) : rest[i];
  }
  return ContractionLength(lower, lower + (rest.size() < 3 ? rest.size() : 3));
}

inline const char* DigitsEnd(const CutStep& step, const char* p, const char* end) {
  if (step.max_digits == 0) return RunEnd(p, end, kNumbers);
  for (int32_t digits = 0; digits < step.max_digits && p < end; ++digits) {
    const Character c = CharacterAt(p);
    if (c.kind != CharKind::kNumber) break;
    p += c.length;
  }
  return p;
}

// [heads]*[tails]+ or, failing that, [heads]+[tails]* at p; nullptr: neither. The greedy first run
// gives back as far as the last character that may also be a tail. without_han: neither has
// \p{Han}.
struct CaseWord {
  const char* end;    // nullptr: no match
  bool ends_in_tail;  // the first form
};

inline const char* TailsEnd(const char* p, const char* end, bool without_han) {
  if (!without_han) return RunEnd(p, end, kTails);
  while (p < end && IsOf(CharacterAt(p), kTails) && !IsHan(p)) p += CharacterAt(p).length;
  return p;
}

inline CaseWord CaseWordAt(const char* p, const char* end, bool without_han) {
  const char* last_both = nullptr;
  const char* head = p;
  while (head < end) {
    const Character c = CharacterAt(head);
    if (!IsOf(c, kHeads) || (without_han && IsHan(head))) break;
    if (IsOf(c, kTails)) last_both = head + c.length;
    head += c.length;
  }
  if (head < end && CharacterAt(head).kind == CharKind::kLower) {
    return {TailsEnd(head, end, without_han), true};
  }
  if (last_both != nullptr) return {last_both, true};
  return {head == p ? nullptr : head, false};
}

}  // namespace

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// digits_alone cuts the text at every \p{N} before: there a run of spaces sees the end of the text.
const char* ScanGpt2(const CutStep& step, const char* p, const char* end) {
  if (*p == '\'') {
    const size_t length = ContractionLength(p, end);
    if (length != 0) return p + length;
  }
  const char* body = p + (*p == ' ' ? 1 : 0);
  if (body == end) return end;
  const Character c = CharacterAt(body);
  if (IsOf(c, kLetters)) return RunEnd(body + c.length, end, kLetters);
  if (c.kind == CharKind::kNumber) {
    if (!step.digits_alone) return RunEnd(body + c.length, end, kNumbers);
    return body == p ? body + c.length : body;
  }
  if (c.kind != CharKind::kSpace) return RunEnd(body + c.length, end, kRest);
  const SpaceRun run = SpacesAt(p, end);
  if (run.end == end || run.last == p) return run.end;
  if (step.digits_alone && CharacterAt(run.end).kind == CharKind::kNumber) return run.end;
  return run.last;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}
// | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// marks_are_letters: [\p{L}\p{M}]+ for \p{L}+, and [^\s\p{L}\p{M}\p{N}]+.
// symbols_end_lines = false: [^\s\p{L}\p{N}\r\n]+ without [\r\n]* after it.
// cuts_contractions = false: without the first alternative.
// spaces_by_powers: white space as SpacesByPowers cuts it.
const char* ScanLlama3(const CutStep& step, const char* p, const char* end, RunAhead& ahead) {
  if (step.cuts_contractions && *p == '\'') {
    const size_t length = CaselessContractionLength(p, end);
    if (length != 0) return p + length;
  }
  const uint32_t letters = step.marks_are_letters ? kLetters | kMarks : kLetters;
  const Character first = CharacterAt(p);
  const char* second = p + first.length;
  if (IsOf(first, letters)) return RunEnd(second, end, letters);
  if (first.kind == CharKind::kNumber) return DigitsEnd(step, p, end);
  if (second < end && !IsNewline(*p) && IsOf(CharacterAt(second), letters)) {
    return RunEnd(second, end, letters);
  }
  const char* body = *p == ' ' ? second : p;
  const char* rest = RunEnd(body, end, kRest & ~letters);
  if (rest != body) {
    while (step.symbols_end_lines && rest < end && IsNewline(*rest)) ++rest;
    return rest;
  }
  return step.spaces_by_powers ? SpacesByPowers(p, end, ahead) : SpaceWordEnd(p, end);
}

// [^\r\n\p{L}\p{N}]?[heads]*[tails]+|[^\r\n\p{L}\p{N}]?[heads]+[tails]*|\p{N}{1,max_digits}
// | ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
// contractions: (?i:'s|'t|'re|'ve|'m|'ll|'d)? after each of the first two.
// han_apart: \p{Han}+ before all others, not in heads and tails, and [\r\n]* for [\r\n/]*.
const char* ScanO200k(const CutStep& step, const char* p, const char* end) {
  const Character first = CharacterAt(p);
  const bool han = step.han_apart;
  const char* second = p + first.length;
  if (han && IsHan(p)) {
    while (second < end && IsHan(second)) second += CharacterAt(second).length;
    return second;
  }
  if (first.kind == CharKind::kNumber) return DigitsEnd(step, p, end);
  CaseWord word = {nullptr, false};
  if (!IsOf(first, kLetters) && !IsNewline(*p)) word = CaseWordAt(second, end, han);
  if (!word.ends_in_tail && IsOf(first, kHeads | kTails)) {
    const CaseWord bare = CaseWordAt(p, end, han);
    if (bare.ends_in_tail || word.end == nullptr) word = bare;
  }
  if (word.end != nullptr) {
    const bool apostrophe = step.contractions && word.end < end && *word.end == '\'';
    return word.end + (apostrophe ? CaselessContractionLength(word.end, end) : 0);
  }
  const char* body = *p == ' ' ? second : p;
  const char* rest = RunEnd(body, end, kRest);
  if (rest != body) {
    while (rest < end && (IsNewline(*rest) || (*rest == '/' && !han))) ++rest;
    return rest;
  }
  return SpaceWordEnd(p, end);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}
// | ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+
const char* ScanPhrases(const char* p, const char* end) {
  if (*p == '\'') {
    const size_t length = CaselessContractionLength(p, end);
    if (length != 0) return p + length;
  }
  const auto is_letter = [end](const char* at) {
    return at < end && IsOf(CharacterAt(at), kLetters);
  };
  const Character first = CharacterAt(p);
  if (first.kind == CharKind::kNumber) return p + first.length;
  const char* second = p + first.length;
  if (is_letter(p) || (!IsNewline(*p) && is_letter(second))) {
    const char* word = is_letter(p) ? p : second;
    while (is_letter(word)) {
      word = RunEnd(word + CharacterAt(word).length, end, kMarks);
      if (word < end && *word == ' ' && is_letter(word + 1)) ++word;
    }
    return word;
  }
  const char* body = *p == ' ' ? second : p;
  const char* rest = RunEnd(body, end, kRest);
  if (rest == body) return SpaceWordEnd(p, end);
  return rest + (rest < end && (IsNewline(*rest) || *rest == '/') ? 1 : 0);
}

// [ASCII punctuation or symbol][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
// | ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// symbols_end_lines = false: without the first [\r\n]*, and [\r\n] for \s*[\r\n]+.
const char* ScanDeepSeek3(const CutStep& step, const char* p, const char* end) {
  const auto is_ascii_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  const Character first = CharacterAt(p);
  const char* second = p + first.length;
  if (first.length == 1 && IsOf(first, kSigns) && second < end && is_ascii_letter(*second)) {
    while (second < end && is_ascii_letter(*second)) ++second;
    return second;
  }
  if (IsOf(first, kLetters | kMarks)) return RunEnd(second, end, kLetters | kMarks);
  if (!IsNewline(*p) && !IsOf(first, kSigns) && second < end &&
      IsOf(CharacterAt(second), kLetters | kMarks)) {
    return RunEnd(second, end, kLetters | kMarks);
  }
  const char* body = *p == ' ' ? second : p;
  const char* rest = RunEnd(body, end, kSigns);
  if (rest != body) {
    while (step.symbols_end_lines && rest < end && IsNewline(*rest)) ++rest;
    return rest;
  }
  if (!IsOf(first, kSpaces)) return nullptr;
  if (step.symbols_end_lines) return SpaceWordEnd(p, end);
  if (IsNewline(*p)) return second;
  const SpaceRun run = SpacesAt(p, end);
  return run.end == end || run.last == p ? run.end : run.last;
}

}  // namespace sluice
