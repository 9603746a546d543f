#include "tokenizer/cut_step.h"

#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/unicode_sets.h"

namespace sluice {
namespace {

inline char32_t CodePointAt(const char* p, size_t& length) { return DecodeValidUtf8(p, length); }

// The letters that DeepSeek LLM's pattern lists: those of scripts with case.
constexpr CodePointRange kCasedScriptLetters[] = {
    {0x41, 0x5B},       {0x61, 0x7B},       {0xB5, 0xB6},       {0xC0, 0xD7},
    {0xD8, 0xF7},       {0xF8, 0x1BB},      {0x1BC, 0x1C0},     {0x1C4, 0x294},
    {0x295, 0x2B0},     {0x370, 0x374},     {0x376, 0x378},     {0x37B, 0x37E},
    {0x37F, 0x380},     {0x386, 0x387},     {0x388, 0x38B},     {0x38C, 0x38D},
    {0x38E, 0x3A2},     {0x3A3, 0x3F6},     {0x3F7, 0x482},     {0x48A, 0x530},
    {0x531, 0x557},     {0x10A0, 0x10C6},   {0x13A0, 0x13F6},   {0x13F8, 0x13FE},
    {0x1C90, 0x1CBB},   {0x1CBD, 0x1CC0},   {0x1D00, 0x1D2C},   {0x1D6B, 0x1D78},
    {0x1D79, 0x1D9B},   {0x1E00, 0x1F16},   {0x1F18, 0x1F1E},   {0x1F20, 0x1F46},
    {0x1F48, 0x1F4E},   {0x1F50, 0x1F58},   {0x1F59, 0x1F5A},   {0x1F5B, 0x1F5C},
    {0x1F5D, 0x1F5E},   {0x1F5F, 0x1F7E},   {0x1F80, 0x1FB5},   {0x1FB6, 0x1FBD},
    {0x1FBE, 0x1FBF},   {0x1FC2, 0x1FC5},   {0x1FC6, 0x1FCD},   {0x1FD0, 0x1FD4},
    {0x1FD6, 0x1FDC},   {0x1FE0, 0x1FED},   {0x1FF2, 0x1FF5},   {0x1FF6, 0x1FFD},
    {0x2102, 0x2103},   {0x2107, 0x2108},   {0x210A, 0x2114},   {0x2115, 0x2116},
    {0x2119, 0x211E},   {0x2124, 0x2125},   {0x2126, 0x2127},   {0x2128, 0x2129},
    {0x212A, 0x212E},   {0x212F, 0x2135},   {0x2139, 0x213A},   {0x213C, 0x2140},
    {0x2145, 0x214A},   {0x214E, 0x214F},   {0x2183, 0x2185},   {0x2C00, 0x2C7C},
    {0x2C7E, 0x2CE5},   {0x2CEB, 0x2CEF},   {0x2CF2, 0x2CF4},   {0xA640, 0xA66E},
    {0xA680, 0xA69C},   {0xA722, 0xA770},   {0xA771, 0xA788},   {0xA78B, 0xA78F},
    {0xAB70, 0xABC0},   {0xFB00, 0xFB07},   {0xFB13, 0xFB18},   {0xFF21, 0xFF3B},
    {0xFF41, 0xFF5B},   {0x10400, 0x10450}, {0x104B0, 0x104D4}, {0x104D8, 0x104FC},
    {0x10C80, 0x10CB3}, {0x10CC0, 0x10CF3}, {0x118A0, 0x118E0}, {0x1E900, 0x1E944},
};

constexpr CodePointRange kOldMarks[] = {
    {0x21, 0x30},     {0x3A, 0x7F},     {0x2018, 0x2020},
    {0x3000, 0x3003}, {0xFF01, 0xFF10}, {0xFF1A, 0xFF5F},
};

constexpr CodePointRange kBloomStops[] = {
    {0x21, 0x22},   {0x28, 0x2A},     {0x2C, 0x2D},     {0x2E, 0x2F},
    {0x3F, 0x40},   {0x7C, 0x7D},     {0x60C, 0x60D},   {0x6D4, 0x6D5},
    {0x964, 0x965}, {0x2026, 0x2027}, {0x3001, 0x3003}, {0xFF0C, 0xFF0D},
};
constexpr CodePointRange kCjkRanges[] = {{0x800, 0x9FA6}, {0xAC00, 0xD800}};
constexpr CodePointRange kCjkAndKanaRanges[] = {{0x3040, 0x3100}, {0x4E00, 0x9FA6}};

// Each a set whose runs are matches; the sets of a kind have nothing in common.
constexpr CodePointRange kHangulAndJamo[] = {{0x3131, 0x318F}, {0xAC00, 0xD7A4}};
constexpr CodePointRange kWidePunctuation[] = {
    {0x2014, 0x2015}, {0x2018, 0x201A}, {0x201C, 0x201E}, {0x2026, 0x2027}, {0x3001, 0x3040},
    {0xFE30, 0xFE50}, {0xFF01, 0xFF02}, {0xFF0C, 0xFF0D}, {0xFF1A, 0xFF1C}};
constexpr CodePointRange kBopomofo[] = {{0x3105, 0x3130}};
constexpr std::span<const CodePointRange> kYoutuSets[] = {kHangulAndJamo, kWidePunctuation,
                                                          kBopomofo, kCjkAndKanaRanges};
constexpr CodePointRange kAfmoeRanges[] = {
    {0xE40, 0xF00},   {0x1000, 0x10A0}, {0x1100, 0x1200}, {0x1780, 0x1800}, {0x2F00, 0x2FE0},
    {0x3040, 0x3100}, {0x3400, 0x4DC0}, {0x4E00, 0xA000}, {0xA9E0, 0xAA00}, {0xAA60, 0xAA80},
    {0xAC00, 0xD7B0}, {0xF900, 0xFB00}, {0xFF65, 0xFFA0}};
constexpr std::span<const CodePointRange> kAfmoeSets[] = {kAfmoeRanges};

void AppendUtf8(char32_t c, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3F)));
  };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

