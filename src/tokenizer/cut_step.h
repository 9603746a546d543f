// One step of cutting text into words, as one regular expression of a pre-tokenizer does it.
// Written out by hand instead of run by a regular expression engine: each step looks at a character
// a small fixed number of times, so hostile text costs no more than other text (docs/adr/0007 has
// the figures). The expression of each kind stands at its function in the .cc files.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

enum class CutKind : uint8_t {
  // Every character is part of a match.
  kGpt2,
  kLlama3,
  kO200k,
  kPhrases,  // EXAONE MoE's words, which go on over single spaces
  kLines,    // [^\n]+|[\n]+
  // Matches, and what lies between them.
  kDeepSeek3,
  kDigits,            // \p{N}{1,max_digits}
  kAsciiDigitTriple,  // [0-9][0-9][0-9]
  kBytesOfDigits,     // runs of bytes that the byte alphabet writes as \p{N}
  kNewline,           // [\r\n]
  kSpaceLetters,      // \s?\p{L}+
  kSpacePunctuation,  // \s?\p{P}+
  kSpaceOldLetters,   // \s? and letters of scripts with case, as DeepSeek LLM lists them
  kSpaceOldMarks,     // \s?[!-/:-~！-／：-～‘-‟　-。]+
  kTrailingSpace,     // \s+$
  kCjk,               // [一-龥ࠀ-一가-퟿]+
  kCjkAndKana,        // [一-龥぀-ゟ゠-ヿ]+
  kBeforeTriples,     // (?=(\d{3})+(?!\d)): nothing is matched, the text is cut there
  kTriplesFromEnd,    // \d{1,3}(?=(?:\d{3})*\b): three digits each, counted from the run's end
  kYoutuScripts,      // runs of Hangul, of wide punctuation, of Bopomofo, of CJK and kana
  kAfmoeScripts,      // runs of scripts without spaces between words
  kBloom,             // ' ?[^(\s|.,!?…。，、।۔،)]+'
  // As the tokenizers package defines them without an expression.
  kPunctuationRun,   // BERT's punctuation, runs of it
  kPunctuationEach,  // each alone
  kBertWords,        // the same, and white space is left out
  kSpaceSplit,       // white space is left out
  kWordOrSymbols,    // \w+|[^\w\s]+, the rest is left out
};

struct CutStep {
  CutKind kind = CutKind::kGpt2;
  int32_t max_digits = 0;          // 0: any number of them
  bool digits_alone = false;       // kGpt2: each \p{N} is cut out first
  bool contractions = false;       // kO200k: 's, 't, ... stay with the word before
  bool marks_are_letters = false;  // kLlama3: \p{M} counts as \p{L} inside words
  bool symbols_end_lines =
      true;  // kLlama3, kDeepSeek3: line ends stay with the symbols before them

  bool cuts_contractions = true;  // kLlama3: 's, 't, ... are words of their own
  bool spaces_by_powers = false;  // kLlama3: white space in words of 512, 256, ..., 2, 1
  bool han_apart = false;         // kO200k: runs of \p{Han} are words, '/' ends none
  bool any_numbers = false;       // kTriplesFromEnd: \p{N}, whatever follows

  friend bool operator==(const CutStep&, const CutStep&) = default;
};

struct Piece {
  const char* end;
  bool is_word;  // false: left out
};

// What one text's scan has found out about a run that lies ahead, so that none is counted twice.
// Empty where a text begins; its pieces are asked for in their order.
struct RunAhead {
  const char* end = nullptr;
  int64_t left = 0;  // its characters up to there
};

// The piece that begins at `begin`; begin < end. [begin, end) is valid UTF-8 and, as the patterns
// look ahead, the rest of the text. The piece's end is in (begin, end], between characters.
[[nodiscard]] Piece NextPiece(const CutStep& step, const char* begin, const char* end,
                              RunAhead& ahead);

// The expression of kSpaceOldLetters, as tokenizer.json files write it.
[[nodiscard]] std::string OldLettersExpression();

// The tiling kinds and kDeepSeek3, in word_scanners.cc. ScanDeepSeek3 returns nullptr where no
// match begins.
[[nodiscard]] const char* ScanGpt2(const CutStep& step, const char* p, const char* end);
[[nodiscard]] const char* ScanLlama3(const CutStep& step, const char* p, const char* end,
                                     RunAhead& ahead);
[[nodiscard]] const char* ScanO200k(const CutStep& step, const char* p, const char* end);
[[nodiscard]] const char* ScanPhrases(const char* p, const char* end);
[[nodiscard]] const char* ScanDeepSeek3(const CutStep& step, const char* p, const char* end);

// kBeforeTriples and kTriplesFromEnd, in digit_groups.cc.
[[nodiscard]] Piece NextBeforeTriples(const CutStep& step, const char* p, const char* end,
                                      RunAhead& ahead);
[[nodiscard]] Piece NextTriple(const CutStep& step, const char* p, const char* end,
                               RunAhead& ahead);

}  // namespace sluice
