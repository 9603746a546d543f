#include "tokenizer/pre_tokenizer.h"

#include <array>
#include <cstddef>

#include "base/utf8.h"
#include "tokenizer/char_class.h"

namespace sluice {
namespace {

// Names as GGUF files carry them. "default" is what a byte-level tokenizer without a pattern of its
// own uses: GPT-2's.
constexpr PreTokenizer kPreTokenizers[] = {
    {"default", PatternFamily::kGpt2, false, 0, false},
    {"gpt-2", PatternFamily::kGpt2, false, 0, false},
    {"llama-bpe", PatternFamily::kLlama3, false, 3, true},
    {"llama-v3", PatternFamily::kLlama3, false, 3, true},
    {"llama3", PatternFamily::kLlama3, false, 3, true},
    {"qwen2", PatternFamily::kLlama3, false, 1, false},
    {"smollm", PatternFamily::kGpt2, true, 0, false},
};

constexpr std::array<CharClass, 128> kAsciiClasses = [] {
  std::array<CharClass, 128> classes{};
  for (size_t c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool number = c >= '0' && c <= '9';
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    classes[c] = letter   ? CharClass::kLetter
                 : number ? CharClass::kNumber
                 : space  ? CharClass::kSpace
                          : CharClass::kOther;
  }
  return classes;
}();

struct Character {
  CharClass char_class;
  size_t length;  // bytes
};

inline Character CharacterAt(const char* p) {
  const auto byte = static_cast<uint8_t>(*p);
  if (byte < 0x80) return {kAsciiClasses[byte], 1};
  static const CharClassTable& classes = CharClasses();
  size_t length = 0;
  const char32_t c = DecodeValidUtf8(p, length);
  return {classes.Of(c), length};
}

// The end of the run of `char_class` that begins at p.
inline const char* RunEnd(const char* p, const char* end, CharClass char_class) {
  while (p < end) {
    const Character c = CharacterAt(p);
    if (c.char_class != char_class) break;
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
    if (c.char_class != CharClass::kSpace) break;
    if (*run.end == '\n' || *run.end == '\r') run.newline_end = run.end + 1;
    run.last = run.end;
    run.end += c.length;
  }
  return run;
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

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// digits_alone cuts the text at every \p{N} before: there a run of spaces sees the end of the text.
inline const char* Gpt2WordEnd(const PreTokenizer& pattern, const char* p, const char* end) {
  if (*p == '\'') {
    const size_t length = ContractionLength(p, end);
    if (length != 0) return p + length;
  }
  const char* body = p + (*p == ' ' ? 1 : 0);
  if (body == end) return end;
  const Character c = CharacterAt(body);
  if (c.char_class != CharClass::kSpace) {
    if (c.char_class == CharClass::kNumber && pattern.digits_alone) {
      return body == p ? body + c.length : body;
    }
    return RunEnd(body + c.length, end, c.char_class);
  }
  const SpaceRun run = SpacesAt(p, end);
  if (run.end == end || run.last == p) return run.end;
  if (pattern.digits_alone && CharacterAt(run.end).char_class == CharClass::kNumber) return run.end;
  return run.last;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}
// | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
inline const char* Llama3WordEnd(const PreTokenizer& pattern, const char* p, const char* end) {
  if (*p == '\'') {
    const size_t length = CaselessContractionLength(p, end);
    if (length != 0) return p + length;
  }
  const Character first = CharacterAt(p);
  const char* second = p + first.length;
  if (first.char_class == CharClass::kLetter) return RunEnd(second, end, CharClass::kLetter);
  if (first.char_class == CharClass::kNumber) {
    for (int32_t digits = 1; digits < pattern.max_digits && second < end; ++digits) {
      const Character c = CharacterAt(second);
      if (c.char_class != CharClass::kNumber) break;
      second += c.length;
    }
    return second;
  }
  if (second < end && *p != '\r' && *p != '\n' &&
      CharacterAt(second).char_class == CharClass::kLetter) {
    return RunEnd(second, end, CharClass::kLetter);
  }
  const char* body = *p == ' ' ? second : p;
  const char* rest = RunEnd(body, end, CharClass::kOther);
  if (rest != body) {
    while (rest < end && (*rest == '\r' || *rest == '\n')) ++rest;
    return rest;
  }
  const SpaceRun run = SpacesAt(p, end);
  if (run.newline_end != nullptr) return run.newline_end;
  return run.end == end || run.last == p ? run.end : run.last;
}

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  for (const PreTokenizer& pattern : kPreTokenizers) {
    if (pattern.name == name) return &pattern;
  }
  return nullptr;
}

std::string PreTokenizerNames() {
  std::string names;
  for (const PreTokenizer& pattern : kPreTokenizers) {
    if (!names.empty()) names += ", ";
    names += pattern.name;
  }
  return names;
}

const char* WordEnd(const PreTokenizer& pattern, const char* begin, const char* end) {
  return pattern.family == PatternFamily::kGpt2 ? Gpt2WordEnd(pattern, begin, end)
                                                : Llama3WordEnd(pattern, begin, end);
}

}  // namespace sluice