template <typename Predicate>
const char* RunWhile(const char* p, const char* end, Predicate&& holds) {
  while (p < end) {
    size_t length = 0;
    if (!holds(CodePointAt(p, length))) break;
    p += length;
  }
  return p;
}

const char* RunOf(std::span<const CodePointRange> set, const char* p, const char* end) {
  return RunWhile(p, end, [&](char32_t c) { return Contains(set, c); });
}

// The end of the run of that set which has the character at p; nullptr: none has.
const char* RunOfOne(std::span<const std::span<const CodePointRange>> sets, const char* p,
                     const char* end) {
  for (const std::span<const CodePointRange> set : sets) {
    const char* run = RunOf(set, p, end);
    if (run != p) return run;
  }
  return nullptr;
}

const char* RunOfKind(CharKind kind, const char* p, const char* end) {
  while (p < end && CharacterAt(p).kind == kind) p += CharacterAt(p).length;
  return p;
}

const char* RunOfClass(CharClass char_class, const char* p, const char* end) {
  while (p < end && ClassOf(CharacterAt(p).kind) == char_class) p += CharacterAt(p).length;
  return p;
}

bool IsSpace(const char* p) { return CharacterAt(p).kind == CharKind::kSpace; }

// p, or what follows it if it is white space and something follows.
const char* SkipOneSpace(const char* p, const char* end) {
  if (!IsSpace(p)) return p;
  const char* next = p + CharacterAt(p).length;
  return next < end ? next : p;
}

const char* OrNull(const char* run_end, const char* run_begin) {
  return run_end == run_begin ? nullptr : run_end;
}

