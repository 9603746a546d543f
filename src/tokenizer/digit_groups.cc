// Digits in threes counted from the end of their run, which is looked for once a run.
#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/cut_step.h"
#include "tokenizer/unicode_sets.h"

namespace sluice {
namespace {

bool IsDigit(const CutStep& step, const char* p) {
  const auto byte = static_cast<uint8_t>(*p);
  if (byte < 0x80) return byte >= '0' && byte <= '9';
  if (CharacterAt(p).kind != CharKind::kNumber) return false;
  size_t length = 0;
  return step.any_numbers || Contains(kDecimalDigits, DecodeValidUtf8(p, length));
}

// Whether \b is not between a digit and what begins at p. Not quite \w of other expressions: this
// engine's leaves the joiners out and takes Latin-1's superscripts and fractions in.
bool GoesOn(const char* p, const char* end) {
  if (p == end) return false;
  size_t length = 0;
  const char32_t c = DecodeValidUtf8(p, length);
  if (c == 0x200C || c == 0x200D) return false;
  if (c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE)) return true;
  return Contains(kWordCharacters, c);
}

// Makes `ahead` the run of the digit at p.
void LookAhead(const CutStep& step, const char* p, const char* end, RunAhead& ahead) {
  if (ahead.end != nullptr && p < ahead.end) return;
  ahead.left = 0;
  while (p < end && IsDigit(step, p)) {
    p += CharacterAt(p).length;
    ++ahead.left;
  }
  ahead.end = p;
}

}  // namespace

Piece NextBeforeTriples(const CutStep& step, const char* p, const char* end, RunAhead& ahead) {
  const char* const begin = p;
  while (p < end) {
    if (IsDigit(step, p)) {
      LookAhead(step, p, end, ahead);
      if (p != begin && ahead.left % 3 == 0) break;
      --ahead.left;
    }
    p += CharacterAt(p).length;
  }
  return {p, true};
}

Piece NextTriple(const CutStep& step, const char* p, const char* end, RunAhead& ahead) {
  const char* const begin = p;
  while (p < end) {
    if (!IsDigit(step, p)) {
      p += CharacterAt(p).length;
      continue;
    }
    const bool is_new = ahead.end == nullptr || p >= ahead.end;
    LookAhead(step, p, end, ahead);
    if (!is_new || step.any_numbers || !GoesOn(ahead.end, end)) break;
    p = ahead.end;  // no match in a run that a word goes on after
  }
  if (p != begin) return {p, true};
  for (int64_t take = (ahead.left - 1) % 3 + 1; take > 0; --take, --ahead.left) {
    p += CharacterAt(p).length;
  }
  return {p, true};
}

}  // namespace sluice