// The byte alphabet writes 0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE as ²³¹¼½¾, which are \p{N}.
bool IsByteOfDigits(char c) {
  const auto b = static_cast<uint8_t>(c);
  return (b >= '0' && b <= '9') || b == 0xB2 || b == 0xB3 || b == 0xB9 || (b >= 0xBC && b <= 0xBE);
}

const char* ByteDigitsEnd(const char* p, const char* end) {
  while (p < end && IsByteOfDigits(*p)) ++p;
  return p;
}

const char* DigitTripleEnd(const char* p, const char* end) {
  if (end - p < 3) return nullptr;
  for (int i = 0; i < 3; ++i) {
    if (p[i] < '0' || p[i] > '9') return nullptr;
  }
  return p + 3;
}

const char* DigitsMatchEnd(const CutStep& step, const char* p, const char* end) {
  const char* digit = p;
  for (int32_t n = 0; digit < end && (step.max_digits == 0 || n < step.max_digits); ++n) {
    const Character c = CharacterAt(digit);
    if (c.kind != CharKind::kNumber) break;
    digit += c.length;
  }
  return OrNull(digit, p);
}

// The end of the match that begins at p, or nullptr. Failing costs O(1).
const char* MatchEnd(const CutStep& step, const char* p, const char* end) {
  const char* body = SkipOneSpace(p, end);
  switch (step.kind) {
    case CutKind::kDeepSeek3:
      return ScanDeepSeek3(step, p, end);
    case CutKind::kDigits:
      return DigitsMatchEnd(step, p, end);
    case CutKind::kAsciiDigitTriple:
      return DigitTripleEnd(p, end);
    case CutKind::kBytesOfDigits:
      return OrNull(ByteDigitsEnd(p, end), p);
    case CutKind::kNewline:
      return *p == '\n' || *p == '\r' ? p + 1 : nullptr;
    case CutKind::kSpaceLetters:
      return OrNull(RunOfClass(CharClass::kLetter, body, end), body);
    case CutKind::kSpacePunctuation:
      return OrNull(RunOfKind(CharKind::kPunctuation, body, end), body);
    case CutKind::kSpaceOldLetters:
      return OrNull(RunOf(kCasedScriptLetters, body, end), body);
    case CutKind::kSpaceOldMarks: {
      const char* run = OrNull(RunOf(kOldMarks, body, end), body);
      // U+3000 is white space and one of the marks: alone it is the marks' run.
      return run != nullptr || body == p ? run : OrNull(RunOf(kOldMarks, p, end), p);
    }
    case CutKind::kCjk:
      return OrNull(RunOf(kCjkRanges, p, end), p);
    case CutKind::kCjkAndKana:
      return OrNull(RunOf(kCjkAndKanaRanges, p, end), p);
    case CutKind::kYoutuScripts:
      return RunOfOne(kYoutuSets, p, end);
    case CutKind::kAfmoeScripts:
      return RunOfOne(kAfmoeSets, p, end);
    case CutKind::kBloom: {
      const char* from = *p == ' ' && p + 1 < end ? p + 1 : p;
      const auto inside = [](char32_t c) {
        return CharKinds().Of(c) != CharKind::kSpace && !Contains(kBloomStops, c);
      };
      return OrNull(RunWhile(from, end, inside), from);
    }
    default:
      return nullptr;
  }
}

// What lies before the next match is one piece, then the match.
Piece NextMatchOrGap(const CutStep& step, const char* p, const char* end) {
  const char* match_end = MatchEnd(step, p, end);
  if (match_end != nullptr) return {match_end, true};
  const bool bytes =
      step.kind == CutKind::kBytesOfDigits || step.kind == CutKind::kAsciiDigitTriple;
  const auto advance = [&] { p += bytes ? 1 : CharacterAt(p).length; };
  advance();
  while (p < end && MatchEnd(step, p, end) == nullptr) advance();
  return {p, true};
}

Piece Line(const char* p, const char* end) {
  const bool is_end = *p == '\n';
  while (p < end && (*p == '\n') == is_end) ++p;
  return {p, true};
}

Piece TrailingSpace(const char* begin, const char* end) {
  const char* trail = end;
  while (trail > begin) {
    const char* last = trail - 1;
    while (last > begin && (static_cast<uint8_t>(*last) & 0xC0) == 0x80) --last;
    if (!IsSpace(last)) break;
    trail = last;
  }
  return {trail > begin ? trail : end, true};
}

bool IsBertPunctuation(const char* p) {
  size_t length = 0;
  const char32_t c = CodePointAt(p, length);
  if (c < 0x80) {
    return kAsciiKinds[c] == CharKind::kPunctuation || kAsciiKinds[c] == CharKind::kSymbol;
  }
  return Contains(kBertPunctuation, c);
}

Piece Punctuation(bool runs, const char* p, const char* end) {
  const bool punctuation = IsBertPunctuation(p);
  do {
    p += CharacterAt(p).length;
  } while (p < end && IsBertPunctuation(p) == punctuation && (runs || !punctuation));
  return {p, true};
}

Piece BertWord(const char* p, const char* end) {
  if (IsSpace(p)) return {RunOfKind(CharKind::kSpace, p, end), false};
  if (IsBertPunctuation(p)) return {p + CharacterAt(p).length, true};
  while (p < end && !IsSpace(p) && !IsBertPunctuation(p)) p += CharacterAt(p).length;
  return {p, true};
}

Piece SpaceSplit(const char* p, const char* end) {
  const bool space = IsSpace(p);
  while (p < end && IsSpace(p) == space) p += CharacterAt(p).length;
  return {p, !space};
}

Piece WordOrSymbols(const char* p, const char* end) {
  if (IsSpace(p)) return {RunOfKind(CharKind::kSpace, p, end), false};
  const auto is_word = [](const char* at) {
    size_t length = 0;
    return Contains(kWordCharacters, CodePointAt(at, length));
  };
  const bool word = is_word(p);
  while (p < end && !IsSpace(p) && is_word(p) == word) p += CharacterAt(p).length;
  return {p, true};
}

// As the pattern writes a range: one or two characters, or the first and the last.
void AppendRange(const CodePointRange& range, std::string& out) {
  AppendUtf8(range.begin, out);
  if (range.end - range.begin > 2) out.push_back('-');
  if (range.end - range.begin > 1) AppendUtf8(range.end - 1, out);
}

}  // namespace

std::string OldLettersExpression() {
  std::string out = "\\s?[";
  for (const CodePointRange& range : kCasedScriptLetters) AppendRange(range, out);
  return out + "]+";
}

Piece NextPiece(const CutStep& step, const char* begin, const char* end, RunAhead& ahead) {
  switch (step.kind) {
    case CutKind::kGpt2:
      return {ScanGpt2(step, begin, end), true};
    case CutKind::kLlama3:
      return {ScanLlama3(step, begin, end, ahead), true};
    case CutKind::kO200k:
      return {ScanO200k(step, begin, end), true};
    case CutKind::kPhrases:
      return {ScanPhrases(begin, end), true};
    case CutKind::kLines:
      return Line(begin, end);
    case CutKind::kBeforeTriples:
      return NextBeforeTriples(step, begin, end, ahead);
    case CutKind::kTriplesFromEnd:
      return NextTriple(step, begin, end, ahead);
    case CutKind::kTrailingSpace:
      return TrailingSpace(begin, end);
    case CutKind::kPunctuationRun:
      return Punctuation(true, begin, end);
    case CutKind::kPunctuationEach:
      return Punctuation(false, begin, end);
    case CutKind::kBertWords:
      return BertWord(begin, end);
    case CutKind::kSpaceSplit:
      return SpaceSplit(begin, end);
    case CutKind::kWordOrSymbols:
      return WordOrSymbols(begin, end);
    default:
      return NextMatchOrGap(step, begin, end);
  }
}

}  // namespace sluice
